"""Settings of TRL and transformers that have another name here: each is told what to do."""

import re
from dataclasses import fields

import pytest

from pippin.align import hints
from pippin.align.method import Training
from pippin.align.settings import Settings
from pippin.app.job import Job
from pippin.core import catalog
from pippin.core.errors import InputError

SHARED = {f.name for f in fields(Training)} | {f.name for f in fields(Job)}


@pytest.mark.parametrize(
    ("method", "key", "words"),
    [
        ("dpo", "warmup_steps", "warmup_ratio"),
        ("ppo", "beta", "Use kl_coef"),
        ("ppo", "num_ppo_epochs", "num_train_epochs"),
        ("grpo", "temperature", "temperature 1"),
        ("cpo", "simpo_gamma", "method simpo"),
        ("sft", "completion_only_loss", "train_on_prompt"),
        ("dpo", "bta", "Did you mean 'beta'"),
        ("dpo", "zzz", "Known: "),
    ],
)
def test_what_is_said(method, key, words):
    with pytest.raises(InputError, match=f"no setting of {method} named '{key}'.*{words}"):
        Settings.of(method, catalog.load("methods", method), {key: 1})


def test_no_hint_hides_a_setting_that_there_is():
    for name in catalog.names("methods"):
        own = {f.name for f in fields(catalog.load("methods", name).config)}
        assert not own & hints.OWN.get(name, {}).keys(), name
        if "prompts_per_rollout" in own:
            assert not own & hints.SAMPLING.keys(), name
    assert not SHARED & hints.SAID.keys()


def test_hints_name_settings_and_methods_that_there_are():
    for name, words in hints.OWN.items():
        known = SHARED | {f.name for f in fields(catalog.load("methods", name).config)}
        for said in words.values():
            for target in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", said):
                assert target in known, (name, target)
            for target in re.findall(r"[Uu]se the method (\w+)", said):
                assert target in catalog.names("methods")
