"""What a stage or an arm says: three kinds of work, their keys, and ``$NAME`` for what stands elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName

Json = dict[str, Any]
REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
STAGE_KEYS = {
    "train": ("method", "model", "data", "prompts", "reward", "feedback", "template"),
    "feedback": ("respond", "prompts", "n", "judge", "orders", "temperature", "max_tokens"),
    "use": ("use", "template"),
}
EVALUATION_KEYS = ("prompts_test", "decoding", "max_tokens", "template", "judge")
DECODING_KEYS = ("temperature", "top_p", "n", "max_tokens")

SCORING = ("gold", "rm", "reward_model", "implicit", "python")


def judge_scores(judge: str) -> bool:
    """Whether a judge gives numbers to single responses (else it compares pairs)."""
    head, _, rest = judge.partition("?")[0].partition("/")
    return head in SCORING or (head == "rule" and rest in ("longer", "shorter", "length"))


def kind_of(spec: Mapping[str, Any]) -> str:
    """``train``, ``feedback`` or ``use``: what a stage or an arm does; empty where it says nothing."""
    return next(
        (kind for kind, key in (("use", "use"), ("feedback", "respond"), ("train", "method")) if key in spec), ""
    )


def split_settings(spec: Mapping[str, Any]) -> tuple[Json, Json]:
    """(inputs of a training stage and how it is evaluated, settings of its method) of one mapping."""
    structural = {*STAGE_KEYS["train"], *EVALUATION_KEYS}
    return {k: v for k, v in spec.items() if k in structural}, {k: v for k, v in spec.items() if k not in structural}


def references(value: Any) -> set[str]:
    """The names that ``$NAME`` stands for anywhere in a value."""
    if isinstance(value, str):
        return set(REFERENCE.findall(value))
    if isinstance(value, Mapping):
        return references(list(value.values()))
    return set().union(*map(references, value)) if isinstance(value, (list, tuple)) else set()


def substitute(value: Any, names: Mapping[str, Any]) -> Any:
    """``$NAME`` in texts, lists and mappings replaced by what ``names`` says; a text that is nothing else by the value.

    Raises:
        UnknownName: a name is not there.
    """
    if isinstance(value, str):

        def replacement(found: re.Match[str]) -> str:
            if found[1] not in names:
                raise UnknownName("stage or axis", found[1], names)
            return str(names[found[1]])

        whole = REFERENCE.fullmatch(value)
        if whole and whole[1] in names:
            return names[whole[1]]
        return REFERENCE.sub(replacement, value)
    if isinstance(value, Mapping):
        return {k: substitute(v, names) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute(v, names) for v in value]
    return value


def check(name: str, spec: Any, names: Iterable[str], where: str, *, arm: bool = False) -> None:
    """Refuse a stage or an arm that does not say what it does, or has a key or setting that is not known.

    Args:
        names: stages and axes that it may refer to.
        arm: whether it also says how it is evaluated.

    Raises:
        InputError, UnknownName: with ``where``.
    """
    if not isinstance(spec, Mapping) or not kind_of(spec):
        raise InputError(
            f"{name!r} does not say what it does", where=where, found=spec, expected="method, respond or use"
        )
    for found in sorted(references(spec)):
        if found not in names:
            raise UnknownName("stage or axis", found, names, where=where)
    if arm:
        _check_decoding(spec.get("decoding"), where)
    kind = kind_of(spec)
    if kind != "train":
        allowed = {*STAGE_KEYS[kind], *(EVALUATION_KEYS if arm else ())}
        for key in spec:
            if key not in allowed:
                raise UnknownName(f"key of {name}", str(key), allowed, where=where)
        return
    if references(spec["method"]):
        return
    if spec["method"] not in catalog.names("methods"):
        raise UnknownName("method", str(spec["method"]), catalog.names("methods"), where=where)
    from pippin.align.settings import Settings

    _, own = split_settings(spec)
    if "seed" in own:
        raise InputError("a seed is no setting of an arm", where=where, found=own["seed"], mend="Give the study seeds")
    settled = {k: v for k, v in own.items() if not references(v)}
    Settings.of(spec["method"], catalog.load("methods", spec["method"]), settled, where=where)


def _check_decoding(decoding: Any, where: str) -> None:
    """A way of answering is a name, or some of :data:`DECODING_KEYS`."""
    if decoding is None or isinstance(decoding, str):
        return
    if not isinstance(decoding, Mapping):
        raise InputError("decoding says nothing", where=where, found=decoding, expected="greedy, or {temperature: 0.7}")
    for key in decoding:
        if key not in DECODING_KEYS:
            raise UnknownName("key of decoding", str(key), DECODING_KEYS, where=where)
