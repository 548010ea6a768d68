"""Two processes that train together end where one process ends."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pippin.align import distributed
from pippin.align.run import align, load_run
from pippin.lm.hf import load_policy

CASES = {
    "sft": {},
    "dpo": {"per_device_train_batch_size": 3},
    "reward_model": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "kto": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "ppo": {"num_rollouts": 2, "prompts_per_rollout": 5, "max_completion_length": 8},
}
SETTINGS = {"learning_rate": 1e-3, "max_length": 64, "logging_steps": 1, "adam_epsilon": 1e-3}
# Adam divides a gradient by its size: with the default epsilon the rounding of a gradient of nothing becomes a step
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import bench
from pippin.align import distributed
from pippin.align.run import align
out, cases, shared = Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
for name, settings in cases.items():
    c = bench(name).context
    align(name, {**shared, **settings}, model="world/base", out=out / name, data=c.data, prompts=c.prompts,
          reward="rule/shorter" if c.prompts else None,
          report=lambda line, name=name: print(name, distributed.rank(), int(line["step"]), flush=True))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder of the runs by two processes, and what each printed."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    arguments = ["-c", SCRIPT, str(Path(__file__).parent), str(folder), json.dumps(CASES), json.dumps(SETTINGS)]
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments], env={**base, **shared, "RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    ended = [process.communicate(timeout=240) for process in processes]
    assert all(p.returncode == 0 for p in processes), [err[-3000:] for _, err in ended]
    return folder, [told.splitlines() for told, _ in ended]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_where_one_ends(name, two, make_bench, tmp_path):
    c = make_bench(name).context
    align(
        name, {**SETTINGS, **CASES[name]}, model="world/base", out=tmp_path, data=c.data, prompts=c.prompts,
        reward="rule/shorter" if c.prompts else None,
    )  # fmt: skip
    places = (tmp_path, two[0] / name)
    start = load_policy("world/base").model.state_dict()
    one, other = (load_file(place / "model.safetensors") for place in places)
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-5, rtol=0, msg=lambda m, key=key: f"{key}: {m}")
    assert max((value - start[key]).abs().max() for key, value in one.items()) > 1e-4, "and something was learned"
    lines = [[json.loads(line) for line in (p / "metrics.jsonl").read_text().splitlines()] for p in places]
    assert len(lines[0]) == len(lines[1]) > 0
    for a, b in zip(*lines, strict=True):
        assert a == pytest.approx(b, abs=1e-4, rel=1e-4)
    ledgers = [load_run(p)["ledger"] for p in places]
    for volatile in ("wall_clock", "peak_memory"):
        for ledger in ledgers:
            ledger.pop(volatile)
    assert ledgers[0] == ledgers[1], "what is drawn, judged and trained is counted once"


def test_only_the_first_process_reports(two):
    first, second = two[1]
    assert first and not second


def test_one_process_is_the_identity():
    assert (distributed.rank(), distributed.size(), distributed.leads()) == (0, 1, True)
    assert distributed.mine([1, 2, 3]) == [1, 2, 3]
    assert distributed.gathered("a") == ["a"] and distributed.from_first(lambda: 2) == 2
    parameter = torch.nn.Parameter(torch.zeros(2))
    distributed.add_gradients([parameter])
    assert parameter.grad is None
    distributed.wait()
