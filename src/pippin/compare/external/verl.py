"""A checkpoint of verl: the Hugging Face folder or the adapter deep inside ``global_step_N``.

verl saves shards as pickles; a folder that has nothing else is refused with the command that merges them.

Source: verl, ``utils/checkpoint/fsdp_checkpoint_manager.py``, ``checkpoint_handler.py`` and ``model_merger``
"""

from __future__ import annotations

import re
from pathlib import Path

from pippin.compare import folders
from pippin.compare.outside import External, Json, Kind
from pippin.core.errors import InputError

_LATEST = "latest_checkpointed_iteration.txt"
_STEP = re.compile(r"global_step_(\d+)")
_INSIDE = ("huggingface", "lora_adapter", "fsdp_config.json")


def detect(path: Path) -> bool:
    return path.is_dir() and bool(_steps(path) or _parts(path))


def read(path: Path) -> External:
    steps, notes = _steps(path), []
    place = path
    if steps:
        latest = folders.text_of(path / _LATEST).strip()
        place = next((p for p in steps if p.name == f"global_step_{latest}"), steps[-1])
        notes.append(f"the checkpoint {place.name} of {len(steps)} was taken")
    parts = _parts(place)
    if not parts:
        raise InputError("a checkpoint of verl without an actor", where=str(place),
                         expected=f"a folder with {' or '.join(_INSIDE)}")  # fmt: skip
    found = [part / name for part in parts for name in ("lora_adapter", "huggingface")]
    policy = next((p for p in found if any(p.glob("*.safetensors"))), None)
    if policy is None:
        raise InputError(
            "this checkpoint of verl has its weights in pickled shards alone", where=str(parts[0]),
            expected="huggingface/model.safetensors or lora_adapter/",
            mend=f"Merge them where you trust them: python -m verl.model_merger merge --backend {_backend(parts[0])} "
            f"--local_dir {parts[0]} --target_dir MERGED, and name MERGED; or train with hf_model in save_contents",
        )  # fmt: skip
    papers = folders.read_papers(policy)
    step = next((found[1] for p in (place, *place.parents[:2]) if (found := _STEP.fullmatch(p.name))), None)
    manifest: Json = folders.declared(papers, "verl")
    manifest |= {"method.verl.steps": int(step)} if step else {}
    return External("verl", str(policy), manifest=manifest, notes=(*notes, *papers.notes))


def _backend(part: Path) -> str:
    return "megatron" if (part / "dist_ckpt").is_dir() else "fsdp"


def _steps(path: Path) -> list[Path]:
    """``global_step_N`` folders by N."""
    found = [(int(m[1]), p) for p in path.glob("global_step_*") if p.is_dir() and (m := _STEP.fullmatch(p.name))]
    return [p for _, p in sorted(found)]


def _parts(place: Path) -> list[Path]:
    """Where a model lies in a checkpoint: the actor's folder, or the checkpoint itself (supervised training)."""
    return [p for p in (place / "actor", place) if any((p / name).exists() for name in _INSIDE)]


EXTERNAL = Kind(detect, read, "policy", over=("trl", "peft", "transformers"))
