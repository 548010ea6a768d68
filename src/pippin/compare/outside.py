"""What was made elsewhere: a checkpoint of another trainer, or the answers and scores that another evaluation recorded.

One file in ``external/`` a kind. Where a path is of two kinds (every checkpoint of TRL is one of transformers), the
more special one reads it; ``KIND:PATH`` says which. Nothing is unpickled and no code of a folder is run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.types import Prompt, Response

Json = dict[str, Any]
Gives = Literal["policy", "answers"]


@dataclass(frozen=True)
class Answer:
    """One recorded answer. ``scores``: metric -> the number recorded for it, None where its scorer failed.

    ``key`` names the row of a benchmark that was asked, content included: the prompts of one row may differ between two
    logs (few-shot examples, a chat template), and two rows may have one prompt. Empty where the prompt is the key. A
    response without messages is an answer that the log has no text of.
    """

    prompt: Prompt
    response: Response
    key: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class External:
    """What a path holds: a model folder to load (``policy``), or ``answers``.

    ``manifest`` has what the papers beside it declare, under the names that studies compare arms by; what is not there
    is not declared. ``lower`` are the metrics of which less is better. ``notes`` are sentences for the reader.
    """

    kind: str
    policy: str | None = None
    answers: tuple[Answer, ...] = ()
    lower: frozenset[str] = frozenset()
    manifest: Json = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """The names of all recorded scores."""
        return list(dict.fromkeys(name for answer in self.answers for name in answer.scores))


@dataclass(frozen=True)
class Kind:
    """What a leaf defines. ``over`` are the kinds that its paths also are; ``detect`` reads little."""

    detect: Callable[[Path], bool]
    read: Callable[[Path], External]
    gives: Gives
    over: tuple[str, ...] = ()


def numbered(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers in their order, those to one prompt told apart by ``sample``: 0, 1 ..."""
    seen: Counter[str] = Counter()
    made = []
    for answer in answers:
        made.append(replace(answer, response=replace(answer.response, sample=seen[answer.prompt.id])))
        seen[answer.prompt.id] += 1
    return tuple(made)


def find(spec: str) -> tuple[str, Path] | None:
    """(kind, path) of ``PATH`` or ``KIND:PATH``; None where nothing is there, or no kind knows it.

    Raises:
        InputError: the path is of two kinds, neither of which is the more special one.
    """
    head, colon, rest = spec.partition(":")
    names = catalog.names("external")
    if colon and head in names:
        path = Path(rest).expanduser()
        if not path.exists():
            raise InputError("no such file or folder", where=rest)
        return head, path
    path = Path(spec).expanduser()
    if not os.path.exists(path):  # unlike Path.exists, False for what can be no path
        return None
    found = {name: kind for name in names if _detects(kind := _kind(name), path)}
    special = [name for name in found if not any(name in kind.over for kind in found.values())]
    if len(special) > 1:
        raise InputError("this path is of several kinds", where=spec, found=special, mend=f"Say {special[0]}:{spec}")
    return (special[0], path) if special else None


def gives(spec: str) -> Gives | None:
    """Whether a path holds a policy or answers; None where no kind knows it."""
    found = find(spec)
    return _kind(found[0]).gives if found else None


def read_external(spec: str) -> External:
    """What was made elsewhere at ``PATH`` or ``KIND:PATH``.

    Raises:
        InputError: nothing is there, no kind knows it, or what it holds cannot be used; with the mend.
    """
    found = find(spec)
    if found is None:
        path = Path(spec).expanduser()
        there = sorted(p.name for p in path.iterdir())[:5] if path.is_dir() else None
        raise InputError(
            "neither a model nor answers" if path.exists() else "no such file or folder", where=spec, found=there,
            expected="a model folder, a PEFT adapter, a file of responses, a log of inspect_ai or of lm-eval",
            mend="`pippin list external` shows all kinds; KIND:PATH says which one it is",
        )  # fmt: skip
    return _kind(found[0]).read(found[1])


def _detects(kind: Kind, path: Path) -> bool:
    try:
        return kind.detect(path)
    except OSError:  # what may not be read is of no kind
        return False


def _kind(name: str) -> Kind:
    return catalog.load("external", name)
