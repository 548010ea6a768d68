"""A real model, smollm2 (135M): two processes end where one ends, and memory is bounded. This file is what they run."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pippin.align.run import align, load_run
from pippin.core.errors import MissingExtra
from pippin.core.types import Choice, Group, Outcome, Prompt, Response, assistant, user
from pippin.lm import hf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PAIRS = [
    ("What is the capital of France?", "The capital of France is Paris.", "I do not like questions about cities."),
    ("Name a fruit that is yellow.", "A banana is a yellow fruit, and so is a lemon.", "Fruit."),
    ("How many legs does a spider have?", "A spider has eight legs.", "Spiders have six legs, as all insects have."),
    ("Say hello in Spanish.", "Hola!", "Hello is a word of the English language, which is spoken in many countries."),
    ("What do bees make?", "Bees make honey.", "Bees make noise, and they make me nervous whenever I see one."),
]
SETTINGS = {
    "learning_rate": 1e-3, "adam_epsilon": 1e-3, "per_device_train_batch_size": 3, "max_steps": 3, "max_length": 128,
    "num_train_epochs": 2, "logging_steps": 1, "save_steps": 0, "watch_prompts": 0,
}  # fmt: skip
BOUND = 4.5e9  # bytes of one process: weights, reference, gradients and moments alone are 2.7e9


def data(name):
    """Pairs, or their better replies as demonstrations."""
    groups = []
    for asked, good, bad in PAIRS:
        prompt = Prompt(user(asked))
        replies = tuple(Response(prompt.id, assistant(t), sample=k, stop="end") for k, t in enumerate((good, bad)))
        said = (Choice(prompt.id, replies[0].id, replies[1].id, Outcome.FIRST, by="test"),)
        groups.append(Group(prompt, replies[:1]) if name == "sft" else Group(prompt, replies, said))
    return groups


def ended(folder, processes):
    """Folder of the runs of both methods, by so many processes."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = [sys.executable]
    if processes > 1:
        started += ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    told = subprocess.run(
        [*started, __file__, str(folder)], capture_output=True, text=True, timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    try:
        hf.smollm2_file()
    except MissingExtra as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("real")
    return [ended(folder / f"{n}", n) for n in (1, 2)]


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_two_processes_end_where_one_ends(name, runs):
    one, two = (load_file(folder / name / "model.safetensors") for folder in runs)
    start = load_file(hf.converted(hf.smollm2_file()) / "model.safetensors")
    apart = max((two[key] - value).abs().max().item() for key, value in one.items())
    moved = max((start[key] - value).abs().max().item() for key, value in one.items())
    print(f"{name}: {apart:.1e} apart, moved by {moved:.1e}")
    assert one.keys() == two.keys() and apart < 1e-5 < 1e-4 < moved
    lines = [[json.loads(t) for t in (f / name / "metrics.jsonl").read_text().splitlines()] for f in runs]
    assert len(lines[0]) == 3
    for a, b in zip(*lines, strict=True):
        assert a == pytest.approx(b, abs=1e-4, rel=1e-4)
    if name == "dpo":
        assert lines[1][0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_memory_is_bounded(name, runs):
    for folder in runs:
        assert load_run(folder / name)["ledger"]["peak_memory"] < BOUND


if __name__ == "__main__":
    for method in ("sft", "dpo"):
        align(method, SETTINGS, model="smollm2", data=data(method), out=Path(sys.argv[1]) / method)
