"""TRL 1.16.0's own losses and ours on the same log-probabilities: the loss, and its gradient, to 1e-5.

The whole reduced loss is compared: rows differ in length, one response has a single token, one pair is two times the
same response, one margin is so large that a hinge is at rest. Where TRL defines a thing otherwise, the test says what
is compared.
"""

import itertools
from typing import Any

import numpy as np
import pytest
from oracle_rows import example, ours, pairs, reference_point, rows, same

from pippin.align.method import Outputs
from pippin.align.methods import cpo, dpo, grpo, kto, orpo, reward_model, rloo, sft, simpo
from pippin.align.shapes import Batch, collate

pytestmark = pytest.mark.oracle
PAIRS, GROUPS, K = 6, 3, 4


@pytest.fixture(scope="module")
def trl(environment, ask):
    python = environment("trl-1.16.0", "torch==2.13.0", "transformers==5.24.0", "trl==1.16.0")
    return lambda jobs: ask(python, "trl116_losses.py", jobs)


def paired_rows(seed):
    """Chosen, then rejected; the third pair is twice the same response, the fourth is settled by far."""
    found = rows(2 * PAIRS, seed)
    found[2 + PAIRS] = dict(found[2])
    found[3]["ref"] = [x - 4.0 for x in found[3]["ref"]]
    return found


DPO = [
    (["sigmoid"], [1.0], {"beta": 0.1}),
    (["sigmoid"], [1.0], {"beta": 1.5}),
    (["robust"], [1.0], {"beta": 0.3, "loss_type": "robust", "label_smoothing": 0.2}),
    (["hinge"], [1.0], {"beta": 0.5, "loss_type": "hinge"}),
    (["ipo"], [1.0], {"beta": 0.2, "loss_type": "ipo", "ipo_average": True}),
    (["sigmoid", "sft"], [1.0, 0.7], {"beta": 0.1, "rpo_alpha": 0.7}),
    (["ipo", "sft"], [1.0, 2.0], {"beta": 0.5, "loss_type": "ipo", "ipo_average": True, "rpo_alpha": 2.0}),
]


def test_dpo(trl):
    jobs, mine = [], []
    for seed, (types, weights, settings) in enumerate(DPO):
        found, config = paired_rows(seed), dpo.Config(**settings)
        smoothing = config.label_smoothing
        jobs.append({"what": "dpo", "rows": found, "loss_types": types, "loss_weights": weights,
                     "beta": config.beta, "label_smoothing": smoothing})  # fmt: skip
        mine.append(ours(dpo.METHOD, config, pairs(found)))
    for (types, _, settings), a, b in zip(DPO, mine, trl(jobs), strict=True):
        same(f"dpo {'+'.join(types)} beta {settings['beta']}", a, b, "loss", "grad")


