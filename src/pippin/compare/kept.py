"""What an analysis found out by looking at files: noted while a bundle is made, given back where the files are not.

The numbers of a report come from cells, which a bundle holds. What stands beside them (which weights, data and prompts
the arms had, and whether these are equal) comes from the files of the machine that ran the study.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pippin.core.errors import InputError
from pippin.core.types import plain

T = TypeVar("T")


@dataclass
class Facts:
    """Facts by name, as JSON takes them."""

    found: dict[str, Any] = field(default_factory=dict)
    complete: bool = False  # nothing is looked at: what is not here is not known


_NOW: ContextVar[Facts | None] = ContextVar("pippin_facts", default=None)


@contextmanager
def keeping(facts: Facts) -> Iterator[Facts]:
    """Within the block every fact is noted in ``facts``; where these are complete, it is given back from them."""
    token = _NOW.set(facts)
    try:
        yield facts
    finally:
        _NOW.reset(token)


def fact(name: str, find: Callable[[], T]) -> T:
    """What ``find`` says, or what it said when the bundle was made; tuples come back as lists.

    Raises:
        InputError: the facts are complete, and this one is not among them.
    """
    facts = _NOW.get()
    if facts is None:
        return find()
    if name not in facts.found:
        if facts.complete:
            raise InputError("the bundle does not say this", found=name, mend="Make it anew with `pippin bundle`")
        facts.found[name] = json.loads(json.dumps(find(), default=plain))
    return facts.found[name]
