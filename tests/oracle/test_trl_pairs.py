"""TRL 0.28.0's pure losses of pairs and of single responses, pair by pair, and ours on the same rows: to 1e-5.

Later releases have no conservative DPO, no IPO on sums, and no such functions to call.
"""

import numpy as np
import pytest
import torch
from oracle_rows import example, pairs, reference_point, rows, same

from pippin.align.method import Outputs
from pippin.align.methods import dpo, kto
from pippin.align.shapes import Batch, collate

pytestmark = pytest.mark.oracle
PAIRS = 8
CASES = [
    {"beta": 0.1},
    {"beta": 0.1, "label_smoothing": 0.1},
    {"beta": 0.8, "label_smoothing": 0.3},
    {"beta": 0.3, "label_smoothing": 0.2, "loss_type": "robust"},
    {"beta": 0.2, "loss_type": "ipo"},
    {"beta": 0.4, "loss_type": "hinge"},
]


@pytest.fixture(scope="module")
def trl(environment, ask):
    python = environment("trl-0.28.0", "transformers==4.57.6", "trl==0.28.0")
    return lambda jobs: ask(python, "trl028_pairs.py", jobs)


def sums(found, name):
    return [float(np.sum(r[name], dtype=np.float32)) for r in found]


def answered(losses, leaf, mask):
    """As the script answers; all tokens of a response have the gradient of its sum."""
    losses.sum().backward()
    return {"losses": losses.tolist(), "grad": [float(g[m][0]) for g, m in zip(leaf.grad, mask, strict=True)]}


def paired_rows():
    found = rows(2 * PAIRS, 3, ratio=0.8)
    found[2 + PAIRS] = dict(found[2])  # a pair that is twice the same response
    return found


def mine_of(found, settings, p):
    tensors = collate(pairs(found, p), 0)
    leaf = tensors.token["logp"].clone().requires_grad_()
    losses, metrics = dpo.loss(Outputs(logp_N_T=leaf), tensors, dpo.Config(**settings))
    rewards = torch.cat([metrics["rewards/chosen"], metrics["rewards/rejected"]])
    return {**answered(losses, leaf, tensors.mask_N_T), "rewards": rewards.tolist()}


def job(found, settings):
    config = dpo.Config(**settings)
    return {"what": "dpo", "logp": sums(found, "logp"), "ref": sums(found, "ref"), "loss_type": config.loss_type,
            "beta": config.beta, "label_smoothing": config.label_smoothing}  # fmt: skip


def test_dpo(trl):
    found = paired_rows()
    for settings, b in zip(CASES, trl([job(found, s) for s in CASES]), strict=True):
        same(f"0.28 dpo {settings}", mine_of(found, settings, 1.0), b, "losses", "grad", "rewards")


@pytest.mark.parametrize("p", [0.5, 0.7])
def test_a_soft_label_mixes_both_orders(trl, p):
    """TRL has hard labels only; a tie is a half of each order. At 1 - ε it is conservative DPO."""
    found = paired_rows()
    turned = found[PAIRS:] + found[:PAIRS]
    said = trl([job(way, s) for s in CASES for way in (found, turned)])
    for k, settings in enumerate(CASES):
        one, two = (np.array(x["losses"]) for x in said[2 * k : 2 * k + 2])
        mixed = {"losses": (p * one + (1 - p) * two).tolist()}
        same(f"0.28 dpo soft {p} {settings}", mine_of(found, settings, p), mixed, "losses")
    (smoothed,) = trl([job(found, {"beta": 0.1, "label_smoothing": 1 - max(p, 0.6)})])
    same("0.28 cdpo", mine_of(found, {"beta": 0.1}, max(p, 0.6)), smoothed, "losses", "grad")


@pytest.mark.parametrize(("shift", "positive"), [(0.5, True), (-0.5, False)])
def test_kto(trl, shift, positive):
    """The mismatched rows are given to both; the reference point is compared with that of our own step over a batch."""
    found, strange, labels = rows(7, 11, ratio=0.8), rows(7, 12), [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    strange = [{**r, "logp": [x + shift for x in r["ref"]]} for r in strange]
    settings = {"beta": 0.6, "desirable_weight": 1.33, "undesirable_weight": 0.9}
    (said,) = trl([{"what": "kto", "logp": sums(found, "logp"), "ref": sums(found, "ref"), "labels": labels,
                    "strange": sums(strange, "logp"), "strange_ref": sums(strange, "ref"), **settings}])  # fmt: skip
    coupled = reference_point(strange)
    assert (coupled["z"] > 0) is positive
    same("0.28 kto z", {"kl": coupled["z"]}, said, "kl")
    batch = Batch(tuple(example(r, k, desirable=d) for k, (r, d) in enumerate(zip(found, labels, strict=True))))
    tensors = collate(batch, 0, coupled)
    leaf = tensors.token["logp"].clone().requires_grad_()
    losses, _ = kto.loss(Outputs(logp_N_T=leaf), tensors, kto.Config(**settings))
    same("0.28 kto", answered(losses, leaf, tensors.mask_N_T), said, "losses", "grad")
