"""Several processes that train one policy together (``torchrun``), each on its share of every optimiser batch.

Every process holds the whole of the networks and builds the same examples, so that each knows the denominators of the
whole batch. It runs its own micro-batches; gradients are added up, not averaged, and every process takes the same step.
What is drawn, judged or read is made in the first process and sent to the others; it alone writes files. The result is
that of one process up to rounding. The settings say the same batch whatever the number of processes.

Without ``torchrun`` there is one process, and every function here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

_PATIENCE = timedelta(days=7)  # the others wait while the first one draws and judges


def start() -> None:
    """Join the processes that ``torchrun`` has started; nothing where it has not."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)


def rank() -> int:
    """This process's number; the first is 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def mine(parts: Sequence[T]) -> Sequence[T]:
    """This process's share: every ``size``-th part, so that parts sorted by length are shared out evenly."""
    return parts[rank() :: size()]


def wait() -> None:
    """Until every process is here."""
    if size() > 1:
        dist.barrier()


def gathered(value: T) -> list[T]:
    """The values of all processes, in their order."""
    if size() == 1:
        return [value]
    out: list[Any] = [None] * size()
    dist.all_gather_object(out, value)
    return out


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives in the first process, for every process."""
    if size() == 1:
        return make()
    out: list[Any] = [make() if leads() else None]
    dist.broadcast_object_list(out, src=0)
    return out[0]


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Each parameter's gradient becomes the sum over the processes; one that none has stays absent."""
    if size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    have = torch.tensor([float(p.grad is not None) for p in trained])
    dist.all_reduce(have)
    for parameter, owners in zip(trained, have.tolist(), strict=True):
        if not owners:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
