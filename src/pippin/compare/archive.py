"""A zip archive of texts with the SHA-256 of each: equal members give equal bytes; what is read is not trusted.

An archive from someone else may hold paths that lead outside, links, members that unpack to more than a disk holds, or
members that were changed after the hashes were written. Nothing of it is unpacked to a path that it names.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pippin.core.errors import InputError
from pippin.core.run import replacing

LIST = "bundle.json"
"""The member that lists the others with their hashes."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")
MEMBERS = 200_000
BYTES = 8 << 30  # of all members together, unpacked
WHOLE = 512 << 20  # of a member, or a line of one, that is held in memory
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(path: Path, members: Iterable[tuple[str, Iterable[bytes]]], about: Mapping[str, Any]) -> dict[str, str]:
    """Write an archive, whole or not at all; the hash of every member.

    Args:
        members: name and content in parts; in the order in which they shall lie.
        about: what the list of members says beside the hashes.
    """
    hashes: dict[str, str] = {}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as made:
        for name, parts in members:
            whole = hashlib.sha256()
            with made.open(_entry(name), "w", force_zip64=True) as member:
                for part in parts:
                    whole.update(part)
                    member.write(part)
            hashes[name] = whole.hexdigest()
        told = json.dumps({**about, "sha256": hashes}, sort_keys=True, indent=1)
        made.writestr(_entry(LIST), told + "\n")
    return hashes


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry whose bytes do not depend on the clock or the machine."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


class Archive:
    """An archive opened for reading, every member checked against the list before it is believed.

    Use :func:`opened`; ``about`` is what the list says.
    """

    def __init__(self, file: zipfile.ZipFile, where: str) -> None:
        self.where, self._file = where, file
        self._entries = {entry.filename: entry for entry in file.infolist()}
        self._check_entries(file.infolist())
        self.about = self.json(LIST)
        hashes = self.about.get("sha256") if isinstance(self.about, dict) else None
        if not isinstance(hashes, dict) or set(hashes) != set(self._entries) - {LIST}:
            raise self._refused("the list of members is not that of the members", LIST)
        for name, stated in hashes.items():
            if self._digest(name) != stated:
                raise self._refused("this member is not what its hash says", name)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """The members but the list, sorted."""
        return sorted(set(self._entries) - {LIST})

    @property
    def digest(self) -> str:
        """What the archive is known by: the hash of its list of hashes."""
        return hashlib.sha256(self.bytes(LIST)).hexdigest()[:16]

    def bytes(self, name: str) -> bytes:
        """A member whole.

        Raises:
            InputError: there is none, or it is too large to be held in memory.
        """
        with self._open(name) as member:
            if self._entries[name].file_size > WHOLE:
                raise self._refused(f"a member of more than {WHOLE >> 20} MiB", name)
            return member.read()

    def copy(self, name: str, path: Path) -> None:
        """Write a member to a path of the caller's choice.

        Raises:
            InputError: there is none.
        """
        with self._open(name) as member, path.open("wb") as file:
            shutil.copyfileobj(member, file)

    def json(self, name: str) -> Any:
        """A member as JSON.

        Raises:
            InputError: there is none, or it is not JSON.
        """
        return self._parsed(self.bytes(name), name)

    def rows(self, name: str) -> Iterator[Any]:
        """A member as lines of JSON."""
        with self._open(name) as member:
            while line := member.readline(WHOLE + 1):
                if len(line) > WHOLE:
                    raise self._refused("a line of this member is too long", name)
                yield self._parsed(line, name)

    def _parsed(self, text: bytes, name: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"not JSON ({type(error).__name__})", name) from None

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if name not in self._entries:
            raise self._refused("the archive has no such member", name)
        try:
            with self._file.open(self._entries[name]) as member:
                yield member
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
            raise self._refused(f"cannot be unpacked ({error})", name) from None

    def _digest(self, name: str) -> str:
        whole = hashlib.sha256()
        with self._open(name) as member:
            while part := member.read(1 << 20):
                whole.update(part)
        return whole.hexdigest()

    def _check_entries(self, entries: list[zipfile.ZipInfo]) -> None:
        if len(entries) > MEMBERS or len(self._entries) != len(entries):
            raise self._refused("too many members, or two of one name", f"{len(entries)} members")
        if sum(entry.file_size for entry in entries) > BYTES:
            raise self._refused(f"the members unpack to more than {BYTES >> 30} GiB", self.where)
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if not NAME.fullmatch(entry.filename) or ".." in entry.filename or len(entry.filename) > 255:
                raise self._refused("a member's name is not one that a bundle has", entry.filename)
            if kind not in (0, stat.S_IFREG) or entry.is_dir() or entry.flag_bits & 1:
                raise self._refused("a member is no plain file", entry.filename)

    def _refused(self, why: str, found: str) -> InputError:
        return InputError(why, where=self.where, found=found, expected="an archive that `pippin bundle` made")


@contextmanager
def opened(path: str | Path) -> Iterator[Archive]:
    """The archive at ``path``, checked whole.

    Raises:
        InputError: it is none, or holds what no bundle holds.
    """
    try:
        file = zipfile.ZipFile(Path(path).expanduser())
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError("not an archive", where=str(path), found=str(error),
                         expected="an archive that `pippin bundle` made") from None  # fmt: skip
    with file:
        yield Archive(file, str(path))
