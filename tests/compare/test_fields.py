"""Judges told by what they are, the list of fields and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pippin.compare import confounds, fields, manifests, stakes
from pippin.core.store import Store
from pippin.core.types import Call, Choice, Key, Outcome
from pippin.judge.resolve import resolve

PAGE = Path(__file__).parents[2] / "docs" / "confounds.md"


def test_the_page_is_what_the_list_makes():
    assert PAGE.read_text(encoding="utf-8") == fields.page(), "python -m pippin.compare.fields > docs/confounds.md"


@pytest.mark.parametrize("field", ["prompts.dev", "feedback", "post-processing"])
def test_the_others_are_compared_as_all_fields_are(field):
    found, _, _ = confounds.differences({"a": {field: "x"}, "b": {field: "y"}, "c": {}})
    assert [c["field"] for c in found] == [field] and set(found[0]["arms"]) == {"a", "b"}


def test_an_order_is_compared_where_the_rows_are_the_same():
    rows = {"a": ("x", 1), "b": ("x", 2), "c": ("y", 3)}
    flat = {arm: {"prompts.train": r, "prompts.train order": o} for arm, (r, o) in rows.items()}
    found, _, _ = confounds.differences(flat, {"c": ["prompts.train"]})
    assert {c["field"]: set(c["arms"]) for c in found} == {"prompts.train order": {"a", "b"}}


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("openai/gpt-4o-mini:metrics_reference", "openai/gpt-4o-mini:vanilla", "openai/gpt-4o-mini"),
        ("openai/a+openai/b:vanilla", "openai/b", "openai/b"),
        ("openai/v2@http://one/v1?rpm=5#KEY", "openai/v2@http://one/v1#OTHER", "openai/v2@http://one/v1?rpm=5"),
        ("openai/v2@http://one/v1", "openai/v2@http://two/v1", ""),
        ("gold", "gold_segments", "gold"),
        ("rule/longer", "rule/shorter", ""),
        ("a person: vanila", "gold", ""),
    ],
)
def test_judges_are_told_by_what_they_are(one, other, name):
    assert stakes.shared(one, other) == name


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("openai/gpt-4o-mini", "gpt"), ("hf/Qwen/Qwen2.5-0.5B-Instruct", "qwen"), ("world/sft", "world"),
        ("smollm2", "smollm"), ("openai/v2@http://host/v1", ""), ("./nowhere", ""), ("hf/me/base-model", ""),
    ],
)  # fmt: skip
def test_the_family_of_a_model(name, family):
    assert stakes.family(name) == family


def test_a_folder_is_of_the_family_of_what_it_was_made_from(tmp_path):
    for name, papers in (("run", {"manifest": {"model": str(tmp_path / "adapter")}}),):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pippin_run.json").write_text(json.dumps(papers))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}')
    assert stakes.family(str(tmp_path / "run")) == "qwen"
    assert stakes.kin("openai/qwen-max:vanilla", [str(tmp_path / "run")]) == ["openai/qwen-max"]
    assert stakes.kin("rule/longer", [str(tmp_path / "run")]) == []


def test_what_a_judge_was_served_as_is_read_off_its_calls(tmp_path):
    served = [("end", "judge-0"), ("end", "judge-1"), ("error", "judge-9")]
    calls = [
        Call(Key(name), name, "openai/judge", "A", stop, served_model=name, fingerprint="x") for stop, name in served
    ]
    said = [Choice("p", "a", "b", Outcome.FIRST, "judge", calls=(call.id,)) for call in calls]
    with Store(tmp_path / "store.db") as store:
        store.add_calls(calls)
        noted = manifests.of_verdicts(resolve("rule/longer"), said, store)
    assert noted["judge.served"] == [["openai/judge", "judge-0", "x"], ["openai/judge", "judge-1", "x"]]
