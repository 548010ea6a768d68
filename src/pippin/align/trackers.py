"""Trackers by name: mirrors of a run's metrics in trackio, tensorboard or wandb.

The run's folder is the record, a tracker is a mirror of it. It hears every line of ``metrics.jsonl`` under the names
that a trainer of transformers gives (``train/loss``, ``train/rewards/chosen``, ``eval/score``), and the run's manifest
as its configuration, without paths, addresses and keys. A tracker that fails is named once and left out; the run goes
on.

Source: transformers 5.24, ``TrainingArguments.report_to`` and ``integrations.rewrite_logs``
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pippin.align import public
from pippin.core.errors import MissingExtra, UnknownName
from pippin.core.types import digest

PROJECT = "pippin"  # where the tracker's own variable names no other
Line = Mapping[str, float]


class Tracker(Protocol):
    """What a library must do. Its constructor takes ``(Place, configuration)`` and opens the run."""

    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where a run is told of: the run's folder, the name shown, and an identity that a resumed run has again."""

    folder: Path
    name: str
    identity: str


class Tensorboard:
    """Event files in the folder ``runs`` of the run; the configuration as text."""

    def __init__(self, place: Place, configuration: Mapping[str, Any]) -> None:
        self.place, self.configuration, self.writer = place, configuration, None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if self.writer is None:  # only the first step says what a run that was cut short has told already
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.place.folder / "runs"), purge_step=step)
            rows = "".join(f"    {key}: {value}\n" for key, value in sorted(self.configuration.items()))
            self.writer.add_text("configuration", rows, step)
        for key, value in figures.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def end(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Trackio:
    """A local project of trackio, or the space that ``TRACKIO_SPACE_ID`` names."""

    def __init__(self, place: Place, configuration: Mapping[str, Any]) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self.run = trackio.init(
            project, name=place.name, config=dict(configuration), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.run.log({**figures, "train/global_step": step}, step=step)

    def end(self) -> None:
        self.run.finish()


class Wandb:
    """A run of wandb; ``WANDB_PROJECT``, ``WANDB_MODE`` and its other variables hold."""

    def __init__(self, place: Place, configuration: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=place.name, id=place.identity, resume="allow",
            dir=str(place.folder), config=dict(configuration), save_code=False,
            settings=wandb.Settings(console="off"),  # what is printed holds text of the data
        )  # fmt: skip

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.run.log({**figures, "train/global_step": step}, step=step)

    def end(self) -> None:
        self.run.finish()


TRACKERS: Mapping[str, Callable[[Place, Mapping[str, Any]], Tracker]] = {
    "tensorboard": Tensorboard, "trackio": Trackio, "wandb": Wandb,
}  # fmt: skip


def named(report_to: str) -> tuple[str, ...]:
    """The trackers of ``report_to``: names with commas, or ``none``.

    Raises:
        UnknownName: there is no such tracker.
        MissingExtra: its library is not installed.
    """
    names = tuple(dict.fromkeys(filter(None, (part.strip() for part in report_to.split(",")))))
    names = () if names == ("none",) else names
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, [*TRACKERS, "none"], where="report_to")
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(name, "track", f"report_to {name}")
    return names


def prefixed(line: Line) -> dict[str, float]:
    """The figures of a line of metrics under the names that transformers gives trackers, without its step."""
    return {key if key.startswith("eval/") else f"train/{key}": value for key, value in line.items() if key != "step"}


@dataclass
class Mirror:
    """The trackers of one run. Nothing that they do stops it: what fails is told once and heard no more."""

    names: tuple[str, ...]
    folder: Path
    run_name: str = ""
    tell: Callable[[str], None] = warnings.warn
    open: dict[str, Tracker] = field(default_factory=dict)

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Open every tracker; its configuration is the manifest, less what is not for others."""
        identity = digest([str(self.folder.absolute()), manifest])[:12]
        place = Place(self.folder, self.run_name or f"{self.folder.absolute().name}-{identity[:6]}", identity)
        shown = public.manifest(manifest)
        for name in self.names:
            with self._forgiving(name):
                self.open[name] = TRACKERS[name](place, shown)

    def log(self, line: Line) -> None:
        """A line of metrics, with its ``step``."""
        figures = prefixed(line)
        for name, tracker in list(self.open.items()):
            with self._forgiving(name):
                tracker.log(int(line["step"]), figures)

    def beside(self, report: Callable[[Line], None] | None) -> Callable[[Line], None]:
        """One listener out of the trackers and another listener, where there is one."""

        def heard(line: Line) -> None:
            self.log(line)
            if report is not None:
                report(line)

        return heard

    def close(self) -> None:
        """End every tracker that is still heard."""
        for name, tracker in list(self.open.items()):
            with self._forgiving(name):
                tracker.end()
        self.open.clear()

    @contextmanager
    def _forgiving(self, name: str) -> Iterator[None]:
        try:
            with redirect_stdout(sys.stderr):  # standard output is the command's
                yield
        except Exception as error:  # noqa: BLE001 - a network, a quota, a login: none of them is the run's
            self.open.pop(name, None)
            said = next(iter(str(error).strip().splitlines()), "")
            self.tell(f"{name} is left out from here on: {public.name(f'{type(error).__name__}: {said}')}")


@contextmanager
def mirror(
    report_to: str, folder: Path, *, run_name: str = "", tell: Callable[[str], None] = warnings.warn
) -> Iterator[Mirror]:
    """The trackers that ``report_to`` names, for ``align(..., mirror=)``; ended when the block ends, however it ends.

    Args:
        folder: the run's folder.
        run_name: shown by the trackers; by default the folder's name and a digest of the manifest.
        tell: receives a sentence for every tracker that fails.

    Raises:
        UnknownName, MissingExtra: as :func:`named`.
    """
    made = Mirror(named(report_to), folder, run_name, tell)
    try:
        yield made
    finally:
        made.close()
