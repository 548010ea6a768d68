"""Several processes that train one policy together (``torchrun``), each on its share of every optimiser batch.

Every process holds the whole of the networks and builds the same examples, so that each knows the denominators of the
whole batch. It runs its own micro-batches; gradients are added up, not averaged, and every process takes the same step.
What is drawn, judged or read is made in the first process and sent to the others; it alone writes files. The result is
that of one process up to rounding. The settings say the same batch whatever the number of processes.

An error in one of them ends them all (:func:`together`), and one of them says why.

Without ``torchrun`` there is one process, and every function here is the identity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pippin.core.errors import PippinError

T = TypeVar("T")

_PATIENCE = timedelta(days=7)  # the others wait while the first one draws and judges
_FAILED = "pippin/failed"  # in the processes' common store: who failed first, and its exit code
_GRACE = 1.0  # seconds; torchrun ends all when one has ended, and the one that speaks is to finish


class Lost(PippinError):
    """Another process of this run has ended and has not said why."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this run has ended without a word (killed, or out of memory?). "
            "Run the same command to go on from the last checkpoint"
        )


def start() -> None:
    """Join the processes that ``torchrun`` has started; nothing where it has not."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)


@contextmanager
def together() -> Iterator[None]:
    """Within it, an error of one process ends all of them: no process waits for one that has failed.

    The process that fails first raises its error; the others leave with its exit code and without a word. All of them
    leave the group, so that no other run can follow in these processes.

    Raises:
        SystemExit: another process has failed before.
        Lost: another process is gone and has left no error.
    """
    try:
        yield
    except Exception as error:
        if size() == 1:
            raise
        me, code = f"{rank()}", getattr(error, "exit_code", 1)
        who, _, said = _first_to_fail(f"{me} {code}").partition(" ")
        dist.destroy_process_group()  # ends the waiting of the others
        if who == me:
            raise
        time.sleep(_GRACE)
        raise SystemExit(int(said)) from None


def _first_to_fail(claim: str) -> str:
    """The claim of the process that failed first, which is this one's where none has failed before."""
    try:
        return dist.distributed_c10d._get_default_store().compare_set(_FAILED, "", claim).decode()
    except RuntimeError:  # without torchrun the store lies in the first process, and that one is gone
        return "0 1"


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
        with _reaching():
            dist.barrier()


def gathered(value: T) -> list[T]:
    """The values of all processes, in their order."""
    if size() == 1:
        return [value]
    out: list[Any] = [None] * size()
    with _reaching():
        dist.all_gather_object(out, value)
    return out


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives in the first process, for every process."""
    if size() == 1:
        return make()
    out: list[Any] = [make() if leads() else None]
    with _reaching():
        dist.broadcast_object_list(out, src=0)
    return out[0]


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Each parameter's gradient becomes the sum over the processes; one that none has stays absent."""
    if size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    have = torch.tensor([float(p.grad is not None) for p in trained])
    with _reaching():
        dist.all_reduce(have)
    for parameter, owners in zip(trained, have.tolist(), strict=True):
        if not owners:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        with _reaching():
            dist.all_reduce(parameter.grad)


@contextmanager
def _reaching() -> Iterator[None]:
    """What torch says when a process does not answer, in plain words."""
    try:
        yield
    except RuntimeError:
        raise Lost from None
