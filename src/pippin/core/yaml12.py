"""YAML files by the rules of YAML 1.2, with the line of every key.

PyYAML speaks YAML 1.1, where ``1e-5`` is text, ``no`` is false and ``12:30`` is 750. Its safe loader is used here with
the implicit types of the 1.2 core schema (yaml.org/spec/1.2.2, section 10.3.2) and nothing else; merge keys (``<<``)
are kept because people use them.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from pippin.core.errors import InputError


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)


def _resolve(tag: str, pattern: str, first: Iterable[str]) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_resolve("null", r"~|null|Null|NULL|", ["", "~", "n", "N"])
_resolve("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_resolve(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)",
    "-+.0123456789",
)
_resolve("merge", "<<", "<")


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """See :func:`pippin.core.config.read_yaml`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8", where=f"{path}", found=f"byte {error.start}", mend="Save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        _walk(loader, node, "", str(path), lines, {})
        value = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"not YAML: {error.problem or error.context}", where=where) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"not YAML: {error}", where=str(path)) from None
    if not isinstance(value, dict):
        raise InputError("not a mapping", where=str(path), found=value, expected="lines of `key: value`")
    return value, lines


def _walk(loader: _Loader, node: yaml.Node, key: str, path: str, lines: dict[str, int], done: dict[int, bool]) -> None:
    """Record the lines of the keys below ``node``; refuse keys given twice and nodes that hold themselves.

    ``done`` maps the nodes met to whether they are complete. An alias is walked once, so that a file of nested aliases
    (the "billion laughs") costs what it weighs.
    """
    if isinstance(node, yaml.ScalarNode):
        return
    if id(node) in done:
        if not done[id(node)]:
            raise InputError("an alias refers to what holds it", where=f"{path}:{node.start_mark.line + 1}")
        return
    done[id(node)] = False
    if isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError("a key is no single word", where=f"{path}:{line}")
            name: Any = "<<" if key_node.tag.endswith(":merge") else loader.construct_object(key_node)
            if name in seen:
                raise InputError(f"the key {name!r} is given twice", where=f"{path}:{line}", found=f"line {seen[name]}",
                                 mend="Keep one of them")  # fmt: skip
            seen[name] = line
            dotted = f"{key}.{name}" if key else str(name)
            lines[dotted] = line
            _walk(loader, value_node, dotted, path, lines, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            dotted = f"{key}.{index}" if key else str(index)
            lines[dotted] = item.start_mark.line + 1
            _walk(loader, item, dotted, path, lines, done)
    done[id(node)] = True
