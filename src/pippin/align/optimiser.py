"""AdamW, its learning rate over the steps, the clipping of gradients, and when a run counts as diverged."""

from __future__ import annotations

import math
from typing import Any

import torch

from pippin.align.method import Method, Training
from pippin.align.networks import Networks
from pippin.core.errors import Diverged


def make(method: Method, networks: Networks, config: Any, training: Training) -> torch.optim.Optimizer:
    """AdamW, one group per trained network, each with a rate of its own where set (``critic_learning_rate``)."""
    groups = []
    for name, module in networks.trained().items():
        peak = getattr(config, f"{name}_learning_rate", None) or training.learning_rate
        parameters = [p for p in module.parameters() if p.requires_grad]
        groups.append({"params": parameters, "lr": peak, "peak": peak, "name": name})
    return torch.optim.AdamW(
        groups,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
        weight_decay=training.weight_decay,
    )


def schedule(step: int, total: int, training: Training) -> float:
    """Factor on the peak learning rate at this step: linear warm-up, then the stated decay to zero at ``total``."""
    warm = math.ceil(training.warmup_ratio * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    if training.lr_scheduler_type == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1, total - warm))
    return 1.0 - done if training.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def clip(optimiser: torch.optim.Optimizer, limit: float) -> float:
    """Clip each network's gradient by its own norm; the largest norm before clipping."""
    norms = [
        torch.nn.utils.clip_grad_norm_(g["params"], limit if limit > 0 else math.inf).item()
        for g in optimiser.param_groups
    ]
    return max(norms, default=0.0)


def check(loss: float, norm: float, training: Training, step: int) -> None:
    """Stop a run that has left the numbers.

    Raises:
        Diverged: the loss or the gradient is not finite, or the loss is beyond ``max_loss``.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise Diverged(
            f"the {what} is not finite at step {step + 1} (loss {loss}, gradient norm {norm}). "
            "Lower learning_rate, or set max_grad_norm; the last checkpoint is kept"
        )
    if abs(loss) > training.max_loss:
        raise Diverged(
            f"the loss {loss:.4g} at step {step + 1} is beyond max_loss {training.max_loss:g}. Lower learning_rate"
        )
