"""A run that was cut ends as if it had not been: the same weights, ledger, state and metrics, nothing paid twice."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pippin.align import checkpoint, loop
from pippin.align.run import align, load_run
from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.types import digest

TRAINED = [m for m in catalog.names("methods") if catalog.load("methods", m).terms]
SAMPLING = [m for m in TRAINED if catalog.load("methods", m).reads == "prompts"]
EVERY = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 3,
    "num_train_epochs": 2,
    "max_length": 64,
    "logging_steps": 1,
    "watch_prompts": 0,
}
REWARD = """
from pathlib import Path
def reward(prompts, completions, **_):
    with open(Path(__file__).with_name("asked"), "a") as file:
        file.write("".join(f"{c!r}\\n" for c in completions))
    return [-len(c.split()) + 0.01 * (len(c) % 7) for c in completions]
"""


def start(make_bench, name, out, settings, report=None, reward="rule/shorter", **more):
    """The same call, whatever is in ``out``."""
    method, context = catalog.load("methods", name), make_bench(name).context
    return align(
        name,
        {**EVERY, **make_bench.small.get(name, {}), **settings},
        model="world/base",
        out=out,
        data=more.pop("data", context.data),
        prompts=context.prompts,
        reward=reward if method.reads == "prompts" else None,
        feedback="gold" if "feedback" in method.wants(context.config) else None,
        report=report,
        **more,
    )


def cut_at(place):
    """A report that presses Ctrl-C at the ``place``-th line of metrics that it hears of."""
    heard = itertools.count(1)

    def report(line):
        if next(heard) == place:
            raise KeyboardInterrupt

    return report


def assert_equal(folder, whole):
    """Everything that a run leaves, but for clocks and memory."""
    files = [sorted(p.name for p in f.rglob("*.safetensors")) for f in (folder, whole)]
    assert files[0] == files[1] and files[0]
    for name in files[0]:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    ours, theirs = load_run(folder), load_run(whole)
    for volatile in ("wall_clock", "peak_memory"):
        assert ours["ledger"].pop(volatile) > 0 and theirs["ledger"].pop(volatile) > 0
    for part in ("manifest", "ledger", "state", "metrics"):
        assert ours[part] == theirs[part], part
    assert not [p for p in folder.iterdir() if p.name.startswith(("checkpoint", ".checkpoint", "rounds", "unfinished"))]


def cut_and_resumed(make_bench, name, whole, out, settings, places, **more):
    """The run of ``whole`` again, cut at each of these lines of its metrics, counted from where it went on."""
    for place in places:
        with pytest.raises(KeyboardInterrupt):
            start(make_bench, name, out, settings, cut_at(place), **more)
        assert not (out / "pippin_run.json").exists()
    start(make_bench, name, out, settings, **more)
    assert_equal(out, whole)


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_cut_twice_ends_with_the_same_bytes(name, make_bench, tmp_path):
    rng = np.random.default_rng(int(digest(["cut", name]), 16))
    settings = {"save_steps": 2}
    start(make_bench, name, tmp_path / "whole", settings)
    steps = load_run(tmp_path / "whole")["ledger"]["steps"]
    assert steps >= 3
    places = [int(rng.integers(1, steps + 1)), 1 + int(rng.integers(2))]
    cut_and_resumed(make_bench, name, tmp_path / "whole", tmp_path / "cut", settings, places)


@pytest.mark.slow
@pytest.mark.parametrize("save_steps", [1, 3, 500])
@pytest.mark.parametrize("name", TRAINED)
def test_a_run_cut_anywhere_ends_with_the_same_bytes(name, save_steps, make_bench, tmp_path):
    settings = {"save_steps": save_steps, "logging_steps": 1 if save_steps == 1 else 2}
    start(make_bench, name, tmp_path / "whole", settings)
    lines = len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    for place in range(1, lines + 1):
        cut_and_resumed(make_bench, name, tmp_path / "whole", tmp_path / f"cut{place}", settings, [place])


VARIANTS = {
    "an adapter": ("dpo", {"use_peft": True, "lora_r": 2}),
    "an adapter that samples": ("grpo", {"use_peft": True, "lora_r": 2}),
    "bfloat16": ("dpo", {"bf16": True, "seed": 1}),
    "bfloat16 that samples": ("ppo", {"bf16": True, "seed": 1}),
    "lines over several steps": ("kto", {"logging_steps": 3}),
    "accumulation": ("simpo", {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}),
    "few steps": ("rloo", {"max_steps": 3, "lr_scheduler_type": "cosine", "warmup_ratio": 0.4}),
    "each round from the base": ("expert_iteration", {"from_base": True, "num_rounds": 3}),
    "a bag": ("expert_iteration", {"bag": True, "num_rounds": 3}),
    "the best round": (
        "expert_iteration",
        {"eval_steps": 1, "load_best_model_at_end": True, "num_rounds": 3, "learning_rate": 3e-2},
    ),
    "the best of one round": ("sft", {"eval_steps": 1, "load_best_model_at_end": True}),
    "a controller of KL": ("ppo", {"target_kl": 0.05, "k_beta": 0.5, "num_rollouts": 3}),
    "controllers of quark": ("quark", {"target_kl": 0.1, "target_entropy": 5.0, "horizon": 20, "num_rounds": 3}),
    "quark's pool emptied": ("quark", {"best_only": True, "clear_pool": True, "num_rounds": 3}),
    "demonstrations mixed in": ("ppo", {"ptx_coef": 0.5, "ptx_per_rollout": 4}),
    "a critic of scored data": ("conditional", {"objective": "awr"}),
    "watching": ("ppo", {"watch_prompts": 4}),
}


@pytest.mark.parametrize("what", VARIANTS)
def test_whatever_a_run_carries_with_it_is_carried_over_the_cut(what, make_bench, tmp_path):
    name, settings = VARIANTS[what]
    settings = {"save_steps": 2, **settings}
    more = {}
    if "eval_steps" in settings:
        more = {"development": make_bench("ppo").context.development, "judge": "rule/shorter"}
    if "ptx_coef" in settings:
        more["data"] = make_bench("sft").context.data
    start(make_bench, name, tmp_path / "whole", settings, **more)
    lines = len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    place = int(np.random.default_rng(int(digest(["variant", what]), 16)).integers(max(1, lines // 2), lines + 1))
    cut_and_resumed(make_bench, name, tmp_path / "whole", tmp_path / "cut", settings, [place, 1], **more)
    looks = [f / "watch.jsonl" for f in (tmp_path / "whole", tmp_path / "cut")]
    assert looks[0].exists() == (what == "watching")
    if looks[0].exists():
        assert looks[0].read_text() == looks[1].read_text()


@pytest.mark.parametrize("name", ["expert_iteration", "fine_grained", "grpo", "rso"])
def test_nothing_is_drawn_or_judged_twice_though_no_checkpoint_was_written(name, make_bench, tmp_path):
    rewards = []
    for place in ("whole", "cut"):
        (tmp_path / f"{place}_reward").mkdir()
        rewards.append(tmp_path / f"{place}_reward" / "reward.py")
        rewards[-1].write_text(REWARD)
    whole = start(make_bench, name, tmp_path / "whole", {}, reward=f"python/{rewards[0]}:reward")
    for place in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            start(make_bench, name, tmp_path / "cut", {}, cut_at(place), reward=f"python/{rewards[1]}:reward")
        assert not list((tmp_path / "cut").glob("checkpoint-*"))
    run = start(make_bench, name, tmp_path / "cut", {}, reward=f"python/{rewards[1]}:reward")
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    asked = [reward.with_name("asked").read_text() for reward in rewards]
    assert asked[0] == asked[1] and asked[0].count("\n") == whole.ledger.scorer_calls == run.ledger.scorer_calls


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from conftest import bench
from test_interrupted import start
bench.small = __import__("conftest").SMALL
def report(line):
    if line["step"] == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
from pathlib import Path
start(bench, sys.argv[2], Path(sys.argv[3]), {"save_steps": 2}, report)
"""


