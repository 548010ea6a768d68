"""Stores calls while others are being made: durable within a fraction of a second, many to one wait for the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pippin.core.types import Call

_EVERY = 0.2  # seconds between two writes
_MOST = 256  # calls that may wait for a write before it comes at once


class Calls(Protocol):
    """The part of a store that the engine uses."""

    def calls(self, ids: Iterable[str]) -> Mapping[str, Call]: ...

    def add_calls(self, calls: Sequence[Call]) -> None: ...


class Writer:
    """Calls on their way into a store. A context manager: all that was added is stored when it ends.

    A thread writes every 0.2 s, and at once when 256 calls wait, whatever the thread that adds is busy with. With no
    store, calls are kept in memory. An error of the store is raised by the next :meth:`add`, or at the end.
    """

    def __init__(self, store: Calls | None) -> None:
        self.store = store
        self._pending: dict[str, Call] = {}
        self._writing: dict[str, Call] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._write_on, daemon=True) if store is not None else None

    def __enter__(self) -> Writer:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._raise()

    def add(self, call: Call, call_id: str = "") -> None:
        """Store ``call`` soon. Its id is costly to compute: whoever knows it says it."""
        self._raise()
        with self._lock:
            self._pending[call_id or call.id] = call
            if len(self._pending) >= _MOST:
                self._wake.set()

    def calls(self, ids: Sequence[str]) -> dict[str, Call]:
        """The calls among ``ids`` that are stored or on their way."""
        with self._lock:
            known = {i: both[i] for both in (self._writing, self._pending) for i in ids if i in both}
        rest = [i for i in ids if i not in known]
        return known if self.store is None or not rest else {**self.store.calls(rest), **known}

    def _write_on(self) -> None:
        while not self._ended:
            self._wake.wait(_EVERY)
            self._wake.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            self._writing, self._pending = self._pending, {}
        if not self._writing or self.store is None or self._problem is not None:
            return
        try:
            self.store.add_calls(list(self._writing.values()))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that adds
            self._problem = error
        with self._lock:
            self._writing = {}

    def _raise(self) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
