"""The public names are all there, documented with shapes and source, and light to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from pippin import stats


def test_all_is_complete() -> None:
    here = {name for name, value in vars(stats).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert here == set(stats.__all__)
    assert len(stats.__all__) == len(set(stats.__all__))


def test_no_public_function_of_a_module_is_forgotten() -> None:
    """What takes arrays and gives Estimates is exported; the machinery beneath is not."""
    machinery = {"resampling", "intervals", "decisions"}  # the last is used by its own name
    inner = {"verdicts", "kept_rows", "error_parts"}
    for path in Path(stats.__path__[0]).glob("*.py"):
        if path.stem in machinery | {"__init__"}:
            continue
        module = sys.modules[f"pippin.stats.{path.stem}"]
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "") == module.__name__
            if own and not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
                assert name in set(stats.__all__) | inner, f"{path.stem}.{name}"


@pytest.mark.parametrize("name", stats.__all__)
def test_docstrings_name_shapes_and_source(name: str) -> None:
    value = getattr(stats, name)
    text = inspect.getdoc(value)
    assert text
    if inspect.isfunction(value):
        assert "Source:" in text, "where it comes from"
        assert "Raises:" in text, "what it refuses"
        assert any(mark in text for mark in ("shape (", "(N,)", "scalar")), "the shapes of its arguments"
        named = list(inspect.signature(value).parameters)
        if "Args:" in text:
            assert [p for p in named if f"{p}:" not in text] == []
    else:
        assert is_dataclass(value)


def test_import_is_light() -> None:
    heavy = "('torch', 'transformers', 'statsmodels', 'pandas')"
    code = f"import sys, pippin.stats; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
