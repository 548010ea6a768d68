"""The method that CONTRIBUTING.md shows is a method: found by its file, run by the loop, right in its loss."""

import re
from pathlib import Path

import pytest

from pippin.align import loop
from pippin.core import catalog

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(autouse=True)
def no_trace():
    """What a test adds to the catalog is gone after it."""
    yield
    catalog._user_files.clear()
    catalog._leaves.cache_clear()


def test_the_method_of_the_guide_runs_from_a_file_of_ones_own(make_bench, tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "ipo_of_the_guide.py"
    file.write_text(code)
    assert catalog.use_file(file) == ["methods/ipo_of_the_guide"]
    assert "ipo_of_the_guide" in catalog.names("methods")
    lines = []
    bench = make_bench("ipo_of_the_guide", tau=0.5, num_train_epochs=2, learning_rate=1e-3, logging_steps=1)
    loop.train(bench.method, bench.context, bench.networks, log=lines.append)
    assert lines[0]["loss"] == pytest.approx(1.0, abs=1e-5)  # h = 0 at the start, target 1 / (2 tau) = 1
    assert lines[1]["loss"] != lines[0]["loss"]