@pytest.mark.parametrize(("name", "step"), [pytest.param("dpo", 3, marks=pytest.mark.slow), ("online_dpo", 7)])
def test_a_run_that_is_killed_ends_with_the_same_bytes(name, step, make_bench, tmp_path):
    start(make_bench, name, tmp_path / "whole", {"save_steps": 2})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), name, str(tmp_path / "cut"), str(step)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    start(make_bench, name, tmp_path / "cut", {"save_steps": 2})
    assert_equal(tmp_path / "cut", tmp_path / "whole")


def test_a_checkpoint_that_was_cut_while_written_is_not_taken_for_whole(make_bench, tmp_path, monkeypatch):
    start(make_bench, "orpo", tmp_path / "whole", {"save_steps": 2})
    wrote = checkpoint.write_json

    def dying(path, value):
        if path.parent.name == ".checkpoint-4.part":
            path.write_text("{")
            raise KeyboardInterrupt
        wrote(path, value)

    monkeypatch.setattr(checkpoint, "write_json", dying)
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "orpo", tmp_path / "cut", {"save_steps": 2})
    monkeypatch.undo()
    left = [p.name for p in (tmp_path / "cut").iterdir()]
    assert ".checkpoint-4.part" in left and "checkpoint-2" in left and "checkpoint-4" not in left
    start(make_bench, "orpo", tmp_path / "cut", {"save_steps": 2})
    assert_equal(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    ["checkpoint-2/weights.safetensors", "checkpoint-2/optimizer.safetensors", "checkpoint-2/state.json",
     "checkpoint-2/notes.safetensors", "rounds/0.safetensors", "rounds/0.json"],
)  # fmt: skip
def test_half_a_file_is_a_clear_stop(damage, make_bench, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "rso", tmp_path / "run", {"save_steps": 2}, cut_at(3))
    file = tmp_path / "run" / damage
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(half)
    with pytest.raises(InputError, match=r"cannot be read.*Remove") as stopped:
        start(make_bench, "rso", tmp_path / "run", {"save_steps": 2})
    assert str(file) in str(stopped.value)
    assert file.read_bytes() == half, "what is there stays for whoever wants to look"


