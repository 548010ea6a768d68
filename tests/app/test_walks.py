"""The walks of the docs, typed block by block as a newcomer would: small here, whole where marked slow."""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import app_warm
import pytest
import yaml
from app_walk import Walk, stranger

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))  # for external_files.py
from external_files import STATE, TRL_CARD

PORTS = ("8001", "8002", "8003")


@pytest.fixture
def walk(tmp_path):
    """``walk("student", changes)`` is the page, ready to be typed; what it leaves running is ended."""
    made: list[Walk] = []

    def start(*arguments) -> Walk:
        made.append(Walk(arguments[0], tmp_path, *arguments[1:]))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def warm():
    """A folder with a ``pippin`` that need not import anything: small walks are typed with it in front."""
    with tempfile.TemporaryDirectory() as place:  # short: the address of a socket has at most 107 characters
        address = f"{place}/socket"
        app_warm.write_client(Path(place) / "bin", address)
        process = subprocess.Popen([sys.executable, app_warm.__file__, address])
        while not Path(address).exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield Path(place) / "bin"
        process.kill()
        process.wait()


# ---------------------------------------------------------------------- the student


def test_the_student(walk, warm):
    small = {
        "world/train?n=300": ("world/train?n=20", 1), "world/train?n=100": ("world/train?n=6", 1),
        "world/heldout?n=120": ("world/heldout?n=6", 1), "world\\/dev?n=50": ("world\\/dev?n=4", 1),
        "match: {labels: 1200}\ntuning": ("match: {labels: 30}\ntuning", 1),
        "\nseeds: [0, 1, 2, 3, 4]": ("\nseeds: [0]", 1), "num_rollouts: 8": ("num_rollouts: 1", 1),
        "prompts_per_rollout: 32": ("prompts_per_rollout: 4", 1), "num_candidates: 8": ("num_candidates: 3", 1),
        "num_samples: 4": ("num_samples: 2", 1), "--out report\n": ("--out report --workers 1\n", 1),
    }  # fmt: skip
    student(walk("student", small, warm), labels=30, scopes={"these runs"})


@pytest.mark.slow
def test_the_student_as_typed(walk):
    made = walk("student")
    student(made, labels=1200, scopes={"these runs", "the method"})
    results = made.json("report/results.json")
    said = {row["name"]: row["verdict"] for row in results["claims"] if row["scope"] == "the method"}
    assert {name: verdict for name, verdict in said.items() if name.startswith("crowd")} == dict.fromkeys(
        ("crowd/dpo", "crowd/rso", "crowd/ppo"), "worse"
    )
    assert said["careful/dpo"] == said["careful/ppo"] == "better"
    assert all(row["low"] > 0.1 and row["a"] == "careful" for row in results["effects"] if row["axis"] == "data")


def student(made: Walk, labels: int, scopes: set[str]) -> None:
    made.go()
    assert made.failed == []
    assert "cells to run" in made.said("--plan --freeze") and "\nfrozen: " in made.said("--plan --freeze")
    assert "trials first" in made.said("compare tuned.yaml --plan")
    said, results = made.said("compare study.yaml --out report"), made.json("report/results.json")
    assert re.match(
        r"Highest is c\w+/(dpo|rso|ppo), [+-]0\.\d{3} \[.*\] against base in gold at temperature 1\. ", said
    )
    assert results["confounds"] == [] and "Confounds: none" in said
    spent = {(row["name"], row["ledger"]["labels"]) for row in results["arms"]}
    arms = [f"{data}/{method}" for data in ("crowd", "careful") for method in ("dpo", "rso", "ppo")]
    assert spent == {("base", 0), *((arm, labels) for arm in arms)}
    assert {row["scope"] for row in results["claims"]} == {row["scope"] for row in results["effects"]} == scopes
    assert {row["axis"] for row in results["effects"]} == {"data", "method"}
    assert results["frozen"]["changed"] == [] and not results["frozen"]["data_seen_before"]
    assert results["estimate"]["cpu_seconds"]["used"] > 0
    with zipfile.ZipFile(made.folder / "study.zip") as packed:
        names = packed.namelist()
    assert "bundle.json" in names and not [name for name in names if name.endswith(".safetensors")]
    told = made.said("pippin report study.zip")
    assert "every figure is as the bundle states it" in told
    assert made.json("colleague/study/results.json")["claims"] == results["claims"]
    assert not list((made.folder / "colleague" / "empty").glob("artifacts/*/model.safetensors"))


