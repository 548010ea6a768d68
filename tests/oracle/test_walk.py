"""The walk of the stranger with a checkpoint that TRL trains, as its page has it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "app"))  # for app_walk.py
from app_walk import Walk, stranger

pytestmark = pytest.mark.oracle


def test_the_stranger_with_trl(environment, tmp_path):
    python = environment("trl-1.16.0", "torch==2.13.0", "transformers==5.24.0", "trl==1.16.0")
    made = Walk("stranger", tmp_path)
    (made.folder / "trl").symlink_to(python.parents[1])
    made.go(skip="-m venv")
    stranger(made)
    assert {claim["verdict"] for claim in made.json("two/results.json")["claims"]} == {"better"}
