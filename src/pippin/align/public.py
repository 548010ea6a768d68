"""What of a run's papers may be shown to others: names and digests, without paths, addresses or keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FILES = ("rm", "implicit", "replay", "python", "recorded", "person")
"""Kinds of models and judges whose name goes on with a path."""

_SERVER = re.compile(
    r"@https?://\S*?(?=:[a-z]\w*(?:\?|$)|$)", re.IGNORECASE
)  # up to the strategy; a key's name stands in it
_ADDRESS = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)
_FOLDERS = re.compile(r"(?<![\w./~-])(?:~[\w.-]*|\.{1,2})?/(?:[^/\s:?&=,'\"]+/)+|(?<![\w./~-])(?:~[\w.-]*|\.{1,2})/")


def name(text: str) -> str:
    """A model's, judge's or file's name as it can be published: ``rm//home/me/rm`` is ``rm/rm``,
    ``/home/me/a.jsonl`` is ``a.jsonl``, ``openai/m@http://host:8000/v1#KEY:vanilla`` is ``openai/m:vanilla``; other
    names are as they are.
    """
    return "+".join(_one(part) for part in text.split("+"))


def _one(text: str) -> str:
    text = _SERVER.sub("", text)
    head, slash, rest = text.partition("/")
    if slash and head in _FILES:
        return f"{head}/{_last(rest)}"
    if text.startswith(("/", "~", "./", "../")):
        return _last(text)
    return _FOLDERS.sub("", _ADDRESS.sub("(an address)", text))


def _last(path: str) -> str:
    """The last part of a path, with what follows it: ``:function``, ``?settings``, ``[start:stop]``."""
    file, mark, rest = re.fullmatch(r"([^:?\[]*)([:?\[]?)(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    return file.rstrip("/").rpartition("/")[2] + mark + _FOLDERS.sub("", rest)


def manifest(papers: Mapping[str, Any]) -> dict[str, Any]:
    """A flat mapping (a manifest, a state) with every text in it as :func:`name` gives it."""
    return {key: _plain(value) for key, value in papers.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return name(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
