"""Environments of other libraries under ``.oracle``, made once; a script inside one answers in lines of JSON."""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for oracle_rows.py

HOMES = Path(__file__).parents[2] / ".oracle"
TORCH = ("torch", "torchgen", "functorch", "nvidia", "triton", "torch-*.dist-info", "triton-*.dist-info")


@pytest.fixture(scope="session")
def environment() -> Callable[..., Path]:
    """``environment(name, *packages)``: the interpreter of an environment that holds these packages."""

    def make(name: str, *packages: str) -> Path:
        home = HOMES / name
        python = home / "bin" / "python"
        HOMES.mkdir(exist_ok=True)
        with (HOMES / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making it now
            if not (home / "ready").exists():
                subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
                (site,) = (home / "lib").glob("python3.*/site-packages")
                (site / "torch.pth").write_text(f"{_shared_torch()}\n")
                install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
                said = subprocess.run(install, capture_output=True, text=True)
                if said.returncode:
                    last = said.stderr.strip().splitlines()[-1:] or ["no message"]
                    pytest.skip(f"{' '.join(packages)} cannot be installed: {last[0]}")
                (home / "ready").touch()
        return python

    return make


@pytest.fixture(scope="session")
def ask(tmp_path_factory) -> Iterator[Callable[..., list[Any]]]:
    """``ask(python, script, jobs)``: the answers of a script of this folder, one a job. It starts once and stays."""
    running: dict[str, subprocess.Popen[str]] = {}
    errors = tmp_path_factory.mktemp("oracle")

    def tell(python: Path, script: str, jobs: list[Any]) -> list[Any]:
        if script not in running:
            with (errors / script).open("w") as stderr:
                running[script] = subprocess.Popen(
                    [str(python), str(Path(__file__).with_name(script))],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                )  # fmt: skip
        process = running[script]
        assert process.stdin is not None and process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):  # it has stopped; what it said is shown below
            process.stdin.write(json.dumps(jobs) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            running.pop(script).wait()
            pytest.fail(f"{script} stopped: {(errors / script).read_text()[-3000:]}")
        return json.loads(line)

    yield tell
    for process in running.values():
        process.communicate()


def _shared_torch() -> Path:
    """A folder with links to this environment's torch: every environment has the same one, and the disk only one."""
    import torch

    folder, installed = HOMES / f"torch-{torch.__version__}", Path(torch.__file__).parents[1]
    folder.mkdir(parents=True, exist_ok=True)
    for path in (found for pattern in TORCH for found in installed.glob(pattern)):
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder
