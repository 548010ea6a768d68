"""What `pippin list methods` says of each method, against the papers and against what the methods do."""

import pytest

from pippin.align.facts import COLUMNS, facts
from pippin.core import catalog

METHODS = catalog.names("methods")
PAPERS = {  # score, reference, responses; at the default settings
    "best_of_n": ("none", "no", "in use"),
    "cpo": ("sum", "no", "offline"),
    "dpo": ("sum", "yes", "offline"),
    "expert_iteration": ("mean", "no", "online"),
    "grpo": ("none", "no", "online"),  # a reference where beta is set
    "kto": ("sum", "yes", "offline"),
    "online_dpo": ("sum", "yes", "online"),
    "orpo": ("mean", "no", "offline"),
    "ppo": ("none", "yes", "online"),
    "pro": ("mean", "no", "offline"),
    "quark": ("mean", "yes", "online"),
    "rloo": ("sum", "yes", "online"),
    "rrhf": ("mean", "no", "offline"),
    "rso": ("sum", "yes", "once"),
    "sft": ("mean", "no", "offline"),
    "simpo": ("mean", "no", "offline"),
    "slic": ("sum", "no", "offline"),
    "slic_sample": ("sum", "no", "once"),
}


@pytest.mark.parametrize("name", PAPERS)
def test_as_the_papers_have_it(name):
    assert tuple(facts(catalog.load("methods", name)).values()) == PAPERS[name]


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_is_what_happens(name, make_bench):
    """A method samples in its pipeline where its responses are not the data's, and only there."""
    bench = make_bench(name)
    said = facts(bench.method)
    assert tuple(said) == COLUMNS
    assert said["score"] in ("sum", "mean", "none") and said["reference"] in ("yes", "no")
    groups = []
    for step in bench.method.pipeline:
        groups = step(bench.context, groups)
    assert (bench.context.ledger.policy_tokens_sampled > 0) == (said["responses"] in ("once", "online"))
    assert bool(bench.method.terms) == (said["responses"] != "in use")
