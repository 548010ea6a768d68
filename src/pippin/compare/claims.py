"""Who works on which cell, among the processes that share a store: a locked file for each cell that is being run.

The system drops a lock when its process dies, however it dies, so a study that was killed goes on at once. A claim
saves double work and guards nothing: everything stored is whole, and the first writer wins. Processes on several
machines see each other's claims where they share the folder of artifacts, as they must to share cells."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pippin.core.errors import StoreError
from pippin.core.store import Store


class Claims:
    """The claims of one process; usable from several threads."""

    def __init__(self, store: Store) -> None:
        self.folder = store.artifacts.root / ".claims"
        self.held: dict[str, int] = {}

    def take(self, key: str) -> bool:
        """Whether the cell is this process's to run now; False while another has it.

        Raises:
            StoreError: the folder of claims cannot be written.
        """
        path = self.folder / key
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(handle, path):  # else it was given back and removed in between
                self.held[key] = handle
                return True
        except BlockingIOError:
            pass
        os.close(handle)
        return False

    def release(self, key: str) -> None:
        """Give a claim back."""
        handle = self.held.pop(key)
        (self.folder / key).unlink(missing_ok=True)
        os.close(handle)


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
