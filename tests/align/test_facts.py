"""What `pippin list methods` says of each method, against the papers and against what the methods do."""

import pytest

from pippin.align.facts import COLUMNS, facts, sketch
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


@pytest.mark.parametrize("name", METHODS)
def test_the_text_of_a_file_says_the_same_as_the_loaded_method(name):
    """So that a listing need not load torch: no method of the package needs to be run for it."""
    [path] = [e.path for e in catalog.entries("methods") if e.name == name]
    read = sketch(path)
    assert read is not None
    assert facts(read) == facts(catalog.load("methods", name))


@pytest.mark.parametrize(
    "change",
    [
        ("reads=", "**more, reads="),
        ("lambda config: frozenset({'reference'})", "my_parts"),
        ("lambda config: frozenset({'reference'})", "lambda config: OTHERS"),
        ("Method(", "make("),
        ("class Config", "class Settings"),
    ],
)
def test_where_the_text_does_not_say_it_nothing_is_guessed(change, tmp_path):
    text = (
        "class Config:\n    beta: float = setting(0.1, 'x')\n\n\n"
        "METHOD = Method(config=Config, reads='preferences', layout=x, parts=lambda config: frozenset({'reference'}))\n"
    )
    (tmp_path / "m.py").write_text(text)
    assert facts(sketch(tmp_path / "m.py"))["reference"] == "yes"
    (tmp_path / "m.py").write_text(text.replace(*change))
    read = sketch(tmp_path / "m.py")
    assert read is None
