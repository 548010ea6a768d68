"""Folders that appear whole or not at all: checkpoints, converted weights, pools.

A writer fills a folder under ``.tmp`` and renames it to its key at the end. While it writes it holds a lock on the
folder (``flock``), which the system drops when the process dies, however it dies: that is how :meth:`Artifacts.clean`
tells a dead writer's folder from a living one's, also across containers and after process ids have been used again.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pippin.core.errors import InputError, StoreError
from pippin.core.run import synchronise

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Artifacts:
    """The folders below ``root``, one per key."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Path | None:
        """The folder of ``key``, or None. It is complete, and no one changes it."""
        path = self._path(key)
        return path if path.is_dir() else None

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A new empty folder to fill; on success it becomes the folder of ``key``, on any exception it goes away.

        Where another writer was first, that one's folder stays and this one goes away.

        Raises:
            InputError: ``key`` cannot be a folder's name.
            StoreError: the folder cannot be made or renamed.
        """
        final = self._path(key)
        try:
            folder, lock = self._temporary(key)
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be written: {error.strerror}") from error
        try:
            yield folder
            try:
                _synchronise_all(folder)
                folder.rename(final)
                synchronise(self.root)
            except OSError as error:
                if not final.is_dir():
                    raise StoreError(f"{final}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # gone already where the rename succeeded
            os.close(lock)

    def clean(self, older_than: float | None = None) -> tuple[int, int]:
        """Remove what dead writers left behind, and folders last written more than ``older_than`` seconds ago.

        Returns:
            How many folders of dead writers and how many artifacts were removed.
        """
        dead = 0
        for folder in self._temporaries():
            lock = _lock(folder, wait=False)
            if lock is None:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            dead += 1
        if older_than is None:
            return dead, 0
        old = [path for path in self._all() if path.stat().st_mtime < time.time() - older_than]
        for path in old:
            # Renamed first, so that no one ever finds half an artifact.
            doomed = self.root / ".tmp" / f"{path.name}.{secrets.token_hex(8)}"
            doomed.parent.mkdir(exist_ok=True)
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        return dead, len(old)

    def size(self) -> tuple[int, int]:
        """How many artifacts there are, and their bytes, unfinished ones included."""
        files = self.root.rglob("*") if self.root.is_dir() else ()
        return len(self._all()), sum(file.lstat().st_size for file in files if file.is_file())

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InputError("not a key of an artifact", found=key, expected="letters, digits, `.`, `_` and `-`")
        return self.root / key

    def _all(self) -> list[Path]:
        return sorted(path for path in self.root.glob("[!.]*") if path.is_dir())

    def _temporaries(self) -> list[Path]:
        return sorted(path for path in (self.root / ".tmp").glob("*") if path.is_dir())

    def _temporary(self, key: str) -> tuple[Path, int]:
        parent = self.root / ".tmp"
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / f"{key}.{secrets.token_hex(8)}"
            folder.mkdir()
            lock = _lock(folder, wait=True)
            if lock is not None:
                return folder, lock


def _lock(folder: Path, *, wait: bool) -> int | None:
    """An open handle that locks ``folder``, or None where another holds it or it was removed in the meantime."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.exists():
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _synchronise_all(folder: Path) -> None:
    """Make every file below ``folder`` durable, so that a power cut after the rename leaves no empty files."""
    for base, _, files in os.walk(folder):
        for name in files:
            if not os.path.islink(os.path.join(base, name)):
                synchronise(Path(base, name))
        synchronise(Path(base))
