"""Run inside an environment that has TRL 0.11.4: PPO's rewards, advantages, losses and controller, as they were there.

Each line of standard input is a list of jobs in JSON, and a line of standard output answers it.
"""

import json
import sys
from types import SimpleNamespace

import torch
from trl import PPOTrainer
from trl.trainer.utils import AdaptiveKLController


def padded(rows, name, fill):
    width = max(len(r[name]) for r in rows)
    return torch.tensor([r[name] + [fill] * (width - len(r[name])) for r in rows])


def unpadded(values, rows):
    return [v[: len(r["logp"])].tolist() for v, r in zip(values, rows, strict=True)]


def ppo(rows, kl_coef, **config):
    """``now`` is the value of now, ``values`` the old one; what stands on pads must not count."""
    config = SimpleNamespace(kl_penalty="kl", ratio_threshold=10.0, **config)
    self = SimpleNamespace(config=config, kl_ctl=SimpleNamespace(value=kl_coef))
    self._kl_penalty = lambda a, b: PPOTrainer._kl_penalty(self, a, b)
    mask = padded([{"m": [1.0] * len(r["logp"])} for r in rows], "m", 0.0)
    old, ref, values = padded(rows, "old", -3.0), padded(rows, "ref", -5.0), padded(rows, "values", 7.0)
    scores = torch.tensor([r["score"] for r in rows])
    rewards, _, _ = PPOTrainer.compute_rewards(self, scores, old, ref, mask)
    values, advantages, returns = PPOTrainer.compute_advantages(self, values, rewards, mask)
    logp, now = padded(rows, "logp", -2.0).requires_grad_(), padded(rows, "now", 4.0).requires_grad_()
    logits = torch.zeros(*mask.shape, 2)
    policy, value, _ = PPOTrainer.loss(self, old, values, logits, now, logp, mask, advantages, returns)
    (policy + value).backward()
    arrays = {
        "rewards": rewards,
        "advantages": advantages,
        "returns": returns,
        "grad": logp.grad,
        "value_grad": now.grad,
    }
    return {
        "loss": (policy + value).item(), "policy": policy.item(), "value": value.item(),
        **{name: unpadded(array, rows) for name, array in arrays.items()},
    }  # fmt: skip


def controller(kl_coef, target, horizon, steps, seen):
    found = AdaptiveKLController(kl_coef, target, horizon)
    values = []
    for kl in seen:
        found.update(kl, steps)
        values.append(float(found.value))
    return {"values": values}


WHAT = {f.__name__: f for f in (ppo, controller)}
for line in sys.stdin:
    print(json.dumps([WHAT[job.pop("what")](**job) for job in json.loads(line)]), flush=True)