def test_a_round_that_is_gone_is_not_drawn_again_from_another_policy(make_bench, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "rso", tmp_path / "run", {"save_steps": 2}, cut_at(3))
    shutil.rmtree(tmp_path / "run" / "rounds")
    with pytest.raises(InputError, match="cannot be read"):
        start(make_bench, "rso", tmp_path / "run", {"save_steps": 2})


CHANGES = {
    "a setting of the method": ("beta", {"settings": {"beta": 0.3}}),
    "a setting of the loop": ("learning_rate", {"settings": {"learning_rate": 1e-4}}),
    "the seed": ("seed", {"settings": {"seed": 1}}),
    "the data": ("data", {"n": 7}),
    "the model": ("base.weights", {"model": True}),
    "the method": ("method", {"name": "simpo"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_run_does_not_go_on_from_this_one(what, make_bench, tmp_path):
    key, change = CHANGES[what]
    settings = {"save_steps": 2, "beta": 0.1}
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "dpo", tmp_path / "run", settings, cut_at(3))
    data = make_bench("dpo", n=change.get("n", 8)).context.data
    kept = (tmp_path / "run" / "checkpoint-2" / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match=rf"another unfinished run \([a-z.]*{key} differs\)"):
        align(
            change.get("name", "dpo"),
            {**EVERY, **settings, **change.get("settings", {})},
            model="world/sft" if change.get("model") else "world/base",
            data=data,
            out=tmp_path / "run",
        )
    assert (tmp_path / "run" / "checkpoint-2" / "weights.safetensors").read_bytes() == kept
    start(make_bench, "dpo", tmp_path / "run", settings)


def test_a_reward_function_that_was_edited_does_not_go_on(make_bench, tmp_path):
    file = tmp_path / "reward.py"
    file.write_text(REWARD)
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "rloo", tmp_path / "run", {}, cut_at(2), reward=f"python/{file}:reward")
    file.write_text(REWARD + "# another\n")
    with pytest.raises(InputError, match=r"reward\.config differs"):
        start(make_bench, "rloo", tmp_path / "run", {}, reward=f"python/{file}:reward")


def test_a_run_that_was_cut_before_it_kept_anything_starts_anew(make_bench, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "dpo", tmp_path / "run", {"beta": 0.1}, cut_at(1))
    start(make_bench, "dpo", tmp_path / "whole", {"beta": 0.3})
    start(make_bench, "dpo", tmp_path / "run", {"beta": 0.3})
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_checkpoints_of_others_stay(make_bench, tmp_path):
    theirs = tmp_path / "run" / "checkpoint-500"
    theirs.mkdir(parents=True)
    (theirs / "trainer_state.json").write_text("{}")
    (theirs / "model.safetensors").write_bytes(b"x")
    start(make_bench, "sft", tmp_path / "run", {"save_steps": 1})
    assert sorted(p.name for p in theirs.iterdir()) == ["model.safetensors", "trainer_state.json"]
    assert [p.name for p in (tmp_path / "run").glob("*checkpoint-*")] == ["checkpoint-500"]


def test_a_run_killed_after_its_papers_is_whole_and_goes_on_to_the_same(make_bench, tmp_path, monkeypatch):
    start(make_bench, "ppo", tmp_path / "whole", {"save_steps": 1})

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "clear", killed)
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "ppo", tmp_path / "run", {"save_steps": 1})
    monkeypatch.undo()
    assert load_run(tmp_path / "run")["ledger"]["steps"] == load_run(tmp_path / "whole")["ledger"]["steps"]
    start(make_bench, "ppo", tmp_path / "run", {"save_steps": 1})
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_half_a_line_of_metrics_is_forgotten(make_bench, tmp_path):
    start(make_bench, "rloo", tmp_path / "whole", {"save_steps": 2})
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "rloo", tmp_path / "run", {"save_steps": 2}, cut_at(3))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    start(make_bench, "rloo", tmp_path / "run", {"save_steps": 2})
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_the_time_before_the_cut_is_counted(make_bench, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(make_bench, "sft", tmp_path / "run", {"save_steps": 1}, cut_at(3))
    [kept] = (tmp_path / "run").glob("checkpoint-*")
    state = json.loads((kept / "state.json").read_text())
    assert state["ledger"]["wall_clock"] > 0 and state["ledger"]["peak_memory"] > 0
    state["ledger"]["wall_clock"] += 1000
    (kept / "state.json").write_text(json.dumps(state))
    assert start(make_bench, "sft", tmp_path / "run", {"save_steps": 1}).ledger.wall_clock > 1000


def test_a_stored_round_is_the_round(make_bench, tmp_path):
    bench = make_bench("grpo")
    pool = loop._prepare(bench.method, bench.context, bench.networks, None)
    optimiser = loop.optimisers.make(bench.method, bench.networks, bench.context.config, bench.context.training)
    keep = checkpoint.Keeper(tmp_path, bench.networks, optimiser)
    keep.keep_round(0, pool, bench.context, every=1)
    again = keep.round(0, needed=True)
    assert again is not None and keep.round(1, needed=False) is None
    assert again.figures == pool.figures and again.state == bench.context.state and again.ledger == bench.context.ledger
    assert len(again.batch.examples) == len(pool.examples)
    for ours, theirs in zip(again.batch.examples, pool.examples, strict=True):
        assert list(ours.ids) == list(theirs.ids) and list(ours.mask) == list(theirs.mask)
        assert (ours.group, ours.value, ours.weight, ours.stream) == (
            theirs.group, theirs.value, theirs.weight, theirs.stream,
        )  # fmt: skip
        assert ours.token.keys() == theirs.token.keys()
        assert all(np.array_equal(ours.token[k], theirs.token[k]) for k in ours.token)
