"""Names of leaves: the one place where a name becomes an object.

A leaf is one file in a leaf folder; the file's name is its registration. :func:`entries` reads files without running
them; :func:`load` imports the one that is asked for and takes its attribute (``METHOD`` of ``align/methods/dpo.py``).
A file that defines ``FAMILY = {"name": "one line"}`` holds several leaves: its attribute is a dict with these keys.

Other packages add leaves by entry points (group ``pippin.methods``; the value is a module, or ``module:object``), a
user adds one file by :func:`use_file`. Two leaves of one name are an error, wherever they come from.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from pippin.core.errors import InputError, MissingExtra, PippinError, UnknownName


@dataclass(frozen=True)
class Kind:
    """A leaf folder, and the attribute that its files define."""

    package: str
    attribute: str


KINDS: Mapping[str, Kind] = {
    "readers": Kind("pippin.data.readers", "READER"),
    "recipes": Kind("pippin.data.recipes", "RECIPE"),
    "builders": Kind("pippin.feedback.builders", "BUILDER"),
    "strategies": Kind("pippin.judge.strategies", "STRATEGY"),
    "judges": Kind("pippin.judge.judges", "JUDGE"),
    "methods": Kind("pippin.align.methods", "METHOD"),
    "external": Kind("pippin.compare.external", "EXTERNAL"),
    "benchmarks": Kind("pippin.data.readers", "BENCHMARK"),  # the readers that define one
}

# Which extra of Pippin brings an optional library.
EXTRAS: Mapping[str, str] = {
    "torch": "hf", "transformers": "hf", "tokenizers": "hf", "safetensors": "hf", "peft": "peft", "gguf": "gguf",
    "psycopg": "pg", "openpyxl": "xlsx", "inspect_ai": "inspect", "lm_eval": "bench",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One leaf as a listing shows it: its summary and source come from its file's docstring, ``path`` is that file."""

    name: str
    summary: str
    source: str
    path: str


@dataclass(frozen=True)
class _Leaf:
    entry: Entry
    module: str  # empty for a user's own file
    family: bool = False
    value: str = ""  # the object that an entry point names, where it names one


_user_files: dict[Path, frozenset[str]] = {}  # file -> attributes that it defines


def kind_names() -> tuple[str, ...]:
    """All kinds of leaves."""
    return tuple(KINDS)


def entries(kind: str) -> list[Entry]:
    """All leaves of a kind by name, those of other packages and of the user included. Imports none of them.

    Raises:
        UnknownName: there is no such kind.
        InputError: two leaves have one name, or a file is not Python.
    """
    return [leaf.entry for _, leaf in sorted(_leaves(kind).items())]


def names(kind: str) -> list[str]:
    """The names of all leaves of a kind, sorted."""
    return sorted(_leaves(kind))


def load(kind: str, name: str) -> Any:
    """The object that the leaf ``name`` defines.

    Raises:
        UnknownName: no leaf has this name; the nearest one is named.
        MissingExtra: the leaf needs an optional library that is not installed.
        InputError: the file does not define what its folder asks for, or a user's own file fails when it is run.
    """
    leaves = _leaves(kind)
    if name not in leaves:
        mend = f"`pippin list {kind}` shows all." if leaves else ""
        raise UnknownName(kind.removesuffix("s").replace("strategie", "strategy"), name, leaves, mend=mend)
    leaf, attribute = leaves[name], KINDS[kind].attribute
    module = _import(leaf, f"{kind}/{name}")
    wanted = leaf.value if leaf.value and kind != "benchmarks" else attribute
    found = module
    for part in wanted.split("."):
        if not hasattr(found, part):
            raise InputError(f"{kind}/{name} defines no {wanted}", where=leaf.entry.path)
        found = getattr(found, part)
    if not leaf.family:
        return found
    if not isinstance(found, Mapping) or name not in found:
        raise InputError(f"{attribute} has no {name!r}, which FAMILY names", where=leaf.entry.path)
    return found[name]


def use_file(path: str | Path) -> list[str]:
    """Add a user's own leaf, one file that defines ``READER``, ``RECIPE``, ``METHOD`` ...; known by the file's name.

    Returns:
        What it added, as ``kind/name``. The file runs only when one of these is loaded.

    Raises:
        InputError: the file cannot be read, is not Python, defines no leaf, or has the name of another leaf.
    """
    file = Path(path).expanduser().resolve()
    tree = _parse(file)
    defined = frozenset(kind.attribute for kind in KINDS.values()) & _assigned(tree).keys()
    if not defined:
        raise InputError("defines no leaf", where=str(path), expected=" or ".join(k.attribute for k in KINDS.values()))
    before = dict(_user_files)
    _user_files[file] = defined
    _leaves.cache_clear()
    try:
        return [
            f"{kind}/{name}"
            for kind in KINDS
            for name, leaf in sorted(_leaves(kind).items())
            if leaf.entry.path == str(file)
        ]
    except InputError:
        _user_files.clear()
        _user_files.update(before)
        _leaves.cache_clear()
        raise


