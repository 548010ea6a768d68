"""A frozen plan tells what changed after it, and whether the data were seen before."""

import pytest

from pippin.compare import freeze
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.core.store import Store

from .studies import varied, write


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "home" / "store.db") as made:
        yield made


def planned(folder, name="study.yaml", **changes):
    return plan(read_study(write(folder, varied(**changes), name)))


def see(made, store):
    """A verdict on the test prompts appears in the store."""
    store.add_cell(next(iter(made.runs[0].verdicts.values())), {"kind": "judge"}, {"values": {}})


def test_a_study_without_a_frozen_plan_has_none(tmp_path, store):
    assert freeze.frozen(planned(tmp_path), store) is None


def test_frozen_twice_it_is_one_plan_and_the_same_at_every_reading(tmp_path, store):
    made = planned(tmp_path)
    first = freeze.freeze(made, store)
    assert freeze.freeze(planned(tmp_path), store) == first
    told = freeze.frozen(made, store)
    assert told == {"hash": first["hash"], "when": first["when"], "data_seen_before": False, "changed": [], "again": []}
    see(made, store)
    assert freeze.frozen(made, store) == told  # what came later was not seen before


def test_every_changed_field_is_listed_with_both_values(tmp_path, store):
    freeze.freeze(planned(tmp_path), store)
    changes = {"seeds": [0, 1], "settings": {"dpo": {"beta": 0.3, "max_steps": 2}}, "judge": "rule/longer"}
    now = planned(tmp_path, **changes, prompts={"test": "world/heldout?n=20&seed=3"})
    found = freeze.frozen(now, store)
    assert found is not None
    told = {c["field"]: (c["then"], c["now"]) for c in found["changed"]}
    assert told["judge"] == ("gold", "rule/longer")
    assert told["seeds"] == (None, [0, 1])  # [0] is the default
    assert told["settings.dpo.beta"] == (None, 0.3) and told["settings.dpo.data"] == ("$feedback", None)
    assert told["prompts.test"] == ("world/heldout?n=16&seed=3", "world/heldout?n=20&seed=3")
    assert "prompts.test.hash" in told and "prompts.dev.hash" not in told and "question" not in told


def test_a_file_that_changed_under_its_name_is_a_change(tmp_path, store):
    rows = tmp_path / "test.jsonl"
    rows.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    freeze.freeze(planned(tmp_path, prompts={"test": str(rows)}), store)
    rows.write_text('{"prompt": "one"}\n{"prompt": "three"}\n')
    found = freeze.frozen(planned(tmp_path, prompts={"test": str(rows)}), store)
    assert found is not None and [c["field"] for c in found["changed"]] == ["prompts.test.hash"]


def test_data_that_were_seen_are_told_and_do_not_count_as_a_fresh_start(tmp_path, store):
    made = planned(tmp_path)
    first = freeze.freeze(made, store)
    see(made, store)
    later = planned(tmp_path, judge="rule/longer")  # other verdicts, of which none is there yet
    second = freeze.freeze(later, store)
    assert second["data_seen_before"] and second["hash"] != first["hash"]
    found = freeze.frozen(later, store)
    assert found is not None and found["hash"] == first["hash"] and not found["data_seen_before"]
    assert [c["field"] for c in found["changed"]] == ["judge"]
    assert [row["hash"] for row in found["again"]] == [second["hash"]]


def test_a_plan_amended_before_any_data_is_the_one_that_counts(tmp_path, store):
    freeze.freeze(planned(tmp_path), store)
    amended = planned(tmp_path, judge="rule/longer")
    last = freeze.freeze(amended, store)
    found = freeze.frozen(amended, store)
    assert found is not None and (found["hash"], found["changed"], found["again"]) == (last["hash"], [], [])


def test_a_plan_is_found_by_its_question_or_its_path(tmp_path, store):
    freeze.freeze(planned(tmp_path, "a.yaml"), store)
    moved = freeze.frozen(planned(tmp_path, "b.yaml"), store)
    assert moved is not None and moved["changed"] == []
    asked_anew = freeze.frozen(planned(tmp_path, "a.yaml", question="Does it walk?"), store)
    assert asked_anew is not None and [c["field"] for c in asked_anew["changed"]] == ["question"]
    assert freeze.frozen(planned(tmp_path, "c.yaml", question="Does it swim?"), store) is None


def test_a_plan_frozen_after_the_data_says_so(tmp_path, store):
    made = planned(tmp_path)
    see(made, store)
    assert freeze.freeze(made, store)["data_seen_before"]
    found = freeze.frozen(made, store)
    assert found is not None and found["data_seen_before"]
