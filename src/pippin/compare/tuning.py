"""Equal tuning: the same trials for every arm, on development prompts, before the test prompts are touched.

``tuning: {trials: 4, search: {learning_rate: [1e-4, 2e-4, 4e-4, 8e-4]}}`` tries every arm that a gradient trains under
the same points; the one with the best development score is run with all seeds. Without ``search`` the entry only states
what was done elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import digest

Json = dict[str, Any]
KEYS = ("trials", "on", "search")


def check(tuning: Any, where: str) -> None:
    """Refuse a tuning entry that cannot mean what it says.

    Raises:
        InputError, UnknownName: with the entry's place.
    """
    if not isinstance(tuning, Mapping):
        if tuning != "published":
            raise InputError("tuning says nothing", where=where, found=tuning, expected="published, or {trials: N}")
        return
    for key in tuning:
        if key not in KEYS:
            raise UnknownName("key of tuning", str(key), KEYS, where=where)
    if tuning.get("on", "dev") != "dev":
        raise InputError("tuning is done on development prompts", where=where, found=tuning["on"], expected="dev")
    search = tuning.get("search")
    if search is None:
        return
    if not isinstance(search, Mapping) or not search or not all(isinstance(v, list) and v for v in search.values()):
        raise InputError("search needs settings with lists of values", where=f"{where}.search", found=search)
    size = int(np.prod([len(values) for values in search.values()]))
    if not 1 <= int(tuning.get("trials", size)) <= size:
        raise InputError("trials and search do not fit", where=where, found=tuning["trials"], expected=f"1 to {size}")


def points(tuning: Any) -> list[Json]:
    """The settings that every arm is tried under: all points of the search, or ``trials`` of them, drawn once."""
    if not isinstance(tuning, Mapping) or not tuning.get("search"):
        return []
    search = tuning["search"]
    grid = [dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())]
    trials = int(tuning.get("trials", len(grid)))
    if trials == len(grid):
        return grid
    order = np.random.default_rng(int(digest(["tuning", search]), 16)).permutation(len(grid))
    return [grid[k] for k in sorted(order[:trials])]
