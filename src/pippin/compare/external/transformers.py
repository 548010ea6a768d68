"""A model folder as transformers saves it, a trainer's output folder with checkpoints in it, or a GGUF file.

Source: transformers, ``save_pretrained`` and ``Trainer``
"""

from __future__ import annotations

from pathlib import Path

from pippin.compare import folders
from pippin.compare.outside import External, Kind

_SETTINGS = {"train_batch_size": "per_device_train_batch_size", "num_epochs": "num_train_epochs"}


def detect(path: Path) -> bool:
    return path.suffix == ".gguf" if path.is_file() else folders.is_model(path)


def read(path: Path) -> External:
    if path.is_file():
        return External("transformers", str(path))
    papers = folders.read_papers(path)
    manifest = folders.declared(papers, "transformers")
    manifest |= {f"method.transformers.{_SETTINGS.get(k, k)}": v for k, v in papers.settings.items()}
    notes = papers.notes
    if papers.datasets:  # the card names them, and not what they were used for
        notes += (f"the model card names the data {papers.datasets}",)
    return External("transformers", str(papers.folder), manifest=manifest, notes=notes)


EXTERNAL = Kind(detect, read, "policy")
