"""A configuration class as a JSON schema, so that an editor completes its keys, shows its help and marks what is wrong.

Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, Json] = {
    bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"},
    Path: {"type": "string"}, type(None): {"type": "null"}, Any: {},
}  # fmt: skip


def schema(cls: type, leave_out: Sequence[str] = ()) -> Json:
    """The keys of the dataclass ``cls`` with their types, help and defaults; other keys are refused.

    Args:
        leave_out: fields that are not the user's to set.
    """
    hints = get_type_hints(cls)
    properties: Json = {}
    required = []
    for f in fields(cls):
        if not f.init or f.name in leave_out:
            continue
        properties[f.name] = {**of(hints[f.name]), "description": f.metadata.get("help", "")}
        if f.default is not MISSING and not is_dataclass(f.default):
            properties[f.name]["default"] = list(f.default) if isinstance(f.default, tuple) else f.default
        elif f.default is MISSING and f.default_factory is MISSING:
            required.append(f.name)
    out: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return out | ({"required": required} if required else {})


def of(kind: Any) -> Json:
    """The schema of one annotation.

    Raises:
        TypeError: a setting cannot be of this kind.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if isinstance(kind, type) and is_dataclass(kind):
        return schema(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of(member) for member in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if origin is tuple and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [of(a) for a in args], "minItems": len(args), "maxItems": len(args)}
    if (origin or kind) in (tuple, list, Sequence):
        return {"type": "array", "items": of(args[0]) if args else {}}
    if (origin or kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": of(args[1]) if args else True}
    raise TypeError(f"a setting cannot be a {kind!r}")
