"""Settings: one frozen dataclass per part makes the command line's flag, the file's key and the table in the docs.

A class declares its fields with :func:`setting`; :func:`build` fills it from a mapping (a YAML file, flags, or both)
and says what is wrong in one line that names the key and, where known, the file and line; :func:`describe` lists it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pippin.core.errors import InputError, UnknownName

T = TypeVar("T")


def setting(default: Any = MISSING, help: str = "") -> Any:
    """A dataclass field with a sentence of help. Without a default it is required. Lists and dicts are copied."""
    if isinstance(default, (list, dict, set)):
        return field(default_factory=default.copy, metadata={"help": help})
    return field(default=default, metadata={"help": help})


class Setting(NamedTuple):
    """One row of the docs: ``name`` is dotted where settings nest; ``type`` is in words, ``annotation`` for code."""

    name: str
    type: str
    default: Any  # ``dataclasses.MISSING`` where required
    help: str
    annotation: Any

    @property
    def required(self) -> bool:
        return self.default is MISSING


def describe(cls: type) -> list[Setting]:
    """All settings of ``cls`` in the order of its fields, those of nested classes under dotted names."""
    rows: list[Setting] = []
    hints = _hints(cls)
    for f in fields(cls):
        if not f.init:
            continue
        annotation = hints[f.name]
        if _is_config(annotation):
            rows += [row._replace(name=f"{f.name}.{row.name}") for row in describe(annotation)]
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        rows.append(Setting(f.name, _name(annotation), default, f.metadata.get("help", ""), annotation))
    return rows


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML (or JSON) file, and the line of each dotted key in it (``stages.0.method``).

    YAML 1.2 rules: ``1e-5`` is a number; ``yes``, ``no``, ``on``, dates and ``12:30`` are text; ``010`` is ten.

    Raises:
        InputError: the file cannot be read, is no mapping, or gives one key twice.
    """
    from pippin.core import yaml12  # PyYAML is loaded only where a file is read

    return yaml12.read(Path(path))


@dataclass(frozen=True)
class _Place:
    """Where a value stands: its file, the lines of the file's keys, and the dotted key."""

    file: str
    lines: Mapping[str, int]
    key: str = ""

    def at(self, key: object) -> _Place:
        return _Place(self.file, self.lines, f"{self.key}.{key}" if self.key else str(key))

    def __str__(self) -> str:
        """``file:line: key``, with the line of the nearest enclosing key that has one."""
        parts = self.key.split(".") if self.key else []
        known = (self.lines.get(".".join(parts[:n])) for n in range(len(parts), 0, -1))
        line = next((number for number in known if number), None)
        file = f"{self.file}:{line}" if self.file and line else self.file
        return ": ".join(filter(None, [file, self.key]))


def build(
    cls: type[T], mapping: Mapping[str, Any], where: str = "", *, lines: Mapping[str, int] | None = None, at: str = ""
) -> T:
    """An instance of the dataclass ``cls`` from ``mapping``.

    Values may be of the field's type or text as flags give it (``"1e-5"``, ``"true"``, ``"0,1,2"``, ``"none"``). A
    dotted key (``decoding.temperature``) reaches into a nested class and wins over the nested mapping of the same name,
    so that flags laid over a file need no merging by the caller.

    Args:
        where: the file, for messages.
        lines: the line of each dotted key of that file, from :func:`read_yaml`.
        at: the dotted key under which ``mapping`` stands in that file.

    Raises:
        UnknownName: a key is no field of ``cls``; the nearest field is named.
        InputError: a value is of the wrong type, a required key is missing, or the class itself refuses the values.
    """
    return _build(cls, mapping, _Place(where, lines or {}, at))


def _build(cls: type[T], mapping: object, place: _Place) -> T:
    if isinstance(mapping, cls):
        return mapping
    if not isinstance(mapping, Mapping):
        raise InputError("not a set of keys", where=str(place), found=mapping, expected=", ".join(_known(cls)))
    hints, values = _hints(cls), _nested(mapping)
    for name in values:
        if name not in _known(cls):
            raise UnknownName("setting", str(name), _known(cls), where=str(place.at(name)))
    made: dict[str, Any] = {}
    for f in fields(cls):  # pyright: ignore[reportArgumentType]
        if f.name in values and f.init:
            made[f.name] = _convert(hints[f.name], values[f.name], place.at(f.name))
        elif f.init and f.default is MISSING and f.default_factory is MISSING:
            mend = f.metadata.get("help", "")
            raise InputError(f"the setting {f.name!r} is missing", where=str(place), expected=_name(hints[f.name]),
                             mend=mend)  # fmt: skip
    try:
        return cls(**made)
    except InputError as error:
        if error.where:
            raise
        raise InputError(error.what, where=str(place), found=error.found, expected=error.expected,
                         mend=error.mend) from None  # fmt: skip
    except ValueError as error:
        raise InputError(str(error), where=str(place)) from None


