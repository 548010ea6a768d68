"""What one training run is told: flags over a file over the method's own defaults, with the data by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pippin.core import catalog, config
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Group
from pippin.feedback.collapse import Rule

_SLICE = re.compile(r"(?P<name>.+)\[(?P<start>\d*):(?P<stop>\d*)\]")


@dataclass(frozen=True)
class Job:
    """One run of ``pippin align``, beside the settings of its method."""

    method: str = setting(help="a method, as `pippin list methods` names it")
    model: str = setting(help="the policy to start from: a name or a path")
    out: str = setting(help="the folder that the run is saved in")
    data: str = setting(
        "", "demonstrations or preferences: FILE, READER:FILE or a source of the world, perhaps [start:stop]"
    )
    prompts: str = setting("", "prompts that a method which samples draws from")
    reward: str = setting("", "a judge that scores, for methods that need one")
    dev: str = setting("", "development prompts, for choosing settings or checkpoints")
    judge: str = setting("", "the judge that scores the answers to the development prompts")
    feedback: str = setting("", "what says in words what is wrong with a response: gold, a model, python/FILE.py:f")
    template: str = setting("", "a file with a chat template in place of the model's own")
    eval_data: str = setting("", "held-out preferences that the policy is tested on before and after")
    eval_limit: int = setting(0, "at most so many rows of them; 0: all")
    report_to: str = setting("none", "trackers that mirror the metrics: tensorboard, trackio, wandb, with commas")
    run_name: str = setting("", "what trackers call the run; by default the folder's name with a digest")
    push_to_hub: bool = setting(False, "upload the finished run to the Hugging Face hub")
    hub_model_id: str = setting("", "the repository there, ORG/NAME or NAME; by default the folder's name")
    hub_private_repo: bool | None = setting(None, "whether a new repository is private; none: as the account has it")
    collapse: Rule = setting(Rule(), "how judgements become preferences")


@dataclass(frozen=True)
class Told:
    """A job with the settings of its method, all checked."""

    job: Job
    settings: Mapping[str, Any]  # as given
    resolved: Mapping[str, Any]  # with every default

    def to_row(self) -> dict[str, Any]:
        """Everything in one flat mapping, as a file of ``pippin align`` holds it."""
        return {**asdict(self.job), **{k: list(v) if isinstance(v, tuple) else v for k, v in self.resolved.items()}}

    def to_yaml(self) -> str:
        """The same as a file, under headings, with a word of help beside each setting."""
        import yaml

        from pippin.align.method import Training

        method, row = catalog.load("methods", self.job.method), self.to_row()
        parts = [("the run", Job), (f"settings of {self.job.method}", method.config), ("every method's", Training)]
        lines: list[str] = []
        for title, part in parts:
            lines += ["", f"# {title}"] if lines else [f"# {title}"]
            told = {f.name: f.metadata.get("help", "") for f in fields(part)}
            for key, said in told.items():
                text = yaml.safe_dump({key: plain(row[key])}, sort_keys=False, allow_unicode=True, width=1000).rstrip()
                note = f"# {said}" if said else ""
                lines += [note, *text.splitlines()] if "\n" in text else [f"{text}  {note}".rstrip()]
        return "\n".join(lines) + "\n"


BESIDE = ("report_to", "run_name", "push_to_hub", "hub_model_id", "hub_private_repo")
"""What may change between two commands that are one run: it changes nothing of what is trained."""


def read(file: str, flags: Mapping[str, Any], *, blank: bool = False) -> Told:
    """The job of a file (or of none) with flags over it.

    Args:
        blank: model and folder may be left open, for a file to be filled in.

    Raises:
        UnknownName: a key is neither the job's nor the method's; the nearest one is named, with file and line.
        InputError: the file cannot be read, a required key is missing, or a value is of the wrong type.
    """
    values, lines = config.read_yaml(file) if file else ({}, {})
    merged = {**values, **flags}
    own = {f.name for f in fields(Job)}
    said = {k: v for k, v in merged.items() if k.partition(".")[0] in own}
    job = config.build(Job, {"model": "", "out": "", **said} if blank else said, file, lines=lines)
    for name in () if blank else ("model", "out"):
        if not getattr(job, name):
            raise InputError(f"the setting {name!r} is empty", where=file, mend=f"Give --{name}")
    method = catalog.load("methods", job.method)
    from pippin.align import hints
    from pippin.align.method import Training
    from pippin.align.settings import Settings

    known = own | {s.name for cls in (Training, method.config) for s in config.describe(cls)}
    for key in merged:
        if key.partition(".")[0] not in known:
            line = f"{file}:{lines[key]}" if key in lines and key not in flags else "" if key in flags else file
            raise hints.unknown(job.method, key if key not in flags else f"--{key}",
                                known if key not in flags else {f"--{k}" for k in known}, where=line)  # fmt: skip
    settings = {k: v for k, v in merged.items() if k.partition(".")[0] not in own}
    chosen = Settings.of(job.method, method, settings, where=file)
    return Told(job, settings, {**asdict(chosen.training), **asdict(chosen.own)})


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth, as YAML has them."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def flags(arguments: Sequence[str]) -> dict[str, str]:
    """``--learning_rate 1e-4 --max-length=256 --bf16`` as a mapping; a flag without a value is true.

    Raises:
        InputError: a word that belongs to no flag.
    """
    found: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise InputError("a word that belongs to no option", found=word, expected="--setting value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = "true" if not words or words[0].startswith("--") else words.pop(0)
        key = name.replace("-", "_")
        if key in found:
            raise InputError("an option is given twice", found=f"--{name}")
        found[key] = value
    return found


def read_data(name: str, seed: int) -> tuple[list[Group], str]:
    """The groups of a data set, and a line that says what was found. ``NAME[start:stop]`` takes a part of the rows.

    Raises:
        InputError, UnknownName: as :func:`pippin.compare.inputs.read_groups`, or the part is empty.
    """
    from pippin.compare import inputs

    part = _SLICE.fullmatch(name)
    whole = part["name"] if part else name
    groups = inputs.read_groups(whole, seed)
    if part:
        start, stop = int(part["start"] or 0), int(part["stop"]) if part["stop"] else None
        taken = groups[start:stop]
        if not taken:
            raise InputError("no row in this part", where=name, found=f"{len(groups)} rows")
        return taken, f"{_detected(whole)}, rows {start} to {start + len(taken)} of {len(groups)}"
    return groups, f"{_detected(whole)}, {len(groups)} rows"


def _detected(name: str) -> str:
    """What the columns of a file were taken for, or the reader that was named."""
    head, colon, rest = name.partition(":")
    if name.startswith("world/"):
        return f"{name}: drawn from the embedded world"
    named = colon and head in catalog.names("readers")
    reader, path = catalog.load("readers", head if named else "messages"), rest if named else name
    return f"{path}: {reader.detect(Path(path).expanduser()) if reader.detect else head}"
