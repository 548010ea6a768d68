"""Every pure loss against golden values that were checked against TRL 0.28, 1.16 and 0.11.4."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pippin.align import shapes, terms
from pippin.stats import best_of_n, best_of_n_kl

SHARED = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN = SHARED / "specs" / "algorithms_golden.json"


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden values at {GOLDEN}; set PIPPIN_SHARED")
    return json.loads(GOLDEN.read_text())


def t(values):
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected, atol=2e-6):
    np.testing.assert_allclose(np.asarray(actual, dtype=float), np.asarray(expected, dtype=float), atol=atol)


def test_dpo_and_conservative_dpo(golden):
    x = {k: t(v) for k, v in golden["pair_inputs"].items() if k != "beta"}
    beta = golden["pair_inputs"]["beta"]
    gain_w, gain_l = x["logp_w"] - x["ref_w"], x["logp_l"] - x["ref_l"]
    pairs = torch.tensor([[0, 3], [1, 4], [2, 5]])
    h = terms.margins(torch.cat([gain_w, gain_l]), pairs)
    close(h, golden["pair_losses"]["h"])
    close(terms.dpo(h, torch.ones(3), beta), golden["pair_losses"]["dpo"])
    close(terms.dpo(h, torch.full((3,), 0.9, dtype=torch.float64), beta), golden["pair_losses"]["cdpo_eps01"])


def pair_sums(golden):
    """Gains, log-probabilities and lengths of the three pairs, chosen first."""
    x = {k: t(v) for k, v in golden["pair_inputs"].items() if k != "beta"}
    sums_N = torch.cat([x["logp_w"], x["logp_l"]])
    gain_N = sums_N - torch.cat([x["ref_w"], x["ref_l"]])
    return gain_N, sums_N, torch.cat([x["len_w"], x["len_l"]]), torch.tensor([[0, 3], [1, 4], [2, 5]])


def test_other_functions_of_the_dpo_margin(golden):
    gain_N, _, length_N, pairs = pair_sums(golden)
    beta, said = golden["pair_inputs"]["beta"], golden["pair_losses"]
    h, one = terms.margins(gain_N, pairs), torch.ones(3, dtype=torch.float64)
    close(terms.robust_dpo(h, one, beta, 0.1), said["robust_eps01"])
    close(terms.hinge(beta * h, one), said["hinge_norm"])
    close(terms.ipo(h, one, beta), said["ipo_sum"])
    close(terms.ipo(terms.margins(gain_N / length_N, pairs), one, beta), said["ipo_avg"])


def test_pairs_without_a_reference(golden):
    _, sums_N, length_N, pairs = pair_sums(golden)
    said, one = golden["pair_losses"], torch.ones(3, dtype=torch.float64)
    margin, mean_N = terms.margins(sums_N, pairs), sums_N / length_N
    close(terms.hinge(margin, one, 1.0), said["slic_delta1"])
    close(terms.bradley_terry(0.1 * margin, one), said["cpo_sigmoid"])
    close(terms.simpo(terms.margins(mean_N, pairs), one, 2.0, 1.0), said["simpo_b2_g1"])
    ratio = terms.margins(terms.log_odds(mean_N), pairs)
    close(ratio, said["orpo_lo"])
    close(0.1 * terms.bradley_terry(ratio, one), said["orpo_term_lam01"])


def test_kto(golden):
    g = golden["kto"]
    close(terms.kto(t(g["logratio"]), t(g["label"]), g["z"], g["beta"]), g["loss"])


def test_lists(golden):
    g = golden["list"]
    score, reward = t(g["score"]), t(g["reward"])
    pairs = torch.tensor([[i, j] for i in range(4) for j in range(4) if reward[i] > reward[j]])
    close(terms.rrhf(score, pairs).sum(), g["rrhf_rank"])
    order = reward.argsort(descending=True)
    parts = terms.pro(score[order], terms.temperatures(reward[order]))
    close(parts, g["pro_parts"])
    close(parts.sum(), g["pro"])
    close(terms.pro(score[order], torch.ones(4, 4, dtype=torch.float64)).sum(), g["plackett_luce"])


def test_kwise_reward_model_is_the_mean_of_all_bradley_terry_pairs(golden):
    rewards = t(golden["list"]["reward"])
    order = torch.argsort(rewards, descending=True).tolist()
    pairs = torch.tensor([[order[i], order[j]] for i in range(4) for j in range(i + 1, 4)])
    loss = terms.bradley_terry(terms.margins(rewards, pairs), torch.ones(6))
    close(loss.mean(), golden["list"]["kwise_rm_on_rewards"])


def test_ppo(golden):
    g = golden["ppo"]
    rewards, advantages, returns = [], [], []
    for i in range(2):
        n = int(sum(g["mask"][i]))
        old, ref, v = (np.array(g[k][i][:n]) for k in ("logp_old", "logp_ref", "values"))
        r = shapes.kl_rewards(old, ref, g["score"][i], g["kl_coef"])
        a, ret = shapes.gae(r, v, g["gamma"], g["lam"])
        rewards.append(r)
        advantages.append(a)
        returns.append(ret)
        close(r, g["rewards"][i][:n])
        close(a, g["gae"][i][:n])
        close(ret, g["returns"][i][:n])
    white = shapes.whiten(advantages)
    for i, a in enumerate(white):
        close(a, g["adv_white_bessel"][i][: len(a)])
    mask = t(g["mask"])

    def padded(arrays):
        out = torch.zeros(2, 4, dtype=torch.float64)
        for i, a in enumerate(arrays):
            out[i, : len(a)] = torch.from_numpy(a)
        return out

    pg = terms.ppo_policy(t(g["logp_new"]), t(g["logp_old"]), padded(white), 0.2)
    vf = terms.ppo_value(t(g["v_new"]), t(g["values"]), padded(returns), 0.2)
    pg, vf = (pg * mask).sum() / mask.sum(), (vf * mask).sum() / mask.sum()
    close(pg, g["pg_loss"])
    close(vf, g["vf_loss"])
    close(pg + 0.1 * vf, g["total_vf01"])


def test_best_of_n(golden):
    g = golden["bon"]
    for n, kl in g["kl"].items():
        close(best_of_n_kl(int(n)), kl)
    proxy, gold = np.array(g["est"]["proxy"]), np.array(g["est"]["gold"])
    for n, value in g["est"]["gold_bon"].items():
        close(best_of_n(proxy, gold, int(n), np.random.default_rng(0)), value)
