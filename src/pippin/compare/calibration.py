"""How fast this machine is: CPU seconds of the few things that studies are made of, measured once and stored.

Measured in a process as workers are (:mod:`pool`), on the embedded world's model, since what a small model costs is
mostly not arithmetic; and where a study's model is larger, on one of about :data:`LARGER` parameters with random
weights, since what a large one costs is. Between and beyond the two, costs are linear in parameters.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pippin.compare.pool import worker_environment
from pippin.core.errors import PippinError
from pippin.core.run import environment
from pippin.core.store import Store
from pippin.core.types import Sampling, digest

BASE = "world/base"
LARGER = 6_000_000  # parameters, about: large enough that arithmetic is most of the cost
INTERVAL = 500
FORMAT = 2  # raised when other things are measured


@dataclass(frozen=True)
class Rates:
    """CPU seconds of one of each, for a model of ``parameters``.

    Attributes:
        start: a worker process, from nothing to its first cell, and what its first cells take more than others.
        load: a model read from its folder.
        row: a prompt or response read from a source and tokenised.
        run: a training run beside its steps: folders, copies, the saved model.
        step: an optimiser step beside its tokens.
        trained: a token forward and backward.
        forward: a token forward alone.
        pass_: a decoding step of a batch, whatever its size.
        drawn: a token drawn.
        scored: a text scored by a program.
        compared: a pair judged by a program.
        interval: a difference of two arms with its interval, on :data:`INTERVAL` prompts.
        length: tokens of a response of the world's model as it is; no cost.
    """

    parameters: int
    start: float
    load: float
    row: float
    run: float
    step: float
    trained: float
    forward: float
    pass_: float
    drawn: float
    scored: float
    compared: float
    interval: float
    length: float

    def at(self, parameters: int, larger: Rates | None) -> Rates:
        """The rates for another size, on the line through these and the ``larger`` model's; never below these."""
        if larger is None or parameters <= self.parameters:
            return replace(self, parameters=parameters)
        share = (parameters - self.parameters) / (larger.parameters - self.parameters)
        grows = ("load", "run", "step", "trained", "forward", "pass_", "drawn")
        told = {n: max(getattr(self, n), getattr(self, n) + share * (getattr(larger, n) - getattr(self, n)))
                for n in grows}  # fmt: skip
        return replace(self, parameters=parameters, **told)


def calibrated(store: Store, *, larger: bool = False) -> tuple[Rates, Rates | None]:
    """The rates of this machine and these versions, from the store or measured now (some eight CPU seconds).

    Args:
        larger: also those of the larger model.

    Raises:
        PippinError: the process that measures failed.
    """
    return _rates(store, "small"), _rates(store, "larger") if larger else None


def _rates(store: Store, size: str) -> Rates:
    key = digest(["calibration", FORMAT, size, machine(), environment()])
    done = store.cell(key)
    if done is None:
        store.add_cell(key, {"kind": "calibration", "size": size}, _measured(size))
        done = store.cell(key)
    assert done is not None
    return Rates(**done["result"])


def machine() -> str:
    """A hash of what the speed of this machine goes by."""
    model = Path("/proc/cpuinfo")
    names = [line for line in model.read_text().splitlines() if "model name" in line] if model.is_file() else []
    return digest([platform.machine(), platform.node(), len(names), names[:1]])


def _measured(size: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "pippin.compare.calibration", size]
    done = subprocess.run(command, env=worker_environment(), capture_output=True, text=True)
    if done.returncode:
        raise PippinError(f"this machine's speed could not be measured: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: str) -> Rates:
    """Measure, in this process; it must be a fresh one."""
    from pippin.compare.work import run_cell  # noqa: F401 - what a worker loads before its first cell

    started = time.process_time()
    import torch

    from pippin.lm.hf import load_policy

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        model = BASE if size == "small" else _larger(Path(made))
        before = time.process_time()
        policy = load_policy(model)
        first = time.process_time() - before
        load = _cpu(lambda: load_policy(model))
        row, (prompts, ids) = _reading(policy)
        pass_, drawn = _decoding(policy, ids)
        run, step, trained, warm = _training(model, Path(made), few=size != "small")
        drawn_texts = policy.respond(prompts, n=1, sampling=Sampling(1.0, 1.0, 64, 0), purpose="feedback")
        lengths = [sum(policy.chat.example(p.messages, r.text, ended=r.stop == "end")[1])
                   for p, r in zip(prompts, drawn_texts, strict=True)]  # fmt: skip
        scored, compared = _judging(prompts, drawn_texts)
        parameters = sum(p.numel() for p in policy.model.parameters())
        return Rates(
            parameters=parameters,
            start=started + max(0.0, first - load) + warm,
            load=load,
            row=row,
            run=run,
            step=step,
            trained=trained,
            forward=_forward(policy, ids),
            pass_=pass_,
            drawn=drawn,
            scored=scored,
            compared=compared,
            interval=_interval(),
            length=sum(lengths) / len(lengths),
        )


def _cpu(work: Callable[[], Any], times: int = 1) -> float:
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) / times


