"""Checkpoints of the loop: weights, optimiser, state, position and annotations, as safetensors and JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pippin.align import distributed
from pippin.core.run import Ledger, write_json

if TYPE_CHECKING:
    from pippin.align.loop import Progress
    from pippin.align.networks import Networks
    from pippin.align.shapes import Example
    from pippin.align.sources import Context

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Notes:
    """Annotations by name: one flat array over the response tokens of the rows that had it, and the row numbers."""

    values: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Notes:
        values, rows = {}, {}
        for name in sorted(set().union(*(e.token for e in examples))):
            have = [i for i, e in enumerate(examples) if name in e.token]
            rows[name] = np.array(have, dtype=np.int64)
            values[name] = np.concatenate([examples[i].token[name] for i in have])
        return cls(values, rows)

    def apply(self, examples: Sequence[Example]) -> list[Example]:
        out = list(examples)
        for name, flat in self.values.items():
            start = 0
            for i in self.rows[name].tolist():
                out[i] = out[i].with_tokens(**{name: flat[start : start + out[i].length]})
                start += out[i].length
        return out


class Keeper:
    """Copies, saves and restores the trained networks of one run. ``folder`` None: memory only."""

    def __init__(self, folder: Path | None, networks: Networks, optimiser: torch.optim.Optimizer) -> None:
        self.folder, self.networks, self.optimiser = folder, networks, optimiser
        self.best: Weights | None = None
        self.last_saved = 0

    def copy(self) -> Weights:
        """The trained weights as they are now, and buffers; what is frozen needs no copy."""
        return {
            f"{name}.{key}": value.detach().clone()
            for name, module in self.networks.trained().items()
            for key, value in module.state_dict().items()
            if key not in _frozen(module)
        }

    def restore(self, weights: Weights) -> None:
        for name, module in self.networks.trained().items():
            prefix = f"{name}."
            own = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
            absent = set(module.load_state_dict(own, strict=False).missing_keys) - _frozen(module)
            if absent:
                raise ValueError(f"the checkpoint lacks {sorted(absent)[:3]} of {name}")

    def remember_best(self) -> None:
        self.best = self.copy()

    def restore_best(self) -> None:
        if self.best is not None:
            self.restore(self.best)

    def save(self, progress: Progress, context: Context, examples: Sequence[Example] | None, *, every: int) -> None:
        """A checkpoint, where one is due. Written beside and renamed, so that a crash leaves the one before it."""
        if self.folder is None or every <= 0 or progress.step - self.last_saved < every or not distributed.leads():
            return
        from safetensors.numpy import save_file as save_arrays
        from safetensors.torch import save_file

        final = self.folder / f"checkpoint-{progress.step}"
        part = self.folder / f".checkpoint-{progress.step}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(_owned(self.copy()), part / "weights.safetensors")
        if self.best is not None:
            save_file(_owned(self.best), part / "best.safetensors")
        state = self.optimiser.state_dict()["state"]
        moments = {f"{index}.{key}": torch.as_tensor(value) for index, s in state.items() for key, value in s.items()}
        save_file(_owned(moments), part / "optimizer.safetensors")
        if examples is not None:
            notes = Notes.of(examples)
            arrays = {f"values.{k}": v for k, v in notes.values.items()} | {
                f"rows.{k}": v for k, v in notes.rows.items()
            }
            save_arrays(arrays, part / "notes.safetensors")
        write_json(part / "state.json", {"progress": asdict(progress), "ledger": asdict(context.ledger)})
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        for old in self.folder.glob("checkpoint-*"):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        self.last_saved = progress.step

    def resume(self, progress: Progress, context: Context) -> Notes | None:
        """Continue from the newest checkpoint, if there is one: everything is put back as it was."""
        found = sorted(self.folder.glob("checkpoint-*"), key=_number) if self.folder is not None else []
        if not found:
            return None
        from safetensors.numpy import load_file as load_arrays
        from safetensors.torch import load_file

        place = found[-1]
        self.restore(load_file(place / "weights.safetensors"))
        if (place / "best.safetensors").exists():
            self.best = load_file(place / "best.safetensors")
        moments = load_file(place / "optimizer.safetensors")
        groups = self.optimiser.state_dict()["param_groups"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in moments.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        stored = json.loads((place / "state.json").read_text())
        for key, value in stored["progress"].items():
            setattr(progress, key, value)
        context.ledger = Ledger(**stored["ledger"])
        self.last_saved = progress.step
        if not (place / "notes.safetensors").exists():
            return None
        arrays = load_arrays(place / "notes.safetensors")
        return Notes(
            {k[7:]: v for k, v in arrays.items() if k.startswith("values.")},
            {k[5:]: v for k, v in arrays.items() if k.startswith("rows.")},
        )


def _frozen(module: torch.nn.Module) -> set[str]:
    return {key for key, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _owned(weights: Weights) -> Weights:
    """Contiguous copies: safetensors refuses tensors that share memory, as tied embeddings do."""
    return {k: v.detach().clone().contiguous() for k, v in weights.items()}


def _number(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])
