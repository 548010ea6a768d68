"""A small study in the world that the tests of this folder vary."""

from copy import deepcopy
from pathlib import Path

import yaml

from pippin.compare.analyse import analyse
from pippin.compare.cells import in_order
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.compare.work import run_cell
from pippin.core.store import Store

BATCH = {"per_device_train_batch_size": 16, "learning_rate": 0.001}

SMALL = {
    "question": "Does it run?",
    "base": "world/base",
    "prompts": {"train": "world/train?n=12", "dev": "world/dev?n=6&seed=0", "test": "world/heldout?n=16&seed=3"},
    "stages": {
        "sft": {"method": "sft", "data": "world/demonstrations?n=64"},
        "feedback": {"respond": "$sft", "n": 3, "judge": "simulated/world", "max_tokens": 16},
    },
    "axes": {"method": {"sft": {"use": "$sft"}, "dpo": {"method": "dpo"}, "ipo_like": {"method": "dpo"}}},
    "settings": {
        "sft": BATCH,
        "dpo": {**BATCH, "model": "$sft", "data": "$feedback", "max_steps": 2},
        "ipo_like": {"beta": 0.5},
    },
    "judge": "gold",
    "seeds": [0],
    "baseline": "sft",
    "evaluation": {"n": 2, "max_tokens": 16},
}


def varied(**changes):
    """A copy of SMALL with some top-level keys replaced; a mapping is merged into the one that stands there."""
    out = deepcopy(SMALL)
    for key, value in changes.items():
        old = out.get(key)
        out[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def write(folder: Path, study: dict, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def run_here(path: Path, store: Store):
    """The results of a study, its cells run in this process."""
    planned = plan(read_study(path))
    for key in in_order(planned.cells):
        run_cell(planned.cells[key], store)
    return analyse(planned, store, "pippin compare study.yaml")
