"""The architecture, held: who may import whom, read from the source, imports inside functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "pippin"

# In import order: a package may import itself and those before it.
LAYERS = ("core", "stats", "lm", "world", "data", "judge", "feedback", "align", "compare", "app")
LEAVES = (
    "data.readers", "data.recipes", "judge.strategies", "judge.judges", "feedback.builders", "align.methods",
    "compare.external",
)  # fmt: skip
DYNAMIC = ("core.catalog",)  # the only module that turns names into modules
NO_NAMES = ("utils", "util", "common", "helpers", "misc")
LONGEST = 400


def sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def module_name(root: Path, file: Path) -> str:
    """``align.methods.dpo``; empty for the package itself."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(root: Path, file: Path) -> Iterator[tuple[int, str]]:
    """Line and name (less ``pippin.``) of all that a file imports from Pippin, anywhere in it.

    ``from pippin.a import b`` gives ``a.b``, which is a module or something in one.
    """
    package = ["pippin", *file.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            found = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name.removeprefix("pippin.")) for name in found if name.startswith("pippin."))


def faults(root: Path) -> list[str]:
    """Every breach of the layers below ``root``, as ``file:line: what``."""
    found: list[str] = []
    for file in sources(root):
        module, place = module_name(root, file), file.relative_to(root)
        layer = module.split(".")[0]
        if layer in ("", "__main__"):  # the door of the package, which may open on anything
            continue
        if layer not in LAYERS:
            found.append(f"{place}:1: no layer is named {layer}")
            continue
        for line, name in imported(root, file):
            target = name.split(".")[0]
            if target in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
                found.append(f"{place}:{line}: {layer} imports {name}")
            folder = next((leaf for leaf in LEAVES if name.startswith(f"{leaf}.")), None)
            if folder and not module.startswith(f"{folder}."):
                found.append(f"{place}:{line}: {name} is a leaf, which core.catalog loads by name")
        if module not in DYNAMIC:
            found += [f"{place}:{line}: imports by name" for line in dynamic(file)]
    return found


def dynamic(file: Path) -> Iterator[int]:
    """Lines where modules of Pippin, or modules whose names are computed, are imported by name."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0] if node.args else None
            foreign = isinstance(first, ast.Constant) and not str(first.value).startswith("pippin")
            if name in ("import_module", "__import__") and not foreign:
                yield node.lineno


def test_every_module_keeps_to_its_layer():
    assert faults(SOURCE) == []


def test_no_module_is_a_drawer_for_odds_and_ends():
    assert [str(file) for file in sources(SOURCE) if file.stem in NO_NAMES or file.parent.name in NO_NAMES] == []


def test_no_module_is_long():
    lengths = {str(file.relative_to(SOURCE)): len(file.read_bytes().splitlines()) for file in sources(SOURCE)}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


def test_there_is_something_to_hold():
    assert {module_name(SOURCE, file).split(".")[0] for file in sources(SOURCE)} >= {"core", "lm", "align"}
    assert ("align.sources", "core.types") in {
        (module_name(SOURCE, file), ".".join(name.split(".")[:2]))
        for file in sources(SOURCE)
        for _, name in imported(SOURCE, file)
    }


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("core/a.py", "import pippin.stats.b", "core/a.py:1: core imports stats.b"),
        ("stats/a.py", "def f():\n    from pippin import judge", "stats/a.py:2: stats imports judge"),
        ("lm/a.py", "if TYPE_CHECKING:\n    from pippin.align.loop import L", "lm/a.py:2: lm imports align.loop.L"),
        ("data/a.py", "from ..judge import ask", "data/a.py:1: data imports judge.ask"),
        ("data/readers/a.py", "from ...judge.ask import Pair", "data/readers/a.py:1: data imports judge.ask.Pair"),
        ("extra/a.py", "", "extra/a.py:1: no layer is named extra"),
        ("align/loop.py", "from pippin.align.methods import dpo",
         "align/loop.py:1: align.methods.dpo is a leaf, which core.catalog loads by name"),
        ("judge/judges/a.py", "from pippin.judge.strategies.plain import STRATEGY",
         "judge/judges/a.py:1: judge.strategies.plain.STRATEGY is a leaf, which core.catalog loads by name"),
        ("app/a.py", "import importlib\nimportlib.import_module(f'pippin.{x}')", "app/a.py:2: imports by name"),
        ("app/a.py", "__import__('pippin.core')", "app/a.py:1: imports by name"),
    ],
)  # fmt: skip
def test_breaches_are_found(tmp_path, file, text, fault):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert faults(tmp_path) == [fault]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("align/a.py", "from pippin.core.types import Call\nfrom pippin import __version__\nimport torch"),
        ("align/methods/a.py", "from pippin.align.methods.sft import TERMS"),
        ("judge/a.py", "from . import ask\nfrom .ask import Pair"),
        ("core/catalog.py", "import importlib\nimportlib.import_module(name)"),
        ("lm/a.py", "import importlib\nimportlib.import_module('peft')"),
        ("__init__.py", "from pippin.app.cli import main"),
    ],
)
def test_what_is_allowed_is_not_a_breach(tmp_path, file, text):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert faults(tmp_path) == []
