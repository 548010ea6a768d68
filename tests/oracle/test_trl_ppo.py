"""PPO as TRL 0.11.4 had it and ours on the same rollout: rewards, advantages, returns, losses and gradients, to 1e-5.

Later releases give the score to a position after the last token; ours is at the last token, as in 0.11.4. There the
score is not standardised: ours is given mean 0 and deviation 1 as what the first rollout had.
"""

import numpy as np
import pytest
from oracle_rows import example, ours, rows, same

from pippin.align import shapes
from pippin.align.methods import ppo
from pippin.align.shapes import Batch

pytestmark = pytest.mark.oracle
NUMBER = 10


@pytest.fixture(scope="module")
def trl(environment, ask):
    python = environment("trl-0.11.4", "transformers==4.45.2", "trl==0.11.4", "rich")
    return lambda jobs: ask(python, "trl011_ppo.py", jobs)


def rolled(seed, equal):
    """Rows with old and new values and scores; ratios and values move far enough to be clipped."""
    found, rng = rows(NUMBER, seed, equal=equal), np.random.default_rng(seed)
    for row in found:
        values = rng.normal(size=len(row["logp"]))
        now = values + 0.3 * rng.normal(size=len(values))
        row |= {"values": values.astype(np.float32).tolist(), "now": now.astype(np.float32).tolist()}
        row["score"] = float(np.float32(rng.normal()))
    found[3]["score"] = found[2]["score"]
    return found


CASES = [
    {},
    {"lam": 1.0},
    {"gamma": 0.9, "lam": 0.8},
    {"whiten_rewards": True},
    {"kl_coef": 0.4, "cliprange": 0.1, "cliprange_value": 0.05, "vf_coef": 0.5},
]


def test_rewards_advantages_and_losses(trl):
    """Whitened rewards are compared on responses of one length: TRL's whitening without shift gives the pads rewards,
    and its advantages carry them back into the shorter responses."""
    configs = [ppo.Config(**settings) for settings in CASES]
    found = [rolled(seed, config.whiten_rewards) for seed, config in enumerate(configs)]
    names = ("kl_coef", "gamma", "lam", "whiten_rewards", "cliprange", "cliprange_value", "vf_coef")
    said = trl([
        {"what": "ppo", "rows": r, **{name: getattr(c, name) for name in names}}
        for r, c in zip(found, configs, strict=True)
    ])  # fmt: skip
    for settings, r, config, b in zip(CASES, found, configs, said, strict=True):
        examples = [
            example(row, k, score=row["score"], ended=1.0).with_tokens(values_old=np.array(row["values"]))
            for k, row in enumerate(r)
        ]
        state = {"score_mean": 0.0, "score_std": 1.0}
        shaped = ppo.shape(Batch(tuple(examples)), config, state)
        mine = ours(ppo.METHOD, config, shaped, values=[row["now"] for row in r])
        mine["rewards"] = [
            shapes.kl_rewards(np.array(row["old"]), np.array(row["ref"]), row["score"], config.kl_coef).tolist()
            for row in r
        ]
        for name in ("advantages", "returns"):
            mine[name] = [e.token[name].tolist() for e in shaped.examples]
        mine |= mine["parts"]
        keys = ("rewards", "advantages", "returns", "policy", "value", "loss", "grad", "value_grad")
        same(f"ppo {settings}", mine, b, *keys)


def test_the_controller_of_beta(trl):
    """TRL's gain is rollouts over horizon, ours is ``k_beta``."""
    seen = [0.0, 3.0, 6.0, 6.5, 9.0, 40.0]
    job = {"what": "controller", "kl_coef": 0.2, "target": 6.0, "horizon": 10_000, "steps": 1000, "seen": seen}
    config, state, values = ppo.Config(kl_coef=0.2, target_kl=6.0, k_beta=0.1), {"kl_coef": 0.2}, []
    for kl in seen:
        state = ppo.control(state, {"objective/kl": kl}, config)
        values.append(state["kl_coef"])
    same("ppo controller", {"values": values}, trl([job])[0], "values")
