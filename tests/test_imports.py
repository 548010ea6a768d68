"""Importing Pippin changes nothing in the process, and its light parts stay light."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "pippin"
HEAVY = ("torch", "transformers", "numpy", "scipy", "pyarrow", "aiohttp")


def modules(under: str = "") -> list[str]:
    """Every module of Pippin, without importing any."""
    files = [file for file in (SOURCE / under).rglob("*.py") if file.name != "__main__.py"]
    names = [".".join(("pippin", *file.relative_to(SOURCE).with_suffix("").parts)) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What other libraries do when they are imported is theirs: they are loaded before the state is taken.
IMPORT_ALL = """
import importlib, json, logging, os, random, signal, sys, threading, warnings

for library in ("numpy", "scipy.stats", "torch", "transformers", "pyarrow", "aiohttp", "sqlalchemy", "pydantic"):
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        pass

def state():
    found = {
        "root handlers": [repr(handler) for handler in logging.root.handlers],
        "root level": logging.root.level,
        "environment": dict(os.environ),
        "path": list(sys.path),
        "warnings": repr(warnings.filters),
        "hook": repr(sys.excepthook),
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "random": repr(random.getstate()),
        "threads": threading.active_count(),
        "folder": os.getcwd(),
    }
    if "numpy" in sys.modules:
        import numpy
        found["numpy random"] = repr(numpy.random.get_state())
        found["numpy errors"] = repr(numpy.geterr())
    if "torch" in sys.modules:
        import torch
        found["torch"] = repr((
            torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_device(),
            torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
            torch.is_anomaly_enabled(), torch.initial_seed(), torch.get_rng_state().sum(),
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark,
        ))
    return found

before = state()
missing = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing[name] = error.name
after = state()
changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
print(json.dumps({"changed": changed, "missing": missing}))
"""


def test_importing_everything_changes_nothing():
    from pippin.core.catalog import EXTRAS

    found = json.loads(run(IMPORT_ALL, json.dumps(modules())).splitlines()[-1])
    assert found["changed"] == {}
    # Without an optional library its modules cannot be imported; anything else that is missing is a fault.
    assert {name: library for name, library in found["missing"].items() if library.split(".")[0] not in EXTRAS} == {}


@pytest.mark.parametrize("what", ["pippin", "core", "cli"])
def test_the_light_parts_load_nothing_heavy(what):
    names = {"pippin": ["pippin"], "core": modules("core"), "cli": ["pippin.app.cli"]}[what]
    if what == "cli" and not (SOURCE / "app" / "cli.py").exists():
        pytest.skip("there is no command line yet")
    code = f"import sys, {', '.join(names)}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert run(code).split() == []
