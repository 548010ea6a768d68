"""How many threads a model's arithmetic gets on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 5_000_000  # parameters: below it, threads wait for one another longer than they compute


@contextmanager
def one_thread_if_small(model: torch.nn.Module) -> Iterator[None]:
    """One thread within, for a small model on a CPU; the former number afterwards.

    A second thread makes a model of a million parameters slower, many times so where the cores are shared, and the
    rounding of its sums would depend on the machine's number of cores.
    """
    parameters = list(model.parameters())
    before = torch.get_num_threads()
    small = parameters[0].device.type == "cpu" and sum(p.numel() for p in parameters) < SMALL
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if small:
            torch.set_num_threads(before)
