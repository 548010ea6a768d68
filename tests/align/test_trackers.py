"""Trackers: the names that TRL's users know, no path or key, and nothing that stops a run.

The real libraries are read back where they are installed (``pippin[track]``); nothing here uses a network.
"""

import sqlite3

import pytest

from pippin.align import run, trackers
from pippin.core.errors import MissingExtra, UnknownName

LINES = [
    {"step": 1, "round": 0, "loss": 0.69, "rewards/chosen": 0.0, "learning_rate": 1e-6},
    {"step": 2, "round": 0, "loss": 0.5, "rewards/chosen": 0.1, "learning_rate": 5e-7},
    {"step": 2, "round": 1, "eval/score": 0.25},
]
MANIFEST = {
    "method": "dpo",
    "model": "/home/me/secret-project/sft",
    "reward": "openai/m@http://me:pw@host/v1#KEY:vanilla",
}


class Kept:
    """A tracker that keeps what it hears."""

    def __init__(self, place, configuration):
        self.place, self.configuration, self.heard, self.ended = place, dict(configuration), [], 0
        self.made.append(self)

    def log(self, step, figures):
        self.heard.append((step, figures))

    def end(self):
        self.ended += 1


@pytest.fixture
def kept(monkeypatch):
    """All trackers that were opened; one that breaks at its second line is there too."""

    class Good(Kept):
        made: list = []  # noqa: RUF012

    class Bad(Good):
        def log(self, step, figures):
            super().log(step, figures)
            if len(self.heard) == 2:
                raise ConnectionError("no route to /home/me/host\nmore")

    class Closed(Good):
        def __init__(self, place, configuration):
            raise RuntimeError("not logged in")

    monkeypatch.setattr(trackers, "TRACKERS", {"json": Good, "sqlite3": Bad, "csv": Closed})
    return Good.made


def told_by(names, folder, run_name=""):
    said = []
    with trackers.mirror(names, folder, run_name=run_name, tell=said.append) as mirror:
        mirror.begin(MANIFEST)
        for line in LINES:
            mirror.log(line)
    return said


def test_names_are_those_of_a_trainer_and_the_configuration_has_no_path(kept, tmp_path):
    assert told_by("json", tmp_path / "run") == []
    [tracker] = kept
    assert tracker.heard[0] == (1, {"train/round": 0, "train/loss": 0.69, "train/rewards/chosen": 0.0,
                                    "train/learning_rate": 1e-6})  # fmt: skip
    assert tracker.heard[2] == (2, {"train/round": 1, "eval/score": 0.25})
    assert tracker.configuration == {"method": "dpo", "model": "sft", "reward": "openai/m:vanilla"}
    assert tracker.place.name == f"run-{tracker.place.identity[:6]}"
    assert tracker.ended == 1


def test_the_same_run_has_the_same_identity_and_another_has_not(kept, tmp_path):
    for folder in ("a", "a", "b"):
        told_by("json", tmp_path / folder, run_name="mine")
    first, again, other = (tracker.place for tracker in kept)
    assert first == again != other
    assert first.name == "mine"


def test_a_tracker_that_fails_is_named_once_and_the_others_hear_all(kept, tmp_path):
    said = told_by("sqlite3, json, csv", tmp_path)
    assert said == [
        "csv is left out from here on: RuntimeError: not logged in",
        "sqlite3 is left out from here on: ConnectionError: no route to host",
    ]
    bad, good = kept
    assert (len(bad.heard), bad.ended) == (2, 0)
    assert (len(good.heard), good.ended) == (3, 1)


def test_a_run_ends_whole_whatever_its_trackers_do(kept, tmp_path, make_bench):
    said = []
    bench = make_bench("dpo")
    with trackers.mirror("sqlite3,json,csv", tmp_path / "run", tell=said.append) as mirror:
        made = run.align(
            "dpo", {"max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 2, "watch_prompts": 0},
            model="world/base", out=tmp_path / "run", data=bench.context.data, mirror=mirror,
        )  # fmt: skip
    assert made.ledger.steps == 3 and len(said) == 2
    steps = [step for step, _ in kept[1].heard]
    assert steps == [1, 2, 3]
    assert kept[1].heard[0][1]["train/loss"] == pytest.approx(0.6931, abs=1e-3)
    assert kept[1].configuration["method.dpo.beta"] == 0.1


def test_what_is_not_there_is_said_before_a_run(monkeypatch):
    assert trackers.named("none") == trackers.named("") == ()
    with pytest.raises(UnknownName, match="Did you mean 'tensorboard'"):
        trackers.named("tensorbord")
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'pippin\[track\]'"):
        trackers.named("wandb")


def test_tensorboard_holds_what_it_was_told(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert told_by("tensorboard", tmp_path) == []
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, pytest.approx(0.69)), (2, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("eval/score")] == [(2, 0.25)]


def test_trackio_holds_what_it_was_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_PROJECT", f"test-{tmp_path.name}")
    assert told_by("trackio", tmp_path, run_name="mine") == []
    from trackio.utils import TRACKIO_DIR

    assert capsys.readouterr().out == ""
    file = TRACKIO_DIR / f"test-{tmp_path.name}.db"
    with sqlite3.connect(file) as rows:
        said = "".join(str(row) for row in rows.execute("select * from metrics"))
    assert "train/rewards/chosen" in said and "secret-project" not in said


def test_wandb_writes_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert told_by("wandb", tmp_path) == []
    wandb.teardown()  # its service writes what is left
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"train/rewards/chosen" in file.read_bytes() and b"secret-project" not in file.read_bytes()
