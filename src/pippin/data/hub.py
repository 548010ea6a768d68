"""Data sets by name from the Hugging Face hub into the cache: files of rows only, no code of anyone's.

Plain files are fetched over HTTP and read by Pippin's own readers; a data set that exists only as a loading script or
in another format is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pippin.core.errors import InputError, MissingExtra
from pippin.core.run import home as default_home
from pippin.core.run import replacing

SAFE = (".parquet", ".jsonl", ".json", ".csv")
"""Formats in the order of preference: a data set that has the same rows in two is read once."""

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_ABOUT = ("dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json", "config.json")
MEND = "Download the data by other means and name the local file or folder instead"


def fetch(name: str, home: Path | None = None) -> Path:
    """The folder with the data set ``name`` (``ORG/NAME``) at its newest revision, below ``home`` (the cache).

    Files that are there already are not fetched again; without a network the last revision fetched whole is used.

    Raises:
        InputError: not such a name, no such data set, no network and nothing cached, or no file in a safe format.
        MissingExtra: huggingface_hub is not installed.
    """
    if not _NAME.fullmatch(name):
        raise InputError("not the name of a data set", where=name, expected="ORG/NAME", mend=MEND)
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ModuleNotFoundError:
        raise MissingExtra("huggingface_hub", "hf", f"fetching {name}") from None

    endpoint, cache = os.environ.get("HF_ENDPOINT"), (home or default_home()) / "hub"
    own = cache / f"datasets--{name.replace('/', '--')}"
    whole = own / "whole"  # names the last revision of which every wanted file is here
    try:
        info = HfApi(endpoint=endpoint).dataset_info(name, timeout=30)
    except Exception as error:
        if whole.is_file():
            return own / "snapshots" / whole.read_text(encoding="utf-8")
        raise _failed(name, error) from error
    wanted = choose(sibling.rfilename for sibling in info.siblings or ())
    if not wanted:
        raise InputError(f"the data set {name} has no file in a safe format", found=len(info.siblings or ()),
                         expected=SAFE, mend=MEND)  # fmt: skip
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=info.sha, cache_dir=cache, endpoint=endpoint,
                                   allow_patterns=[_literal(file) for file in wanted])  # fmt: skip
    except Exception as error:
        raise _failed(name, error) from error
    with replacing(whole) as file:
        file.write(Path(folder).name.encode())
    return Path(folder)


def choose(files: Iterable[str]) -> list[str]:
    """Which of a data set's files to fetch: all of the first safe format that it has, sorted; none that climbs out."""
    rows = [PurePosixPath(name) for name in files]
    inside = [p for p in rows if not p.is_absolute() and ".." not in p.parts and p.name not in _ABOUT]
    for suffix in SAFE:
        found = [str(p) for p in inside if p.name.lower().removesuffix(".gz").endswith(suffix)]
        if found:
            return sorted(found)
    return []


def _literal(file: str) -> str:
    """``file`` as a pattern that matches itself alone."""
    return re.sub(r"([*?\[])", r"[\1]", file)


def _failed(name: str, error: Exception) -> InputError:
    said = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return InputError(f"the data set {name} cannot be fetched from the Hugging Face hub", found=said, mend=MEND)
