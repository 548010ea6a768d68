"""Prompts and data by name: a file, or a generated source such as ``world/train?n=2000``.

==================================================== ================================================================
name                                                 gives
==================================================== ================================================================
``FILE``                                             rows in any of the ecosystem's columns
``READER:FILE``                                      rows as the reader of that name reads them
``world/train``, ``world/dev``, ``world/heldout``,   prompts of the embedded world: ``?n=500&seed=0``
``world/heldout_skills``
``world/demonstrations``                             demonstrations of mixed quality: ``?n=5000&experts=0.3``; with
                                                     ``&solved=true`` only those that the verifier passes
==================================================== ================================================================

A source without ``seed=`` draws with the seed of the arm. ``#first=200`` after a name of prompts takes the first 200
of them in an order that their ids give, which is the same whatever the order of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl

from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest
from pippin.core.types import Group, Prompt, Response, assistant, digest
from pippin.data import files

WORLD = "world/"
_PROMPTS = ("train", "dev", "heldout", "heldout_skills")
_KEYS = {"n", "seed", "experts", "solved"}


def read_prompts(name: str, seed: int) -> list[Prompt]:
    """The prompts of a source, each once.

    Raises:
        InputError, UnknownName: no such file or source, or a row without a prompt.
    """
    whole, count = _part(name)
    if count is not None:
        return sorted(read_prompts(whole, seed), key=lambda prompt: digest(["first", prompt.id]))[:count]
    if not name.startswith(WORLD):
        reader, path = _reader(name)
        return (
            files.read_prompts(path)
            if reader is None
            else list({g.prompt.id: g.prompt for g in reader.read(path)}.values())
        )
    from pippin.world import tasks

    source, settings = _world(name)
    if source not in _PROMPTS:
        raise UnknownName("prompts of the world", source, _PROMPTS, where=name)
    return tasks.prompts(source, int(settings.get("n", 500)), int(settings.get("seed", seed)))  # type: ignore[arg-type]


def read_groups(name: str, seed: int) -> list[Group]:
    """The rows of a source with their responses and judgements.

    Raises:
        InputError, UnknownName: as :func:`read_prompts`.
    """
    if not name.startswith(WORLD):
        reader, path = _reader(name)
        return list(files.read_groups(path) if reader is None else reader.read(path))
    from pippin.world import people, verifier

    source, settings = _world(name)
    if source != "demonstrations":
        raise UnknownName("data of the world", source, ["demonstrations"], where=name)
    rows = people.demonstrations(
        int(settings.get("n", 5000)), int(settings.get("seed", seed)), experts=float(settings.get("experts", 0.3))
    )
    if settings.get("solved", "false") == "true":
        rows = [row for row in rows if verifier.verify(row[0], row[1]).solved]
    return [
        Group(prompt, (Response(prompt.id, assistant(text), by=who, stop="end", sample=k),))
        for k, (prompt, text, who) in enumerate(rows)
    ]


def fingerprint(name: str) -> str:
    """What determines the content behind a name of prompts, data or a model: a hash of files, or of the world's own
    code.

    Raises:
        InputError: a path that does not exist.
    """
    whole, count = _part(name)
    if count is not None:
        return f"{fingerprint(whole)}#first={count}"
    if name.startswith(WORLD):
        return f"{name}#{_world_digest()}"
    _, path = _reader(name)
    if path.is_dir():
        return digest([[str(f.relative_to(path)), file_digest(f)] for f in sorted(path.rglob("*")) if f.is_file()])
    if path.is_file():
        return file_digest(path)
    if name.startswith((".", "/", "~")) or path.suffix in files_suffixes():
        raise InputError("no such file", where=name)
    return name  # a served or packaged model: its name is all that can be known before it answers


def _part(name: str) -> tuple[str, int | None]:
    """(name of the whole, how many of it) of ``NAME#first=COUNT``."""
    whole, mark, count = name.rpartition("#first=")
    return (whole, int(count)) if mark and count.isdecimal() else (name, None)


def files_suffixes() -> tuple[str, ...]:
    """Endings of files of rows."""
    from pippin.data.rows import SUFFIXES

    return tuple(SUFFIXES)


def _reader(name: str):
    """(reader or None, path) of ``READER:FILE`` or ``FILE``."""
    head, colon, rest = name.partition(":")
    if colon and head in catalog.names("readers"):
        return catalog.load("readers", head), Path(rest).expanduser()
    return None, Path(name).expanduser()


def _world(name: str) -> tuple[str, Mapping[str, str]]:
    source, _, query = name[len(WORLD) :].partition("?")
    settings = dict(parse_qsl(query))
    for key in settings:
        if key not in _KEYS:
            raise UnknownName("setting of a world source", key, _KEYS, where=name)
    return source, settings


@cache
def _world_digest() -> str:
    """The world is package data and code; both make what it says."""
    folder = Path(__file__).parents[1] / "world"
    listed: Sequence[Path] = sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".safetensors", ".json"))
    return digest([[str(p.relative_to(folder)), file_digest(p)] for p in listed])
