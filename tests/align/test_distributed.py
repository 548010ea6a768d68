"""Two processes that train together end where one process ends; an error of one ends both.

One launch of torchrun runs every case, and this file is what it runs. What the policy draws there is recorded, and
replayed where one process runs the case, so that both train on the same rollouts.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pippin.align import distributed, loop, sources
from pippin.align.run import align, load_run
from pippin.core import catalog
from pippin.core.errors import InputError, PippinError
from pippin.core.types import digest
from pippin.lm.hf import locate
from pippin.lm.sampling import Draw

TRAINED = [name for name in catalog.names("methods") if catalog.load("methods", name).terms]
CASES = {name: (name, {}) for name in TRAINED} | {
    "uneven groups": ("dpo", {"per_device_train_batch_size": 3}),
    "a group alone": ("sft", {"per_device_train_batch_size": 1}),
    "accumulated": ("kto", {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
    "adapter": ("dpo", {"use_peft": True, "lora_r": 4, "learning_rate": 1e-2}),
    "layers again": ("dpo", {"gradient_checkpointing": True}),
    "best": ("rloo", {"eval_steps": 1, "load_best_model_at_end": True}),
    "kept": ("dpo", {"save_steps": 1, "per_device_train_batch_size": 2}),
    "watched": ("rso", {"watch_prompts": 4}),
    "bf16": ("dpo", {"bf16": True}),
}
SETTINGS = {
    "learning_rate": 1e-3, "max_length": 64, "max_steps": 3, "logging_steps": 1, "adam_epsilon": 1e-3,
    "watch_prompts": 0,
}  # fmt: skip
# Adam divides a gradient by its size: with the default epsilon the rounding of a gradient of nothing becomes a step
CLOSE = {"bf16": 1e-3}  # a micro-batch of another shape rounds otherwise


def run(bench, small, case, folder, report=None):
    """One case by this process, or by its share of all."""
    name, own = CASES[case]
    made = bench(name)
    c, asks = made.context, made.method.wants(made.context.config)
    with replayed(folder.parent / "rollouts" / f"{case}.json"):
        return align(
            name, {**small.get(name, {}), **SETTINGS, **own}, model="world/base", out=folder / case, data=c.data,
            prompts=c.prompts, reward="rule/shorter" if c.prompts else None, report=report,
            feedback="gold" if "feedback" in asks else None,
            development=c.development if "eval_steps" in own else (),
            judge="rule/shorter" if "eval_steps" in own else None,
        )  # fmt: skip


@contextmanager
def replayed(place):
    """What is drawn is written to ``place``; where that exists, it is read there and no model draws."""
    real, book, told = sources.sample_tokens, json.loads(place.read_text()) if place.exists() else None, {}

    def draw(model, rows, **named):
        key = digest([[list(map(int, row)) for row in rows], list(named["seeds"])])
        if book is not None:
            return [Draw(ids, ended) for ids, ended in book[key]]
        draws = real(model, rows, **named)
        told[key] = [[list(map(int, d.ids)), bool(d.ended)] for d in draws]
        return draws

    sources.sample_tokens = draw
    try:
        yield
    finally:
        sources.sample_tokens = real
        if told:
            place.parent.mkdir(exist_ok=True)
            place.write_text(json.dumps(told))


def main(folder, cases, failing):
    """What each of the processes runs: the cases, then a run that fails in one of them."""
    from conftest import SMALL, bench

    for case in cases:
        run(bench, SMALL, case, folder / "two", lambda line, case=case: print(case, int(line["step"]), flush=True))
    distributed.start()
    if failing in (distributed.rank(), "both"):
        loop.collate = broken
    if failing == "killed" and distributed.rank() == 1:
        loop.collate = lambda *a: os.kill(os.getpid(), 9)
    try:
        with distributed.together():
            if failing == "stopped":
                run(bench, SMALL, "kept", folder / "two", lambda line: broken() if line["step"] == 3 else None)
            elif failing is not None:
                run(bench, SMALL, "dpo", folder / "failing")
    except PippinError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def broken(*_):
    raise InputError("a row cannot be read", where="here")


def launch(folder, cases, failing, wait=280):
    """Start both processes by torchrun; its exit code, and what each process wrote to its two outputs."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = [
        "--nproc-per-node",
        "2",
        "--master-port",
        str(port),
        "--redirects",
        "3",
        "--log-dir",
        str(folder / f"{failing}"),
    ]
    arguments = [__file__, str(folder), json.dumps(cases), json.dumps(failing)]
    told = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *own, *arguments], capture_output=True, text=True, timeout=wait,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    [logs] = (folder / f"{failing}").glob("*/attempt_0")
    said = [{o: (logs / str(r) / f"{o}.log").read_text() for o in ("stdout", "stderr")} for r in range(2)]
    return told.returncode, said


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder of the runs by two processes, the exit code of the launch, and what each process wrote."""
    folder = tmp_path_factory.mktemp("processes")
    return folder, *launch(folder, list(CASES), 1)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_ends(case, two, make_bench):
    folder = two[0]
    alone = run(make_bench, make_bench.small, case, folder / "one").folder
    places, far = (alone, folder / "two" / case), CLOSE.get(case, 1e-5)
    one, other = (weights(place) for place in places)
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=far, rtol=0, msg=lambda m, key=key: f"{key}: {m}")
    start = weights(locate("world/base")) | {key: 0 * value for key, value in one.items() if "lora_B" in key}
    moved = [(value - start[key]).abs().max() for key, value in one.items() if same_shape(value, start.get(key))]
    assert max(moved) > 1e-4, "and something was learned"
    lines = [[json.loads(line) for line in (p / "metrics.jsonl").read_text().splitlines()] for p in places]
    assert len(lines[0]) == len(lines[1]) > 0
    for a, b in zip(*lines, strict=True):
        assert a == pytest.approx(b, abs=max(far, 1e-4), rel=max(far, 1e-4))
    told = [load_run(p) for p in places]
    for volatile in ("wall_clock", "peak_memory"):
        for papers in told:
            papers["ledger"].pop(volatile)
    assert told[0]["ledger"] == told[1]["ledger"], "what is drawn, judged and trained is counted once"
    assert told[0]["manifest"] == told[1]["manifest"]


def weights(folder):
    """Every tensor of every file of weights in a run's folder."""
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


