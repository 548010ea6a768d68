"""Run inside an environment that has TRL 0.28.0: its pure functions of sums of log-probabilities, DPO's and KTO's.

Each line of standard input is a list of jobs in JSON, and a line of standard output answers it: the loss of each pair
or response, and the gradient of their sum.
"""

import json
import sys
from types import SimpleNamespace

import torch
from trl import DPOTrainer
from trl.experimental.kto import KTOTrainer

ACCELERATOR = SimpleNamespace(device="cpu", gather_for_metrics=lambda values: values)


def answer(losses, leaf, **more):
    losses.sum().backward()
    return {"losses": losses.tolist(), "grad": leaf.grad.tolist(), **more}


def dpo(logp, ref, loss_type, beta, label_smoothing):
    self = SimpleNamespace(
        accelerator=ACCELERATOR, reference_free=False, f_divergence_type="reverse_kl", f_divergence_params=None,
        beta=beta, label_smoothing=label_smoothing,
    )  # fmt: skip
    leaf = torch.tensor(logp, requires_grad=True)
    losses, chosen, rejected = DPOTrainer.dpo_loss(self, *leaf.chunk(2), *torch.tensor(ref).chunk(2), loss_type)
    return answer(losses, leaf, rewards=[*chosen.tolist(), *rejected.tolist()])


def kto(logp, ref, strange, strange_ref, labels, **settings):
    self = SimpleNamespace(accelerator=ACCELERATOR, calculate_KL=True, loss_type="kto", **settings)
    leaf, said, good = torch.tensor(logp, requires_grad=True), torch.tensor(ref), torch.tensor(labels) > 0
    losses, *_, kl = KTOTrainer.kto_loss(
        self, leaf[good], leaf[~good], torch.tensor(strange), said[good], said[~good], torch.tensor(strange_ref)
    )
    ordered = torch.zeros_like(leaf)
    ordered[torch.cat([good.nonzero()[:, 0], (~good).nonzero()[:, 0]])] = losses
    return answer(ordered, leaf, kl=kl.item())


WHAT = {f.__name__: f for f in (dpo, kto)}
for line in sys.stdin:
    print(json.dumps([WHAT[job.pop("what")](**job) for job in json.loads(line)]), flush=True)