def _reading(policy: Any) -> tuple[float, tuple[list[Any], list[list[int]]]]:
    """(a row; prompts and their tokens)."""
    from pippin.compare import inputs

    inputs.read_prompts("world/dev?n=4", 1)
    before = time.process_time()
    prompts = inputs.read_prompts("world/dev?n=64", 0)
    ids = [policy.chat.prompt_ids(p.messages) for p in prompts]
    return (time.process_time() - before) / len(prompts), (prompts, ids)


def _larger(folder: Path) -> str:
    """A model with random weights and the world's tokenizer, in a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from pippin.lm.hf import load_policy, locate

    config = AutoConfig.from_pretrained(locate(BASE))
    width = 320
    for name, value in {
        "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": 5, "num_attention_heads": 5,
        "num_key_value_heads": 5, "head_dim": width // 5,
    }.items():  # fmt: skip
        setattr(config, name, value)
    policy = load_policy(BASE)
    policy.model = AutoModelForCausalLM.from_config(config).float()
    policy.save(folder / "larger")
    return str(folder / "larger")


def _decoding(policy: Any, ids: list[list[int]]) -> tuple[float, float]:
    """(a pass, a token): the cost of twelve more tokens for few rows and for many."""
    from pippin.lm.sampling import sample

    def more(rows: int) -> float:
        prompts = (ids * 4)[:rows]

        def draw(tokens: int) -> float:
            return _cpu(lambda: sample(policy.model, prompts, max_tokens=tokens, temperature=1.0, end_ids=(),
                                       seeds=range(rows), pad_id=policy.chat.pad_id))  # fmt: skip

        draw(2)
        return max(1e-9, draw(13) - draw(1)) / 12

    few, many = more(16), more(192)
    drawn = max(many - few, 0.1 * many) / (192 - 16)
    return max(few - 16 * drawn, 0.1 * few), drawn


def _training(model: str, folder: Path, few: bool) -> tuple[float, float, float, float]:
    """(a run, a step, a token, what the first run of a process takes more) of supervised fine-tuning: three runs of
    other sizes, solved."""
    import numpy as np

    from pippin.align.run import align
    from pippin.compare import inputs

    data = inputs.read_groups("world/demonstrations?n=224", 0)
    seen, spent = [], []
    settings = {"learning_rate": 1e-4, "watch_prompts": 0, "save_steps": 0, "max_loss": 1e9}
    sizes = ((2, 2), (2, 2), (8, 1), (64, 32)) if few else ((8, 8), (4, 4), (32, 1), (224, 32))
    for number, (rows, batch) in enumerate(sizes):

        def run(rows: int = rows, batch: int = batch, number: int = number) -> Any:
            told = {**settings, "per_device_train_batch_size": batch}
            return align("sft", told, model=model, data=data[:rows], out=folder / str(number))

        before = time.process_time()
        ledger = run().ledger
        spent.append(time.process_time() - before)
        seen.append([1.0, ledger.steps, ledger.gradient_tokens])
    told = np.maximum(np.linalg.solve(np.array(seen[1:]), np.array(spent[1:])), [0.02, 1e-4, 1e-7])
    run_, step, token = told.tolist()
    return run_, step, token, max(0.0, spent[0] - float(np.array(seen[0]) @ told))


def _forward(policy: Any, ids: list[list[int]]) -> float:
    """A token read, in batches as reward models and KL read."""
    import torch

    from pippin.lm.forward import pad, response_logps

    rows, attention = pad([(row * 3)[:32] for row in ids], policy.chat.pad_id)
    mask = attention.bool() & (torch.arange(rows.shape[1]) >= 16)

    def read() -> None:
        with torch.inference_mode():
            response_logps(policy.model, rows, attention, mask)

    read()
    return _cpu(read, 2) / int(attention.sum())


def _judging(prompts: list[Any], drawn: list[Any]) -> tuple[float, float]:
    """(a text scored, a pair compared) by the world's own judges."""
    from pippin.align.asking import scorer
    from pippin.judge.ask import ORDERS, Pair
    from pippin.judge.resolve import resolve

    score, judge = scorer("gold"), resolve("simulated/world", seed=0)
    texts = [r.text for r in drawn]
    pairs = [Pair(p, r, other) for p, r, other in zip(prompts, drawn, drawn[1:], strict=False)]
    score(prompts, texts)
    judge.compare(pairs[:4], orders=ORDERS[:1])
    return (
        _cpu(lambda: score(prompts, texts)) / len(texts),
        _cpu(lambda: judge.compare(pairs, orders=ORDERS[:1])) / len(pairs),
    )


def _interval() -> float:
    """A difference of two arms with two answers to a prompt each."""
    import numpy as np

    from pippin import stats

    ids, rng = np.repeat(np.arange(INTERVAL), 2).astype(str), np.random.default_rng(0)
    one, other = (stats.Arm(rng.random(2 * INTERVAL), ids) for _ in range(2))
    stats.difference(one, other)
    return _cpu(lambda: stats.difference(one, other), 2)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1]))))
