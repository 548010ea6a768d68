"""The demonstration, whole: twice the same, from the store in seconds, and the same again after three kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow


def demo(out, home):
    env = {**os.environ, "PIPPIN_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pippin", "demo", "--out", str(out)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(out):
    """``results.json`` up to times."""
    found = json.loads((out / "results.json").read_text())
    found.pop("seconds")
    for row in found["arms"]:
        row["ledger"].pop("wall_clock")
    return found


def finish(process, limit):
    said, errors = process.communicate(timeout=limit)
    assert process.returncode == 0, errors
    return said


def test_the_demonstration_keeps_its_promises(tmp_path):
    started = time.monotonic()
    said = finish(demo(tmp_path / "a", tmp_path / "home_a"), 900)
    print("first run", round(time.monotonic() - started, 1), "seconds")
    assert "report.html" in said
    found = results(tmp_path / "a")
    seconds = json.loads((tmp_path / "a" / "results.json").read_text())["seconds"]
    assert seconds["peak_memory_bytes"] < 2e9
    assert found["confounds"] == []

    started = time.monotonic()
    finish(demo(tmp_path / "b", tmp_path / "home_a"), 120)
    print("second run", round(time.monotonic() - started, 1), "seconds")
    assert results(tmp_path / "b") == found

    rows = {(r["name"], r["seed"], r["decoding"]): r for r in found["arms"]}
    for seed in (0, 1):
        for decoding in ("temperature 1", "greedy"):
            assert 0.30 < rows["sft", seed, decoding]["gold_mean"] < 0.75
            assert rows["base", seed, decoding]["delta_high"] < 0
        better = [
            arm
            for arm in ("best_of_n", "expert_iteration", "dpo", "ppo")
            if all(rows[arm, seed, d]["delta_low"] > 0 for d in ("temperature 1", "greedy") if (arm, seed, d) in rows)
        ]
        assert len(better) >= 3 and {"dpo", "ppo"} & set(better)
    for check in found["checks"]:
        if check["name"] == "reward model":
            assert check["value"] >= 0.72
    for curve in found["curves"]:
        if "weak" in curve["name"]:
            gold = [p["gold"] for p in curve["points"]]
            assert max(gold) > gold[0] and gold[-1] < max(gold) - 0.05


def test_killed_three_times_it_ends_with_the_same_results(tmp_path):
    finish(demo(tmp_path / "a", tmp_path / "home_a"), 900)
    rng = random.Random(0)
    for _ in range(3):
        running = demo(tmp_path / "b", tmp_path / "home_b")
        time.sleep(rng.uniform(20, 60))
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
    finish(demo(tmp_path / "b", tmp_path / "home_b"), 900)
    assert results(tmp_path / "b") == results(tmp_path / "a")