def same_shape(a, b):
    return b is not None and a.shape == b.shape


def test_only_the_first_process_reports(two):
    first, second = two[2]
    assert first["stdout"] and not second["stdout"]


def errors(said):
    """The lines in which a process says why it ends."""
    return [line for line in said["stderr"].splitlines() if line.startswith("error")]


def test_an_error_of_one_process_ends_both_with_one_line(two):
    folder, code, (first, second) = two
    assert code == 1 and not errors(first), "the one that waits for the other's gradient does not wait for ever"
    assert errors(second) == ["error: here: a row cannot be read"]
    assert not (folder / "failing" / "dpo" / "pippin_run.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, "both", "killed"])
def test_whatever_ends_one_process_ends_both(failing, tmp_path):
    code, said = launch(tmp_path, [], failing)
    lines = [line for process in said for line in errors(process)]
    assert code == 1
    if failing == "killed":  # torchrun says so itself, and may end the other before it has spoken
        assert all("has ended without a word" in line for line in lines)
    else:
        assert lines == ["error: here: a row cannot be read"]


@pytest.mark.slow
def test_two_processes_go_on_where_an_error_stopped_them(tmp_path, make_bench):
    assert launch(tmp_path, [], "stopped")[0] == 1
    assert [c.name for c in (tmp_path / "two" / "kept").glob("checkpoint-*")] == ["checkpoint-2"]
    code, (first, _) = launch(tmp_path, ["kept"], None)
    assert code == 0 and first["stdout"] == "kept 3\n", "the steps before are not done again"
    one = weights(run(make_bench, make_bench.small, "kept", tmp_path / "one").folder)
    for key, value in weights(tmp_path / "two" / "kept").items():
        torch.testing.assert_close(value, one[key], atol=1e-5, rtol=0)


def test_one_process_is_the_identity():
    assert (distributed.rank(), distributed.size(), distributed.leads()) == (0, 1, True)
    assert distributed.mine([1, 2, 3]) == [1, 2, 3]
    assert distributed.gathered("a") == ["a"] and distributed.from_first(lambda: 2) == 2
    parameter = torch.nn.Parameter(torch.zeros(2))
    distributed.add_gradients([parameter])
    assert parameter.grad is None
    distributed.wait()
    with pytest.raises(InputError, match="a row"), distributed.together():
        broken()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
