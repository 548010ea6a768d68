"""People's labels of pairs: a file with one opinion a row, and the weight that its drawing gave the pair.

============  =========================================================================================================
column        holds
============  =========================================================================================================
prompt_id     the prompt's id
first         id of the response shown first
second        id of the one shown second
choice        ``first``, ``second``, ``tie`` or ``both_bad``; empty where nobody has said anything yet
annotator     who said it; may be missing where one person labelled all
weight        one over the probability with which the pair was drawn; may be missing: all alike
============  =========================================================================================================

Other columns, such as the texts that a person reads, are for people alone and are not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Outcome
from pippin.data.rows import read_rows

COLUMNS = ("prompt_id", "first", "second", "choice", "annotator", "weight")
CHOICES = {str(o): o for o in (Outcome.FIRST, Outcome.SECOND, Outcome.TIE, Outcome.BOTH_BAD)}
PERSON = "person"
"""Who an opinion is ``by`` where the row does not say."""

Key = tuple[str, frozenset[str]]
"""A pair in no order: the prompt's id, and the ids of both responses."""

_ID = re.compile(r"[0-9a-f]{16}")
_SPREADSHEET = "A spreadsheet may have rewritten it as a number: make these columns text"
_FORMULA = re.compile(r"'?[=+\-@\t\r]|''")


@dataclass(frozen=True)
class Labels:
    """What people said. ``weights`` are by pair; ``empty`` counts rows that nobody has filled in."""

    path: str
    choices: tuple[Choice, ...]  # each ``by`` its annotator, in the order that this person saw
    weights: Mapping[Key, float]
    empty: int = 0

    @property
    def by_pair(self) -> dict[Key, list[Choice]]:
        """The opinions on each pair."""
        found: dict[Key, list[Choice]] = {}
        for choice in self.choices:
            found.setdefault(key(choice.prompt_id, choice.first, choice.second), []).append(choice)
        return found

    @property
    def annotators(self) -> list[str]:
        """Who said anything, by name."""
        return sorted({choice.by for choice in self.choices})


def key(prompt: str, one: str, two: str) -> Key:
    """The pair of two responses, whichever stands first."""
    return prompt, frozenset((one, two))


def credit(opinions: Sequence[Choice], response: str) -> float:
    """Mean credit of a response over opinions on one pair: 1 where it won, 1/2 where none did, 0 where it lost."""
    credits = [choice.credit(response) for choice in opinions]
    known = [value for value in credits if value is not None]
    return math.fsum(known) / len(known)


def cell(text: str) -> str:
    """``text`` as a cell that no spreadsheet takes for a formula: a leading apostrophe before ``= + - @``."""
    return f"'{text}" if re.match(r"[=+\-@\t\r']", text) else text


def text_of(cell: str) -> str:
    """The text of a cell that :func:`cell` made; others as they stand."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_labels(path: str | Path) -> Labels:
    """The labels of a CSV file (or JSON lines, or Parquet) with the columns above.

    Raises:
        InputError: no such file, a column is missing, a choice that is none of the four, something that is no id, two
            rows of one annotator on one pair, or weights that are not positive, only on some rows, or two for one pair.
    """
    choices: list[Choice] = []
    weights: dict[Key, float] = {}
    seen: dict[tuple[Key, str], str] = {}
    empty = 0
    unweighted = ""  # where the first row without a weight stands
    for where, row in read_rows(path):
        values = {str(name).strip().lower(): _text(value) for name, value in row.items()}
        _has_columns(values, where)
        if not any(values.values()):
            continue  # the blank rows that a spreadsheet leaves at the end
        pair = _pair(values, where)
        weight = _weight(values.get("weight", ""), where)
        unweighted = unweighted or (where if weight is None else "")
        if weight is not None and not math.isclose(weights.setdefault(pair, weight), weight, rel_tol=1e-6):
            raise InputError("two weights for one pair", where=where, found=sorted((weight, weights[pair])),
                             mend="Take the labels of one drawing, or its weights for all")  # fmt: skip
        if not values["choice"]:
            empty += 1
            continue
        said = values["choice"].lower().replace(" ", "_")
        if said not in CHOICES:
            raise UnknownName("choice", values["choice"], CHOICES, where=where)
        by = text_of(values.get("annotator", "")) or PERSON
        if (pair, by) in seen:
            raise InputError(f"a second row of annotator {by!r} on one pair", where=where, found=seen[pair, by],
                             mend="Keep one of them, or name the annotators")  # fmt: skip
        seen[pair, by] = where
        choices.append(Choice(pair[0], values["first"], values["second"], CHOICES[said], by))
    if weights and unweighted:
        raise InputError("a row without a weight, where others have one", where=unweighted, expected="a number")
    return Labels(str(path), tuple(choices), weights, empty)


def _has_columns(values: Mapping[str, str], where: str) -> None:
    missing = [name for name in COLUMNS[:4] if name not in values]
    if missing:
        torn = any(";" in name for name in values)
        raise InputError(f"labels without a column {missing[0]!r}", where=where, found=sorted(values),
                         expected=", ".join(COLUMNS),
                         mend="Save it with commas between cells, not semicolons" if torn else "")  # fmt: skip


def _pair(values: Mapping[str, str], where: str) -> Key:
    for name in COLUMNS[:3]:
        if not _ID.fullmatch(values[name]):
            raise InputError(f"no id in column {name!r}", where=where, found=values[name], expected="16 hex digits",
                             mend=_SPREADSHEET if re.search(r"\d", values[name]) else "")  # fmt: skip
    if values["first"] == values["second"]:
        raise InputError("a response beside itself", where=where, found=values["first"])
    return key(values["prompt_id"], values["first"], values["second"])


def _weight(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        weight = float(cell)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError("not a weight", where=where, found=cell, expected="a positive number")
    return weight


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
