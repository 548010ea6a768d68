"""Judges with a stake: those that had a part in the training that they evaluate, or are of a candidate's family.

A judge is told by what it is and not by its name: a copy of a reward model under another path is the same judge, and so
is one model under another prompting strategy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pippin.core.config import read_yaml
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest
from pippin.core.types import digest
from pippin.data.rows import SUFFIXES
from pippin.judge.resolve import is_path, members, split_strategy

RUN = "pippin_run.json"
WEIGHED = ("rm/", "reward_model/", "implicit/")
TRUTH = ("gold", "gold_segments")
_GENERIC = {"base", "chat", "instruct", "judge", "model", "policy", "reward", "sft", "test"}


def identities(judge: str, place: Callable[[str], str] = str) -> dict[str, str]:
    """What a judge is made of: identity -> the member's name. Members of a panel and roles of a file count each.

    Args:
        place: a path as a study writes it -> the path on this machine.

    Two judges share an identity where the same weights, served model, function or rule speaks in both.
    """
    return {identity(place(model)): model for model in _models(judge)}


def shared(one: str, other: str, place: Callable[[str], str] = str) -> str:
    """The name of a member that speaks in both judges; empty where none does."""
    mine, theirs = identities(one, place), identities(other, place)
    return next((name for key, name in mine.items() if key in theirs), "")


def fingerprint(judge: str) -> str:
    """The hash of what a judge is and how it is asked, without loading it."""
    found = identities(judge)
    how = re.sub(r"#[^:+?]*", "", judge)
    for name in found.values():
        how = how.replace(name.partition("?")[0], "", 1)
    place = Path(judge).expanduser()
    said = file_digest(place) if judge.endswith((".yaml", ".yml")) and place.is_file() else how
    return digest([sorted(found), said])


def content(judge: str) -> str:
    """:func:`fingerprint` of a judge whose files lie on this machine; else its name, which is all that is known."""
    local = judge.endswith((".yaml", ".yml")) or any(
        model.startswith((*WEIGHED, "python/")) or is_path(model) for model in _models(judge)
    )
    return fingerprint(judge) if local else judge


def kin(judge: str, candidates: list[str], place: Callable[[str], str] = str) -> list[str]:
    """The language models in a judge that are one of ``candidates`` or of the family of one; reward models aside."""
    asked = [model for model in _models(judge) if _asks(model)]
    if not asked:
        return []
    families = {family(place(c)) for c in candidates} - {""}
    same = {identity(place(c)) for c in candidates}
    return [m for m in asked if family(place(m)) in families or identity(place(m)) in same]


def family(name: str) -> str:
    """``gpt`` of ``openai/gpt-4o-mini``: a model's name up to its first digit or dash. A folder is of the family of the
    model that its papers say it was made from; empty where nothing is known."""
    if name.lower().removesuffix(".gz").endswith(SUFFIXES):
        return ""  # answers in a file
    name = origin(name)
    provider = name.partition("/")[0]
    if not name or is_path(name) or provider in ("replay", "scripted"):
        return ""
    if provider == "world":
        return "world"
    found = re.match(r"[a-z]{3,}", name.partition("@")[0].rpartition("/")[2].lower())
    return found.group() if found and found.group() not in _GENERIC else ""


def origin(name: str) -> str:
    """The model that a folder goes back to, as far as the papers of each say what it was made from."""
    for _ in range(8):
        made_from = _made_from(Path(name).expanduser()) if is_path(name) else ""
        if not made_from:
            break
        name = made_from
    return name


def _models(judge: str) -> Iterator[str]:
    """The members of a panel, the models of a judge's file, less strategies and their settings."""
    if judge.endswith((".yaml", ".yml")):
        try:
            said, _ = read_yaml(Path(judge).expanduser())
        except InputError:
            yield judge
            return
        roles = said.get("models") or {}
        named = [
            said.get("model", ""),
            *(said.get("panel") or ()),
            *(roles.values() if isinstance(roles, dict) else ()),
        ]
        for name in filter(None, named):
            yield from _models(str(name))
        return
    try:
        for member in members(judge) if "+" in judge and not is_path(judge) else [judge]:
            yield member if member.startswith("python/") else split_strategy(member)[0].partition("#")[0]
    except UnknownName:  # a name that data give their author, and no judge's
        yield judge


def _asks(model: str) -> bool:
    """Whether a member is a language model: what has a provider, or is a path."""
    return is_path(model) or model.partition("/")[0] in ("openai", "hf", "world", "smollm2", "replay", "scripted")


def identity(model: str) -> str:
    """What tells a model, function or rule from others: content where it lies on this machine, else its name."""
    if model.partition("?")[0] in TRUTH:
        return TRUTH[0]
    kind = next((w for w in WEIGHED if model.startswith(w)), "")
    path = model[len(kind) :].partition("?")[0]
    if kind or is_path(model):
        return _weights(Path(path).expanduser()) or model
    if model.startswith("python/"):
        file, _, function = model.removeprefix("python/").partition("?")[0].rpartition(":")
        place = Path(file).expanduser()
        return digest([file_digest(place), function]) if place.is_file() else model
    if model.startswith("openai/"):  # how it is asked does not change what it is
        address = model.partition("#")[0]
        return re.sub(r"\?.*", "", address)
    if model.startswith("world/"):
        from pippin.lm.hf import PACKAGED, locate

        return _weights(locate(model)) if model in PACKAGED else model
    return model


def _weights(place: Path) -> str:
    """The hash of the weights in a folder, or of a file; empty where there are none."""
    if place.is_file():
        return file_digest(place)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    return digest(sorted(file_digest(f) for f in files)) if files else ""


def _made_from(folder: Path) -> str:
    for name, key in ((RUN, "manifest"), ("adapter_config.json", ""), ("config.json", "")):
        try:
            papers: Any = json.loads((folder / name).read_text(encoding="utf-8"))
            papers = papers[key] if key else papers
        except (OSError, ValueError, KeyError, TypeError):
            continue
        said = papers if isinstance(papers, dict) else {}
        found = said.get("model") or said.get("base_model_name_or_path") or said.get("_name_or_path")
        if isinstance(found, str) and found and found != str(folder):
            return found
    return ""
