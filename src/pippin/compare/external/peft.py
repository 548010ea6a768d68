"""A PEFT adapter's folder: low-rank weights and the name of the base model that they belong to.

Source: PEFT, ``PeftConfig`` and ``save_pretrained``
"""

from __future__ import annotations

from pathlib import Path

from pippin.compare import folders
from pippin.compare.outside import External, Kind
from pippin.core.errors import InputError


def detect(path: Path) -> bool:
    return folders.is_model(path) and (folders.weights_folder(path) / folders.ADAPTER).is_file()


def read(path: Path) -> External:
    papers = folders.read_papers(path)
    if not papers.adapter.get("base_model_name_or_path"):
        raise InputError(
            "the adapter does not name its base model", where=str(papers.folder / folders.ADAPTER),
            expected="base_model_name_or_path", mend="Add the key: a path, or ORG/NAME of the hub",
        )  # fmt: skip
    return External("peft", str(papers.folder), manifest=folders.declared(papers, "peft"), notes=papers.notes)


EXTERNAL = Kind(detect, read, "policy", over=("transformers",))