@cache
def _leaves(kind: str) -> dict[str, _Leaf]:
    if kind not in KINDS:
        raise UnknownName("kind of leaf", kind, KINDS)
    found: dict[str, _Leaf] = {}
    benchmarks = kind == "benchmarks"
    for leaf in [*_built_in(KINDS[kind]), *_entry_points("readers" if benchmarks else kind), *_own(KINDS[kind])]:
        if benchmarks and not _defines(leaf, "BENCHMARK"):
            continue
        other = found.setdefault(leaf.entry.name, leaf)
        if other.entry.path != leaf.entry.path:
            raise InputError(f"two {kind} are named {leaf.entry.name!r}", where=leaf.entry.path,
                             found=other.entry.path, mend="Rename one of them")  # fmt: skip
    return found


def _built_in(kind: Kind) -> list[_Leaf]:
    _, *parts = kind.package.split(".")
    folder = Path(__file__).resolve().parents[1].joinpath(*parts)
    files = sorted(file for file in folder.glob("*.py") if not file.stem.startswith("_"))
    return [leaf for file in files for leaf in _read(file, f"{kind.package}.{file.stem}")]


def _own(kind: Kind) -> list[_Leaf]:
    return [leaf for file, defined in _user_files.items() if kind.attribute in defined for leaf in _read(file, "")]


def _entry_points(kind: str) -> list[_Leaf]:
    leaves: list[_Leaf] = []
    for point in importlib.metadata.entry_points(group=f"pippin.{kind}"):
        path = _source_file(point.module)
        summary, source = _describe(_parse(path)) if path else ("", "")
        entry = Entry(point.name, summary, source, str(path or point.value))
        leaves.append(_Leaf(entry, point.module, value=point.attr))
    return leaves


def _source_file(module: str) -> Path | None:
    """Where ``module`` lies, found without importing the packages around it."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for index in range(len(rest)):
        if spec is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: index + 1]]), spec.submodule_search_locations)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _read(file: Path, module: str) -> list[_Leaf]:
    """The leaves that one file holds."""
    tree = _parse(file)
    summary, source = _describe(tree)
    family = _assigned(tree).get("FAMILY")
    if family is None:
        return [_Leaf(Entry(file.stem, summary, source, str(file)), module)]
    try:
        lines = ast.literal_eval(family) if isinstance(family, ast.expr) else None
    except (ValueError, TypeError):
        lines = None
    if not isinstance(lines, dict) or not all(isinstance(text, str) for pair in lines.items() for text in pair):
        raise InputError("FAMILY is not written out", where=f"{file}:{family.lineno}",
                         expected='a literal {"name": "one line"}')  # fmt: skip
    return [_Leaf(Entry(name, line, source, str(file)), module, family=True) for name, line in lines.items()]


def _describe(tree: ast.Module) -> tuple[str, str]:
    """Summary (the docstring's first line) and source (its ``Source:`` line, with the indented lines that follow)."""
    lines = inspect.cleandoc(ast.get_docstring(tree, clean=False) or "").splitlines()
    source: list[str] = []
    for line in lines:
        if source and line.startswith(" "):
            source.append(line.strip())
        elif source:
            break
        elif line.startswith("Source:"):
            source.append(line.removeprefix("Source:").strip())
    return (lines[0].strip() if lines else ""), " ".join(filter(None, source))


def _defines(leaf: _Leaf, attribute: str) -> bool:
    path = Path(leaf.entry.path)
    if not path.is_file():
        return False
    value = _assigned(_parse(path)).get(attribute)
    if leaf.family and isinstance(value, ast.Dict):  # a family need not define it for every member
        return any(isinstance(key, ast.Constant) and key.value == leaf.entry.name for key in value.keys)
    return value is not None


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(file)) from None
    except SyntaxError as error:
        where = f"{file}:{error.lineno}" if error.lineno else str(file)
        raise InputError(f"not Python: {error.msg}", where=where) from None
    except ValueError as error:
        raise InputError(f"not Python: {error}", where=str(file)) from None


def _assigned(tree: ast.Module) -> dict[str, ast.expr | ast.stmt]:
    """The names that the module binds at its top level, with the value or the statement that binds them."""
    found: dict[str, ast.expr | ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: node for alias in node.names})
    return found


def _import(leaf: _Leaf, title: str) -> ModuleType:
    ours = leaf.module.startswith("pippin.")
    try:
        return importlib.import_module(leaf.module) if leaf.module else _import_file(Path(leaf.entry.path))
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in EXTRAS:
            raise MissingExtra(library, EXTRAS[library], title) from error
        if ours:
            raise
        raise InputError(f"{title} needs {error.name}, which is not installed", where=leaf.entry.path,
                         mend=f"Install {library}, or mend the import") from error  # fmt: skip
    except Exception as error:
        if ours or isinstance(error, PippinError):
            raise
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == leaf.entry.path
        ]
        where = f"{leaf.entry.path}:{lines[-1]}" if lines else leaf.entry.path
        raise InputError(f"fails when it is run: {type(error).__name__}: {error}", where=where) from error


def _import_file(file: Path) -> ModuleType:
    name = f"_pippin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", where=str(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