def test_dpo_on_soft_labels_is_trl_on_both_orders(trl):
    """TRL has hard labels only: p times its loss of a pair and 1 - p times that of the pair turned round."""
    found = paired_rows(20)
    turned = found[PAIRS:] + found[:PAIRS]
    settings = [
        {"beta": 0.4},
        {"beta": 0.5, "loss_type": "hinge"},
        {"beta": 0.2, "loss_type": "ipo", "ipo_average": True},
    ]
    jobs = [
        {"what": "dpo", "rows": way, "loss_types": [s.get("loss_type", "sigmoid")], "loss_weights": [1.0],
         "beta": s["beta"], "label_smoothing": 0.0}
        for s in settings for way in (found, turned)
    ]  # fmt: skip
    said = trl(jobs)
    for k, (s, p) in enumerate(itertools.product(settings, (0.5, 0.8))):
        one, two = said[2 * (k // 2)], said[2 * (k // 2) + 1]
        back = two["grad"][PAIRS:] + two["grad"][:PAIRS]
        mixed = {
            "loss": p * one["loss"] + (1 - p) * two["loss"],
            "grad": [
                [p * x + (1 - p) * y for x, y in zip(a, b, strict=True)] for a, b in zip(one["grad"], back, strict=True)
            ],
        }
        same(f"dpo soft {p} {s}", ours(dpo.METHOD, dpo.Config(**s), pairs(found, p)), mixed, "loss", "grad")


def test_figures_of_dpo(trl):
    found = paired_rows(21)
    (said,) = trl([{"what": "dpo", "rows": found, "loss_types": ["sigmoid"], "loss_weights": [1.0], "beta": 0.2,
                    "label_smoothing": 0.0}])  # fmt: skip
    batch = pairs(found)
    tensors = collate(batch, 0)
    _, metrics = dpo.loss(Outputs(logp_N_T=tensors.token["logp"]), tensors, dpo.Config(beta=0.2))
    same("dpo figures", {k: float(metrics[k].mean()) for k in said["logged"]}, said["logged"], *said["logged"])


def strange_rows(found, seed, shift):
    """As many mismatched rows; ``shift`` moves the policy's log-probabilities and so the sign of z."""
    others = rows(len(found), seed, longest=5)
    return [{**o, "logp": [min(x + shift, -1e-3) for x in o["ref"]]} for o in others]


@pytest.mark.parametrize(("shift", "positive"), [(0.3, True), (-0.3, False)])
def test_kto(trl, shift, positive):
    """TRL mismatches rows inside one micro-batch; here both are given the same ones, and z is compared too."""
    found, strange = rows(9, 30), strange_rows(rows(9, 30), 31, shift)
    cases = [([1, 0, 1, 1, 0, 0, 1, 0, 1], 1.0, 1.0), ([1] * 9, 1.0, 1.2), ([0] * 8 + [1], 1.33, 0.7)]
    configs = [kto.Config(beta=0.5, desirable_weight=d, undesirable_weight=u) for _, d, u in cases]
    said = trl([{"what": "kto", "rows": found, "strange": strange, "labels": labels, "beta": 0.5,
                 "desirable_weight": d, "undesirable_weight": u} for labels, d, u in cases])  # fmt: skip
    z = reference_point(strange)
    assert (z["z"] > 0) is positive
    for (labels, *_), config, b in zip(cases, configs, said, strict=True):
        batch = Batch(
            tuple(example(r, k, desirable=float(d)) for k, (r, d) in enumerate(zip(found, labels, strict=True)))
        )
        same("kto", ours(kto.METHOD, config, batch, coupled=z), b, "loss", "grad")
        same("kto z", {"kl": z["z"]}, b["logged"], "kl")


@pytest.mark.parametrize(("margin", "centering"), [(False, None), (True, None), (False, 0.01), (True, 0.5)])
def test_reward_model(trl, margin, centering):
    """Each prompt has one pair, so that the mean over prompts is TRL's mean over pairs; a tie among the scores."""
    rng = np.random.default_rng(40)
    scores = rng.normal(size=2 * PAIRS).astype(np.float32)
    scores[PAIRS] = scores[0]
    strength = rng.choice([0.0, 1 / 3, 2 / 3, 1.0], PAIRS)
    scale = 3.0 if margin else 0.0
    job = {"what": "reward", "scores": scores.tolist(), "margin": (scale * strength).tolist() if margin else None,
           "center_rewards_coefficient": centering}  # fmt: skip
    config = reward_model.Config(margin_scale=scale, center_rewards_coefficient=centering or 0.0)
    batch = pairs(rows(2 * PAIRS, 40), strength=strength.tolist())
    mine = ours(reward_model.METHOD, config, batch, scores=scores.tolist())
    same(f"reward margin {margin} centering {centering}", mine, trl([job])[0], "loss", "score_grad")


def test_sft(trl):
    found = rows(7, 50)
    batch = Batch(tuple(example(r, k) for k, r in enumerate(found)))
    same("sft", ours(sft.METHOD, sft.Config(), batch), trl([{"what": "sft", "rows": found}])[0], "loss", "grad")


def sampled(seed, *, cut=False):
    """Rows of three prompts with four responses each; all rewards of the second prompt are equal, two others tie."""
    found, rng = rows(GROUPS * K, seed), np.random.default_rng(seed)
    scores = rng.normal(size=GROUPS * K).astype(np.float32)
    scores[K : 2 * K], scores[1] = scores[K], scores[0]
    ended = rng.random(GROUPS * K) < 0.6 if cut else np.ones(GROUPS * K, dtype=bool)
    for row, score, end in zip(found, scores, ended, strict=True):
        row |= {"score": float(score), "ended": bool(end)}
    return found


def rolled(method, found, config):
    """Our loss and advantages of a rollout."""
    batch = Batch(tuple(example(r, k // K, score=r["score"], ended=float(r["ended"])) for k, r in enumerate(found)))
    shaped = method.shape(batch, config, {})
    return {**ours(method, config, shaped), "advantages": [e.value["advantage"] for e in shaped.examples]}


def rloo_job(found, config):
    return {
        "what": "rloo", "rows": found, "num_generations": K, "beta": config.beta, "epsilon": config.epsilon,
        "normalize_advantages": config.normalize_advantages,
        "mask_truncated_completions": config.mask_truncated_completions,
    }  # fmt: skip


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("normalize", [False, True])
def test_rloo(trl, beta, normalize):
    found = sampled(60)
    config = rloo.Config(num_generations=K, beta=beta, epsilon=0.2, normalize_advantages=normalize)
    (said,) = trl([rloo_job(found, config)])
    same(f"rloo beta {beta}", rolled(rloo.METHOD, found, config), said, "advantages", "loss", "grad")


GRPO = [
    *({"loss_type": t, "beta": b} for t in ("grpo", "bnpo", "dapo", "dr_grpo") for b in (0.0, 0.3)),
    {"loss_type": "dapo", "epsilon_high": 0.28},
    {"loss_type": "grpo", "scale_rewards": "batch"},
    {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.04},
    {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    {"loss_type": "dapo", "importance_sampling_level": "sequence", "beta": 0.1},
]


def grpo_job(found, config):
    return {
        "what": "grpo", "rows": found, "num_generations": K, "beta": config.beta, "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high or config.epsilon, "loss_type": config.loss_type,
        "scale_rewards": config.scale_rewards, "importance_sampling_level": config.importance_sampling_level,
        "max_completion_length": config.max_completion_length,
        "mask_truncated_completions": config.mask_truncated_completions,
    }  # fmt: skip


def test_grpo(trl):
    configs = [grpo.Config(num_generations=K, **{"max_completion_length": 12, **settings}) for settings in GRPO]
    found = [sampled(70 + k) for k in range(len(GRPO))]
    said = trl([grpo_job(r, c) for r, c in zip(found, configs, strict=True)])
    for settings, r, c, b in zip(GRPO, found, configs, said, strict=True):
        same(f"grpo {settings}", rolled(grpo.METHOD, r, c), b, "advantages", "loss", "grad")


def test_cut_responses_that_are_masked(trl):
    """Both give a cut response no gradient; where rows are counted TRL still counts it and we do not. RLOO's gradient
    is compared without KL: TRL gives a cut response no KL, and so changes what the others are compared with."""
    found = sampled(90, cut=True)
    kept = sum(r["ended"] for r in found)
    assert 0 < kept < len(found)
    share = kept / len(found)
    cases: list[Any] = [("grpo", share), ("bnpo", 1.0), ("dapo", 1.0), ("dr_grpo", share)]
    configs = [
        grpo.Config(num_generations=K, loss_type=t, max_completion_length=12, mask_truncated_completions=True, beta=0.1)
        for t, _ in cases
    ]
    whole = rloo.Config(num_generations=K, beta=0.0, mask_truncated_completions=True)
    said = trl([grpo_job(found, c) for c in configs] + [rloo_job(found, whole)])
    for (name, scale), config, b in zip(cases, configs, said[:-1], strict=True):
        mine = rolled(grpo.METHOD, found, config)
        same(f"cut {name}", mine, b, "advantages")
        same(f"cut {name}", mine, b, "loss", "grad", scale=scale)
    mine = rolled(rloo.METHOD, found, whole)
    same("cut rloo", mine, said[-1], "advantages")
    same("cut rloo", mine, said[-1], "grad", scale=share)


@pytest.mark.parametrize(
    ("loss_type", "beta", "alpha"), [("sigmoid", 0.1, 1.0), ("sigmoid", 0.7, 0.0), ("hinge", 0.2, 0.5)]
)
def test_cpo(trl, loss_type, beta, alpha):
    found = paired_rows(100)
    job = {"what": "cpo", "rows": found, "loss_type": loss_type, "beta": beta, "cpo_alpha": alpha,
           "label_smoothing": 0.0, "simpo_gamma": 0.0}  # fmt: skip
    config = cpo.Config(beta=beta, loss_type=loss_type, cpo_alpha=alpha)
    same(f"cpo {loss_type}", ours(cpo.METHOD, config, pairs(found)), trl([job])[0], "loss", "grad")


def test_simpo(trl):
    found = paired_rows(101)
    job = {"what": "cpo", "rows": found, "loss_type": "simpo", "beta": 2.5, "cpo_alpha": 0.0, "label_smoothing": 0.0,
           "simpo_gamma": 1.2}  # fmt: skip
    config = simpo.Config(beta=2.5, simpo_gamma=1.2)
    same("simpo", ours(simpo.METHOD, config, pairs(found)), trl([job])[0], "loss", "grad")


def test_orpo(trl):
    """TRL's likelihood counts the prompt's tokens and all tokens of the batch alike, ours the response's and each
    response alike: on one pair whose prompt has no log-probability of its own they are one. The odds ratio is compared
    on all.
    """
    found = paired_rows(110)
    alone = [{**r, "prompt": 1} for r in (found[0], found[PAIRS])]
    both = trl([{"what": "orpo", "rows": r, "beta": 0.3} for r in (alone, found)])
    same("orpo", ours(orpo.METHOD, orpo.Config(beta=0.3), pairs(alone)), both[0], "loss", "grad")
    mine = ours(orpo.METHOD, orpo.Config(beta=0.3), pairs(found))
    same("orpo ratio", {"loss": mine["parts"]["odds_ratio"]}, {"loss": both[1]["loss"] - both[1]["nll"]}, "loss")
    rejected = slice(PAIRS, None)  # the likelihood is of the chosen only
    same("orpo ratio", {"grad": mine["grad"][rejected]}, {"grad": both[1]["grad"][rejected]}, "grad")
