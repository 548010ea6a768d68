"""A judge's name into a judge.

``gold``, ``rm/PATH``, ``implicit/PATH``, ``rule/longer``, ``simulated/NAME``, ``python/FILE.py:function``,
``recorded/FILE`` and every other ``KIND/...`` with a file of that kind in ``judges/``; all else is a model, perhaps
with a strategy after its last colon. Settings may follow as ``?key=value&key=value``. Models joined by ``+`` are a
panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Group
from pippin.judge.judging import Judging, Options
from pippin.judge.panel import Panel

if TYPE_CHECKING:
    from pippin.lm.protocols import Answers

SHORT = {"rm": "reward_model"}
"""Short names of kinds."""


def resolve(
    spec: str,
    *,
    strategy: str = "",
    parser: str = "",
    seed: int = 0,
    models: Mapping[str, Answers] | None = None,
    groups: Iterable[Group] = (),
    **settings: Any,
) -> Judging:
    """The judge that ``spec`` names. Loads what it needs: a model, a folder, a file.

    Raises:
        UnknownName: no such judge, strategy or setting; the nearest one is named.
        InputError: the name is empty, or what it points at cannot be read.
    """
    if not spec.strip():
        raise InputError("no judge is named", expected="MODEL, MODEL:STRATEGY, rm/PATH, rule/longer, gold ...")
    options = Options(strategy, parser, seed, models or {}, groups, settings)
    if "+" in spec and not is_path(spec):
        return Panel(tuple(_one(member, options) for member in members(spec)))
    return _one(spec, options)


def members(spec: str) -> list[str]:
    """The names in a panel; a strategy at the end of the last one counts for those that state none."""
    names = [name.strip() for name in spec.split("+")]
    _, strategy = split_strategy(names[-1])
    return [name if not strategy or split_strategy(name)[1] else f"{name}:{strategy}" for name in names]


def split_strategy(spec: str) -> tuple[str, str]:
    """(model, strategy): what follows the last colon is a strategy only if it names one."""
    model, colon, last = spec.rpartition(":")
    return (model, last) if colon and last in catalog.names("strategies") else (spec, "")


def is_path(spec: str) -> bool:
    """What starts with ``.``, ``/`` or ``~`` is a path."""
    return spec.startswith((".", "/", "~"))


def _one(spec: str, options: Options) -> Judging:
    head, slash, rest = spec.partition("/")
    name, _, query = head.partition("?")
    leaf = SHORT.get(name, name)
    kinds = set(catalog.names("judges")) - {"llm"}
    if is_path(spec) or leaf not in kinds:
        return _model(spec, name, kinds, options)
    if slash:
        rest, _, query = rest.partition("?")
    stated = dict(parse_qsl(query, keep_blank_values=True))
    return catalog.load("judges", leaf)(rest, replace(options, settings={**stated, **options.settings}))


def _model(spec: str, name: str, kinds: set[str], options: Options) -> Judging:
    try:
        return catalog.load("judges", "llm")(spec, options)
    except UnknownName:
        shown = [*(kinds - set(SHORT.values())), *SHORT]
        if get_close_matches(name, shown, n=1):
            raise UnknownName("judge", name, shown) from None
        raise
