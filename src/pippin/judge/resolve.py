"""A judge's name into a judge.

``gold``, ``rm/PATH``, ``implicit/PATH``, ``rule/longer``, ``simulated/NAME``, ``python/FILE.py:function``,
``recorded/FILE`` and every other ``KIND/...`` with a file of that kind in ``judges/``; all else is a model, perhaps
with a strategy after its last colon. Settings may follow as ``?key=value&key=value``. Models joined by ``+`` are a
panel. A YAML file says the rest::

    model: openai/gpt-4o-mini            # or: panel: [JUDGE, JUDGE], weights: [2, 1]
    strategy: metrics_reference
    parser: pippin-2
    models: {reference: openai/gpt-4o}   # who answers in another role
    settings: {thinking: 2000}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pippin.core import catalog
from pippin.core.config import build, read_yaml, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Group
from pippin.judge.judging import Judging, Options
from pippin.judge.panel import Panel

if TYPE_CHECKING:
    from pippin.lm.protocols import Answers

SHORT = {"rm": "reward_model"}
"""Short names of kinds."""


@dataclass(frozen=True)
class JudgeFile:
    """The keys of a judge's YAML file: either ``model`` or ``panel``."""

    model: str = setting("", "The model that judges")
    strategy: str = setting("", "How it is asked")
    parser: str = setting("", "What reads its verdicts")
    models: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    panel: tuple[str, ...] = setting((), "Judges of a panel")
    weights: tuple[float, ...] = setting((), "Weights of their votes")


def resolve(
    spec: str,
    *,
    strategy: str = "",
    parser: str = "",
    seed: int = 0,
    models: Mapping[str, Answers] | None = None,
    groups: Iterable[Group] = (),
    budget: float | None = None,
    progress: Callable[[Any], None] | None = None,
    roles: Mapping[str, str] | None = None,
    **settings: Any,
) -> Judging:
    """The judge that ``spec`` names. Loads what it needs: a model, a folder, a file.

    ``models`` are at hand by name; ``roles`` name who answers in another role than the judge's own.

    Raises:
        UnknownName: no such judge, strategy or setting; the nearest one is named.
        InputError: the name is empty, or what it points at cannot be read.
    """
    if not spec.strip():
        raise InputError("no judge is named", expected="MODEL, MODEL:STRATEGY, rm/PATH, rule/longer, gold ...")
    settings |= {"models": dict(roles)} if roles else {}
    return _any(spec, Options(strategy, parser, seed, models or {}, groups, settings, budget, progress))


def members(spec: str) -> list[str]:
    """The names in a panel; a strategy at the end of the last one counts for those that state none."""
    names = [name.strip() for name in spec.split("+")]
    strategy = split_strategy(names[-1])[1]
    return [name if not strategy or split_strategy(name)[1] else f"{name}:{strategy}" for name in names]


def split_strategy(spec: str) -> tuple[str, str, dict[str, str]]:
    """(model, strategy, settings): what follows the last colon is a strategy only if it names one.

    Raises:
        UnknownName: it is nearly a strategy's name, and no address or model has a colon there.
    """
    model, colon, last = spec.rpartition(":")
    name, _, query = last.partition("?")
    if colon and name in catalog.names("strategies"):
        return model, name, dict(parse_qsl(query, keep_blank_values=True))
    if colon and get_close_matches(name, catalog.names("strategies"), n=1, cutoff=0.8):
        raise UnknownName("strategy", name, catalog.names("strategies"), where=spec)
    return spec, "", {}


def is_path(spec: str) -> bool:
    """What starts with ``.``, ``/`` or ``~`` is a path."""
    return spec.startswith((".", "/", "~"))


def _any(spec: str, options: Options) -> Judging:
    if spec.endswith((".yaml", ".yml")):
        return _file(Path(spec).expanduser(), options)
    if "+" in spec and not is_path(spec) and spec not in options.models:
        return _panel(members(spec), (), options)
    return _one(spec, options)


def _panel(specs: Sequence[str], weights: Sequence[float], options: Options) -> Judging:
    return Panel(tuple(_any(member, options) for member in specs), weights)


def _file(path: Path, options: Options) -> Judging:
    stated, lines = read_yaml(path)
    said = build(JudgeFile, stated, where=str(path), lines=lines)
    if bool(said.model) == bool(said.panel):
        raise InputError("a judge is either a model or a panel", where=str(path), expected="model: or panel:, not both")
    options = replace(options, strategy=options.strategy or said.strategy, parser=options.parser or said.parser)
    if said.panel:
        return _panel(said.panel, said.weights, options)
    settings = {**said.settings, **({"models": said.models} if said.models else {}), **options.settings}
    return _one(said.model, replace(options, settings=settings))


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
