"""Lists in the store that only grow: a row is a cell under the hash of the list's name and its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pippin.core.store import Store
from pippin.core.types import digest, plain

Json = dict[str, Any]


def rows(store: Store, *name: Any) -> Iterator[Json]:
    """The rows of a list, the first one first."""
    place = 0
    while (cell := store.cell(_key(name, place))) is not None:
        yield cell["result"]
        place += 1


def append(store: Store, row: Json, *name: Any) -> None:
    """Add a row at the end of a list, whatever other processes add meanwhile."""
    row = json.loads(json.dumps(row, default=plain))
    place = sum(1 for _ in rows(store, *name))
    while True:
        store.add_cell(_key(name, place), {"kind": name[0]}, row)
        cell = store.cell(_key(name, place))
        if cell is not None and cell["result"] == row:
            return
        place += 1


def _key(name: tuple[Any, ...], place: int) -> str:
    return digest(["list", *name, place])
