"""The exceptions of Pippin, one tree.

PippinError
├── InputError          bad input: one line that says what, where, found, expected, mend   (exit code 2)
│   ├── UnknownName     a name that no leaf has; names the nearest ones
│   └── MissingExtra    an optional library is not installed; says how to install it
├── StoreError          the store cannot be opened or written
├── ModelError          a model could not answer; permanent for that request, others go on
├── Diverged            training produced NaN, infinity or a runaway loss
└── GateNotMet          a stated gate does not hold                                       (exit code 4)

Each is a plain ``Exception`` whose text is meant for a person; the command line prints it without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PippinError(Exception):
    """Base of all errors that Pippin raises on purpose."""

    exit_code = 1


class InputError(PippinError):
    """Bad input. ``where`` names the file, row or key; ``mend`` says what to do.

    The message reads ``where: what (found ..., expected ...). mend`` on one line, whatever the pieces contain.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, where: str = "", found: object = None, expected: object = None, mend: str = ""
    ) -> None:
        self.what, self.where, self.mend = what, where, mend
        self.found, self.expected = found, expected
        details = [
            f"{name} {_one_line(value)}"
            for name, value in (("found", found), ("expected", expected))
            if value is not None
        ]
        text = f"{where}: " if where else ""
        text += what
        if details:
            text += f" ({', '.join(details)})"
        if mend:
            text += f". {mend}"
        super().__init__(_one_line(text, limit=2000))


class UnknownName(InputError):
    """A name that is not known; ``known`` lists what is."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "", mend: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."
        super().__init__(f"no {kind} named {name!r}", where=where, mend=" ".join(filter(None, [hint, mend])))


class MissingExtra(InputError):
    """An optional library is needed and not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed", mend=f"Run: pip install 'pippin[{extra}]'"
        )


class StoreError(PippinError):
    """The store cannot be opened, is of another version, or cannot be written."""


class ModelError(PippinError):
    """A model could not answer one request. ``permanent`` is False where a later try may succeed."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class Diverged(PippinError):
    """Training left the numbers: NaN, infinity, or a loss beyond the stated bound."""


class GateNotMet(PippinError):
    """A comparison was made, and its gate does not hold."""

    exit_code = 4


def _one_line(value: object, limit: int = 200) -> str:
    """``value`` as text without control characters, cut at ``limit`` characters (hostile text goes into messages)."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