# ---------------------------------------------------------------------- the engineer


@pytest.mark.slow  # what the waves draw depends on the ports, which are in the responses' names
def test_the_engineer(walk, warm):
    ports = [str(_free()) for _ in PORTS]
    small = {
        "serve 8001 8002 8003": (f"serve {' '.join(ports)}", 1),
        **{f'="openai/{who}@http://localhost:{old}/': (f'="openai/{who}@http://localhost:{new}/', 1)
           for who, old, new in zip(("v1", "v2", "judge"), PORTS, ports, strict=True)},
        "range(13, 33)": ("range(13, 18)", 1), "--n 200": ("--n 60", 1),
    }  # fmt: skip
    made = walk("engineer", small, warm)
    engineer(made)


@pytest.mark.slow
def test_the_engineer_as_typed(walk):
    if any(_taken(int(port)) for port in PORTS):
        pytest.skip("a port of the page is in use")
    made = walk("engineer")
    engineer(made)
    made.told_so()


def engineer(made: Walk) -> None:
    made.go()
    assert [line.split(" --people")[0] for line in made.failed] == [
        '4 pippin compare v1.jsonl v2.jsonl --judge "$JUDGE"'
    ]
    alone, corrected = made.said('--judge "$JUDGE" --gate'), made.said("people labels.csv")
    assert alone.startswith("V2 is better: +") and alone.endswith("exit code 0\n")
    assert corrected.startswith("V2 is worse: -") and "corrected by" in corrected.splitlines()[0]
    assert "error: the gate does not hold: delta_low > 0 (" in corrected and corrected.endswith("exit code 4\n")
    assert (made.folder / "label.html").stat().st_size > 10_000
    look = made.json("look.json")
    assert look["stopped"] == "decided" and look["decision"].startswith("V2 is not better: ")
    assert 12 <= look["labels_used"] < 60 and look["delta_low"] < look["delta"] < look["delta_high"]
    workflow = yaml.safe_load((made.folder / ".github/workflows/assistant.yml").read_text())
    (step,) = (step for step in workflow["jobs"]["gate"]["steps"] if "env" in step)
    assert "V2 is worse" in made.run(step["run"])  # by the judge of this page
    assert made.failed[-1].startswith("4 pippin compare")
    gate = made.json("gate.json")
    assert gate["gate_met"] is False and {"decision", "delta", "delta_low", "delta_high", "n"} <= set(gate)


# ---------------------------------------------------------------------- the stranger

IN_TRLS_PLACE = """#!/bin/sh
# What TRL leaves behind, made without it.
set -e
test "$1 $3" = "train_trl.py rows.jsonl"
cp -r plain "$4"
cp {papers}/* "$4"
"""


def test_the_stranger(walk, warm, tmp_path):
    small = {
        "n=960": ("n=48", 1), "rows.jsonl plain 60": ("rows.jsonl plain 2", 1), "by_trl 60": ("by_trl 3", 1),
        "heldout?n=200": ("heldout?n=12", 3), "max_tokens: 32": ("max_tokens: 12", 2),
        "--max-tokens 32": ("--max-tokens 12", 2), "--out two\n": ("--out two --workers 1\n", 1),
        "--out declared\n": ("--out declared --workers 1\n", 1),
    }  # fmt: skip
    made = walk("stranger", small, warm)
    in_trls_place(made, tmp_path)
    made.go(skip="-m venv")
    stranger(made)


@pytest.mark.slow
def test_the_stranger_as_typed_but_for_trl(walk, tmp_path):
    made = walk("stranger")
    in_trls_place(made, tmp_path)
    made.go(skip="-m venv")
    stranger(made)
    assert made.said("compare world/base ./by_trl").startswith("V2 is better: +")
    assert {claim["verdict"] for claim in made.json("two/results.json")["claims"]} == {"better"}


def in_trls_place(made: Walk, tmp_path: Path) -> None:
    """An interpreter that leaves a folder in TRL's format."""
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "README.md").write_text(TRL_CARD.format(front="").replace("- dpo\n", "- sft\n"))
    (papers / "trainer_state.json").write_text(json.dumps(STATE))
    (papers / "training_args.bin").write_bytes(b"\x80\x04never read")
    python = made.folder / "trl" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(IN_TRLS_PLACE.format(papers=papers))
    python.chmod(0o755)


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _taken(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
