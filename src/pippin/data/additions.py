"""Sums of two numbers in base 10 and base 9, worked column by column, right or with a fault in the carrying.

Both sets have the same numerals, whose digits are all below 9, so that only the base differs. A worked sum has the same
steps whether it is right or wrong, and the same length wherever a fault allows it: length gives nothing away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from pippin.core.errors import InputError
from pippin.core.types import Group, Outcome, Prompt, user
from pippin.data import labelled

BASES = (10, 9)
HABIT = 0.7
"""How often the wrong sum in base 9 is what someone would write who carries at ten, where lengths allow it."""


class Fault(NamedTuple):
    """What goes wrong: carrying at ``base``, or a carry out of column ``column`` that is forgotten or made up."""

    base: int
    column: int | None = None


def generate(n: int, seed: int) -> Iterator[Group]:
    """``n`` pairs of the set base_10, then ``n`` of base_9, each with a right and a wrong worked sum.

    Raises:
        InputError: ``n`` is not positive.
    """
    if n < 1:
        raise InputError("no pairs are asked for", found=n, expected="n of 1 or more")
    for base in BASES:
        for i in range(n):
            yield _pair(base, *_numerals(random.Random(f"additions/{seed}/{i}")),
                        random.Random(f"additions/{base}/{seed}/{i}"))  # fmt: skip


def worked(one: str, two: str, base: int, fault: Fault | None = None) -> str:
    """The sum of two numerals of one length, column by column, with ``fault`` if any; the last line states it."""
    counted = fault.base if fault else base
    lines, digits, carry = [], "", 0
    for column, (x, y) in enumerate(zip(reversed(one), reversed(two), strict=True)):
        total = int(x) + int(y) + carry
        after, digit = divmod(total, counted)
        if fault and fault.column == column:
            after = 1 - after
        lines.append(f"Column {column + 1}: {x} + {y} + {carry} makes {numeral(total, counted)};"
                     f" write {digit}, carry {after}.")  # fmt: skip
        digits, carry = f"{digit}{digits}", after
    lines.append(f"In front of all columns: {carry}.")
    return "\n".join([*lines, f"So {one} + {two} = {(f'{carry}' if carry else '') + digits}."])


def numeral(value: int, base: int) -> str:
    """``value`` written in ``base``, at most 10."""
    high, low = divmod(value, base)
    return (numeral(high, base) if high else "") + str(low)


def _pair(base: int, one: str, two: str, rng: random.Random) -> Group:
    asked = (
        f"Add {one} and {two}. Both numbers are written in base {base}. Go through the columns from the right, note"
        f" what is carried, and finish with the sum, written in base {base}."
    )
    prompt = Prompt(user(asked), source="counterfactual", tags=(f"base_{base}",))
    good = worked(one, two, base)
    carries = [worked(one, two, base, Fault(base, column)) for column in range(len(one))]
    bad = rng.choice([text for text in carries if len(text) == len(good)] or carries)
    habit = worked(one, two, base, Fault(10))
    if base == 9 and rng.random() < HABIT and len(habit) == len(good):
        bad = habit
    if rng.random() < 0.5:
        return labelled.pair(prompt, [(good, ""), (bad, "")], Outcome.FIRST)
    return labelled.pair(prompt, [(bad, ""), (good, "")], Outcome.SECOND)


def _numerals(rng: random.Random) -> tuple[str, str]:
    """Two numerals of one length with at least one column that is carried in either base."""
    while True:
        length = rng.randint(2, 4)
        one, two = ("".join(str(rng.randint(not k, 8)) for k in range(length)) for _ in range(2))
        if any(int(x) + int(y) >= 10 for x, y in zip(one, two, strict=True)):
            return one, two