def _nested(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``; a dotted key wins over what stands at ``a``."""
    flat = {key: value for key, value in mapping.items() if not (isinstance(key, str) and "." in key)}
    for key, value in mapping.items():
        if key not in flat and isinstance(key, str):
            head, rest = key.split(".", 1)
            inner = flat.get(head)
            flat[head] = {**(inner if isinstance(inner, Mapping) else {}), rest: value}
    return flat


def _convert(kind: Any, value: Any, place: _Place) -> Any:
    """``value`` as the annotation ``kind`` says, or an InputError that names the key."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if _is_config(kind):
        return _build(kind, value, place)
    if origin in (Union, types.UnionType):
        return _convert_union(args, kind, value, place)
    if origin is Literal:
        return _convert_literal(args, value, place)
    if origin is tuple or kind is tuple or _base(kind) in (list, Sequence):
        return _convert_sequence(kind, args, value, place)
    if _base(kind) in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, place)
        inner = args[1] if args else Any
        return {key: _convert(inner, item, place.at(key)) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        value = value.value if isinstance(value, kind) else value
        return kind(_convert_literal(tuple(member.value for member in kind), value, place))
    converted = _scalar(kind, value)
    if converted is MISSING:
        raise _wrong(kind, value, place)
    return converted


def _scalar(kind: Any, value: Any) -> Any:
    """``value`` as a ``kind`` of bool, int, float, str or Path; MISSING where it is none."""
    text = value.strip().lower() if isinstance(value, str) else None
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(text or "", MISSING)
    if kind is str:
        return value if isinstance(value, str) else MISSING
    if kind is Path:
        return Path(value) if isinstance(value, (str, Path)) else MISSING
    if kind not in (int, float):
        raise TypeError(f"a setting cannot be a {kind!r}")
    if text is not None:
        value = _number(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return MISSING
    if kind is float:
        return float(value)
    return int(value) if math.isfinite(value) and value == int(value) else MISSING


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _convert_union(args: tuple[Any, ...], kind: Any, value: Any, place: _Place) -> Any:
    """The first member that takes the value as it is; text is read as another type only where no member is text."""
    if type(None) in args and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
        return None
    members = [member for member in args if member is not type(None)]
    if len(members) == 1:
        return _convert(members[0], value, place)
    members.sort(key=lambda member: member is not type(value))
    for member in members:
        try:
            return _convert(member, value, place)
        except InputError:
            continue
    raise _wrong(kind, value, place)


def _convert_literal(allowed: tuple[Any, ...], value: Any, place: _Place) -> Any:
    for option in allowed:
        if option == value and type(option) is type(value):
            return option
    for option in allowed:  # a flag is always text
        if isinstance(value, str) and not isinstance(option, str) and str(option).lower() == value.lower():
            return option
    if isinstance(value, str):
        raise UnknownName("value", value, [str(option) for option in allowed], where=str(place))
    raise InputError("not one of the allowed values", where=str(place), found=value,
                     expected=" or ".join(map(str, allowed)))  # fmt: skip


def _convert_sequence(kind: Any, args: tuple[Any, ...], value: Any, place: _Place) -> Any:
    make = tuple if _base(kind) is tuple else list
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    if not isinstance(value, Sequence):
        raise _wrong(kind, value, place)
    if make is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise _wrong(kind, value, place)
        return tuple(_convert(a, item, place.at(i)) for i, (a, item) in enumerate(zip(args, value, strict=True)))
    inner = args[0] if args else Any
    return make(_convert(inner, item, place.at(i)) for i, item in enumerate(value))


def _wrong(kind: Any, value: Any, place: _Place) -> InputError:
    quoted = kind is str and isinstance(value, (int, float))
    return InputError("wrong type", where=str(place), found=value, expected=_name(kind),
                      mend="Put it in quotes" if quoted else "")  # fmt: skip


def _base(kind: Any) -> Any:
    return get_origin(kind) or kind


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _known(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.init)


_WORDS: dict[Any, str] = {
    int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", type(None): "none",
    Any: "anything",
}  # fmt: skip


def _name(kind: Any) -> str:
    """An annotation in words: ``number``, ``"sum" or "mean"``, ``list of whole number``."""
    args = get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return " or ".join(repr(a) for a in args)
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_name(a) for a in args)
    if _base(kind) is tuple and args and args[-1] is not Ellipsis:
        return f"list of {len(args)}: {', '.join(_name(a) for a in args)}"
    if _base(kind) in (list, tuple, Sequence):
        return f"list of {_name(args[0])}" if args else "list"
    if _base(kind) in (dict, Mapping):
        return f"{_name(args[0])} to {_name(args[1])}" if args else "set of keys"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(repr(member.value) for member in kind)
    return getattr(kind, "__name__", str(kind))
