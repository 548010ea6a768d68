"""What an unfinished run keeps, so that the same call goes on where it stopped, as safetensors and JSON.

================ ======================================================================================================
in the folder    what it holds
================ ======================================================================================================
unfinished.json  what the run was made of: another run does not go on from here (:func:`claim`)
checkpoint-STEP  weights, moments of the optimiser, state, position; in the middle of a round its annotations so far
rounds           the examples of every round since the last checkpoint that cost something: drawn, judged, annotated
================ ======================================================================================================

A round follows from the weights it began with, so from the last checkpoint on the stored rounds are trained on again
and nothing is drawn or judged twice. A finished run leaves none of these (:func:`clear`).
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pippin.align import distributed
from pippin.align.shapes import Batch, Example
from pippin.core.errors import InputError
from pippin.core.run import Ledger, peak_memory, replacing, synchronise, write_json
from pippin.core.types import plain

if TYPE_CHECKING:
    from pippin.align.loop import Pool, Progress
    from pippin.align.networks import Networks
    from pippin.align.sources import Context

Weights = dict[str, torch.Tensor]
Json = dict[str, Any]

MADE_OF = "unfinished.json"
ROUNDS = "rounds"
_WEIGHTS, _STATE = "weights.safetensors", "state.json"


@dataclass(frozen=True)
class Notes:
    """Annotations by name: one flat array over the response tokens of the rows that had it, and the row numbers."""

    values: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    window: Weights = field(default_factory=dict)  # metrics of the steps since the last logged line

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

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {f"values.{k}": v for k, v in self.values.items()} | {f"rows.{k}": v for k, v in self.rows.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], window: Weights | None = None) -> Notes:
        values = {k.removeprefix("values."): v for k, v in arrays.items() if k.startswith("values.")}
        rows = {k.removeprefix("rows."): v for k, v in arrays.items() if k.startswith("rows.")}
        return cls(values, rows, window or {})


@dataclass(frozen=True)
class Round:
    """A round before its first step: its batch, figures for the log, and the state and ledger that go with it."""

    batch: Batch
    figures: dict[str, float]
    state: Json
    ledger: Ledger


def claim(folder: Path, made_of: Mapping[str, Any]) -> None:
    """Note what the run in this folder is made of.

    Raises:
        InputError: the folder holds an unfinished run that was made of something else.
    """
    place = folder / MADE_OF
    if checkpoints(folder) or any((folder / ROUNDS).glob("*.json")):
        before = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        now = json.loads(json.dumps(dict(made_of)))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise InputError(
                    f"the folder holds another unfinished run ({key} differs)", where=str(folder),
                    found=before.get(key), expected=now.get(key),
                    mend="Put it back, name another folder, or remove this one",
                )  # fmt: skip
    elif distributed.leads():
        write_json(place, dict(made_of))


def clear(folder: Path) -> None:
    """Remove what is for resuming only: the run is whole. Folders that others call checkpoint-STEP stay."""
    for place in (*checkpoints(folder), *folder.glob(".checkpoint-*.part"), folder / ROUNDS):
        shutil.rmtree(place, ignore_errors=True)
    (folder / MADE_OF).unlink(missing_ok=True)


def position(folder: Path) -> tuple[int, int]:
    """Steps done, and lines of metrics written, at the newest checkpoint; (-1, 0) where there is none."""
    found = checkpoints(folder)
    progress = _read(found[-1] / _STATE)["progress"] if found else {"step": -1, "lines": 0}
    return int(progress["step"]), int(progress["lines"])


def checkpoints(folder: Path) -> list[Path]:
    """This project's own, the newest last."""
    own = [c for c in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", c.name) and (c / _STATE).is_file()]
    return sorted((c for c in own if (c / _WEIGHTS).is_file()), key=lambda c: int(c.name.rpartition("-")[2]))


class Keeper:
    """Copies, saves and restores the trained networks of one run. ``folder`` None: memory only."""

    def __init__(self, folder: Path | None, networks: Networks, optimiser: torch.optim.Optimizer) -> None:
        self.folder, self.networks, self.optimiser = folder, networks, optimiser
        self.best: Weights | None = None
        self.last_saved = 0
        self.started = time.monotonic()

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

    def save(self, progress: Progress, context: Context, pool: Pool | None, *, every: int) -> None:
        """A checkpoint, where one is due; ``pool`` in the middle of a round. Written beside and renamed, so that a
        crash leaves the one before it."""
        if self.folder is None or every <= 0 or progress.step - self.last_saved < every or not distributed.leads():
            return
        from safetensors.numpy import save_file as save_arrays
        from safetensors.torch import save_file

        final = self.folder / f"checkpoint-{progress.step}"
        part = self.folder / f".checkpoint-{progress.step}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(_owned(self.copy()), part / _WEIGHTS)
        if self.best is not None:
            save_file(_owned(self.best), part / "best.safetensors")
        state = self.optimiser.state_dict()["state"]
        moments = {f"{index}.{key}": torch.as_tensor(value) for index, s in state.items() for key, value in s.items()}
        save_file(_owned(moments), part / "optimizer.safetensors")
        if pool is not None:
            save_arrays(Notes.of(pool.examples if pool.lazy else ()).to_arrays(), part / "notes.safetensors")
            window = {name: torch.cat(values) for name, values in pool.window.items() if values}
            save_file(_owned(window), part / "window.safetensors")
        ledger = replace(context.ledger)
        ledger.add(wall_clock=time.monotonic() - self.started, peak_memory=peak_memory())
        write_json(part / _STATE, {"progress": asdict(progress), "ledger": asdict(ledger)})
        for file in part.iterdir():
            synchronise(file)
        synchronise(part)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        synchronise(self.folder)
        for old in checkpoints(self.folder):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        for old in (self.folder / ROUNDS).glob("*.*"):
            if int(old.stem) < progress.round:
                old.unlink()
        self.last_saved = progress.step

    def resume(self, progress: Progress, context: Context) -> Notes | None:
        """Continue from the newest checkpoint, if there is one: everything is put back as it was.

        Raises:
            InputError: the checkpoint cannot be read.
        """
        found = checkpoints(self.folder) if self.folder is not None else []
        if not found:
            return None
        place = found[-1]
        self.restore(_tensors(place / _WEIGHTS))
        if (place / "best.safetensors").exists():
            self.best = _tensors(place / "best.safetensors")
        moments = _tensors(place / "optimizer.safetensors")
        groups = self.optimiser.state_dict()["param_groups"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in moments.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        stored = _read(place / _STATE)
        for key, value in stored["progress"].items():
            setattr(progress, key, value)
        context.ledger = Ledger(**stored["ledger"])
        self.last_saved = progress.step
        if not progress.step_in_round:
            return None
        arrays = {name: value.numpy() for name, value in _tensors(place / "notes.safetensors").items()}
        return Notes.from_arrays(arrays, _tensors(place / "window.safetensors"))

    def keep_round(self, number: int, pool: Pool, context: Context, *, every: int) -> None:
        """Store a round before its first step, durably; nothing where no checkpoints are kept."""
        if self.folder is None or every <= 0 or not distributed.leads():
            return
        from safetensors.numpy import save

        place = self.folder / ROUNDS / str(number)
        examples, notes = pool.examples, Notes.of(pool.examples)
        values = sorted(set().union(*(e.value for e in examples)))
        table = {f"value.{name}": np.array([e.value.get(name, np.nan) for e in examples], float) for name in values}
        has = {f"has.{name}": np.array([name in e.value for e in examples]) for name in values}
        with replacing(place.with_suffix(".safetensors")) as file:
            file.write(save({
                "ids": _flat([e.ids for e in examples]), "mask": _flat([e.mask for e in examples]),
                "sizes": np.array([len(e.ids) for e in examples], np.int64),
                "group": np.array([e.group for e in examples], np.int64),
                "weight": np.array([e.weight for e in examples], float),
                "pairs": pool.batch.pairs, "p": pool.batch.p, "pair_weight": pool.batch.weight,
                **table, **has, **notes.to_arrays(),
            }))  # fmt: skip
        said = {"streams": [e.stream for e in examples], "figures": pool.figures, "state": context.state,
                "ledger": asdict(context.ledger)}  # fmt: skip
        with replacing(place.with_suffix(".json")) as file:  # last: it says that the round is whole
            file.write(json.dumps(said, default=plain).encode())

    def round(self, number: int, *, needed: bool) -> Round | None:
        """A round that :meth:`keep_round` stored; None where it did not.

        Raises:
            InputError: what it stored cannot be read, or is not there although it is needed.
        """
        place = self.folder / ROUNDS / str(number) if self.folder is not None else None
        if place is None or not place.with_suffix(".json").is_file():
            if needed and place is not None:
                raise _damaged(place.with_suffix(".json"))
            return None
        said = _read(place.with_suffix(".json"))
        arrays = {name: value.numpy() for name, value in _tensors(place.with_suffix(".safetensors")).items()}
        spans = [slice(stop - n, stop) for n, stop in zip(arrays["sizes"], np.cumsum(arrays["sizes"]), strict=True)]
        names = [name.removeprefix("value.") for name in arrays if name.startswith("value.")]
        examples = [
            Example(
                arrays["ids"][span].tolist(), arrays["mask"][span].tolist(), int(arrays["group"][i]),
                value={n: float(arrays[f"value.{n}"][i]) for n in names if arrays[f"has.{n}"][i]},
                weight=float(arrays["weight"][i]), stream=said["streams"][i],
            )
            for i, span in enumerate(spans)
        ]  # fmt: skip
        batch = Batch(
            tuple(Notes.from_arrays(arrays).apply(examples)), arrays["pairs"], arrays["p"], arrays["pair_weight"]
        )
        return Round(batch, said["figures"], said["state"], Ledger(**said["ledger"]))


def _flat(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *(np.asarray(row, np.int64) for row in rows)])


def _read(file: Path) -> Json:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise _damaged(file) from None


def _tensors(file: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError):
        raise _damaged(file) from None


def _damaged(file: Path) -> InputError:
    return InputError("what an unfinished run left cannot be read", where=str(file),
                      mend=f"Remove {file.parent.parent} to train anew")  # fmt: skip


def _frozen(module: torch.nn.Module) -> set[str]:
    return {key for key, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _owned(weights: Weights) -> Weights:
    """Contiguous copies: safetensors refuses tensors that share memory, as tied embeddings do."""
    return {k: v.detach().clone().contiguous() for k, v in weights.items()}
