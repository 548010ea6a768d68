"""A small real policy (the world's base) and data of every kind that a method reads."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pippin.align import networks, sources
from pippin.align.method import Method
from pippin.align.settings import Settings
from pippin.core import catalog
from pippin.core.types import Choice, Group, Outcome, Response, Score, assistant
from pippin.feedback.collapse import Rule, collapse
from pippin.lm.hf import load_policy
from pippin.world import people, tasks

SMALL = {
    "chain_of_hindsight": {"positive_marker": "great answer :", "negative_marker": "no answer :"},
    "conditional": {"drop_token_fraction": 0.2},
    "best_of_n": {"candidates": (2,), "max_completion_length": 8},
    "expert_iteration": {
        "num_rounds": 2,
        "prompts_per_round": 6,
        "num_generations": 3,
        "max_completion_length": 8,
    },
    "context_distillation": {"context": "list", "place": "user", "max_completion_length": 12},
    "fine_grained": {
        "num_rollouts": 2,
        "prompts_per_rollout": 6,
        "num_generations": 2,
        "max_completion_length": 8,
    },
    "grpo": {
        "num_rollouts": 2,
        "prompts_per_rollout": 6,
        "num_generations": 3,
        "max_completion_length": 8,
        "beta": 0.1,
    },
    "ilf": {"num_rounds": 2, "prompts_per_round": 8, "num_refinements": 2, "max_completion_length": 12},
    "online_dpo": {"num_rollouts": 4, "prompts_per_rollout": 6, "max_completion_length": 8},
    "ppo": {"num_rollouts": 2, "prompts_per_rollout": 6, "max_completion_length": 8},
    "quark": {
        "num_rounds": 2,
        "prompts_per_round": 10,
        "max_completion_length": 8,
        "num_quantiles": 2,
        "per_device_train_batch_size": 4,
    },
    "slic_sample": {"num_candidates": 3, "max_completion_length": 8},
    "rso": {"num_candidates": 6, "num_samples": 4, "max_completion_length": 8, "gradient_accumulation_steps": 1},
    "rloo": {"num_rollouts": 2, "prompts_per_rollout": 6, "max_completion_length": 8},
}
"""What makes a method small enough for a test; a method without an entry runs at its defaults."""


def length_reward(prompts, texts):
    """A reward that every method can climb: shorter is better, with a little that tells equal lengths apart."""
    return [-float(len(t.split())) + 0.01 * (len(t) % 7) for t in texts]


def demonstrations(n=8, seed=0):
    rows = people.demonstrations(n, seed)
    return [Group(p, (Response(p.id, assistant(t), by=who, stop="end"),)) for p, t, who in rows]


def preferences(n=8, seed=0):
    """Groups of three responses, with every kind of outcome among their judgements."""
    rng = np.random.default_rng(seed)
    rows = people.demonstrations(3 * n, seed)
    out = []
    for k in range(n):
        prompt = rows[3 * k][0]
        responses = tuple(
            Response(prompt.id, assistant(rows[3 * k + i][1]), by="crowd", sample=i, stop="end") for i in range(3)
        )
        outcomes = [
            Outcome(str(o))
            for o in rng.choice(
                [Outcome.FIRST, Outcome.SECOND, Outcome.TIE, Outcome.UNPARSED], size=3, p=[0.5, 0.3, 0.1, 0.1]
            )
        ]
        pairs = [(0, 1), (0, 2), (1, 2)]
        said = tuple(
            Choice(prompt.id, responses[i].id, responses[j].id, o, by="test")
            for (i, j), o in zip(pairs, outcomes, strict=True)
        )
        out.append(Group(prompt, responses, said))
    return out


def scored(n=8, seed=0):
    """Groups of three short responses with a number each, equal ones among them."""
    rng = np.random.default_rng(seed)
    out = []
    for group in preferences(n, seed):
        short = tuple(replace(r, messages=assistant(" ".join(r.text.split()[:4]))) for r in group.responses)
        said = tuple(Score(group.prompt.id, r.id, float(rng.integers(1, 5)), "test") for r in short)
        out.append(replace(group, responses=short, judgements=said))
    return out


def mixed(n=8, seed=0):
    """Preferences, and demonstrations of other prompts."""
    return preferences(n, seed) + demonstrations(n, seed + 1)


DATA = {"chain_of_hindsight": mixed, "conditional": scored, "feedme": scored, "pro": scored, "rrhf": scored}
"""What a method is tested on, where that is not what its ``reads`` says."""


@dataclass
class Bench:
    """One method with its networks and context, ready for the loop."""

    name: str
    method: Method
    context: sources.Context
    networks: networks.Networks


def bench(name, n=8, seed=0, policy=None, reward=None, **settings):
    method = catalog.load("methods", name)
    chosen = Settings.of(name, method, {"seed": seed, "max_length": 64, **SMALL.get(name, {}), **settings})
    policy = policy or load_policy("world/base")
    data = DATA.get(name, {"demonstrations": demonstrations, "preferences": preferences}.get(method.reads))
    data = data(n, seed) if data else ()
    context = sources.Context(
        policy=policy,
        config=chosen.own,
        training=chosen.training,
        seed=seed,
        data=data,
        prompts=tasks.prompts("train", 40, seed) if method.reads == "prompts" else (),
        scorer=length_reward,
        feedback=lambda prompts, texts: ["too long" if len(t.split()) > 1 else "" for t in texts],
        development=tasks.prompts("dev", 10, seed),
        evaluate=length_reward,
    )
    if method.reads == "preferences":
        context.preferences = [collapse(g.judgements, g.responses, Rule(ties="half")).preferences for g in data]
    context.control = policy.add_tokens(method.tokens(chosen.own), seed)
    nets = networks.build(
        policy,
        method.parts(chosen.own),
        reward=None,
        kind=getattr(chosen.own, "head", "last"),
        seed=seed,
        control=tuple(context.control.values()),
    )
    context.reference = nets.reference
    return Bench(name, method, context, nets)


@pytest.fixture
def make_bench():
    """``bench``, and as ``small`` the settings that make methods small."""
    bench.small = SMALL
    return bench
