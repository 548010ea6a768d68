import json
from dataclasses import fields, replace

import numpy as np
import pytest
from core_records import choice
from core_strategies import calls, judgements, prompts, responses
from hypothesis import given, settings

from pippin.core.errors import InputError
from pippin.core.store import judgement_from_row
from pippin.core.types import (
    Call,
    Choice,
    Judge,
    Message,
    Outcome,
    Prompt,
    Response,
    Sampling,
    assistant,
    canonical,
    digest,
    from_row,
    to_row,
    user,
)


@settings(max_examples=60, deadline=None)
@given(prompts | responses | calls)
def test_records_survive_json(record):
    row = json.loads(json.dumps(to_row(record)))
    again = from_row(type(record), row)
    assert again == record
    assert again.id == record.id == row["id"]


@settings(max_examples=60, deadline=None)
@given(judgements)
def test_judgements_of_any_kind_survive_json(said):
    again = judgement_from_row(json.loads(json.dumps(to_row(said))))
    assert again == said
    assert again.id == said.id


@settings(max_examples=60, deadline=None)
@given(choice_=judgements)
def test_rows_hold_no_defaults(choice_):
    defaults = {f.name: f.default for f in fields(choice_)}
    for name, value in to_row(choice_).items():
        assert name in ("kind", "id") or value != defaults[name]


def test_a_row_of_a_plain_prompt_is_short():
    assert to_row(Prompt(user("Hi"))) == {
        "messages": [{"role": "user", "content": "Hi"}], "id": Prompt(user("Hi")).id,
    }  # fmt: skip
    assert to_row(Judge("j")) == {"name": "j"}


@pytest.mark.parametrize(
    ("one", "other"),
    [(0, 0.0), (-0.0, 0), (1e3, 1000), (np.float32(0.5), 0.5), (np.int64(3), 3.0), ({3, 1}, [1, 3]), ((1,), [1.0])],
)
def test_equal_content_gives_equal_text(one, other):
    assert canonical({"a": one}) == canonical({"a": other})


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (1, True), (0.1, 0.1 + 1e-16 * 2), (None, ""), ([], {})])
def test_different_content_gives_different_text(one, other):
    assert canonical(one) != canonical(other)


def test_large_numbers_are_written_by_value_too():
    assert canonical(2.0**70) == canonical(2**70) != canonical(2**70 + 1)


def test_canonical_json_refuses_what_json_has_not():
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_digest_is_sha256_of_the_text():
    # printf '{"a":[1,"é"]}' | sha256sum
    assert digest({"a": (1.0, "é")}, 64) == "5db14a2cddc92d31365806bb5d82ed2bc436bf6960d10cd4654140f7bdadce1c"


def test_ids_depend_on_content_alone():
    prompt = Prompt(user("Hi"), source="here", tags=("x",))
    assert prompt.id == Prompt(user("Hi"), source="there").id
    assert prompt.id != Prompt((Message("system", ""), *user("Hi"))).id
    response = Response(prompt.id, assistant("Hello"), by="m")
    assert response.id == replace(response, stop="end", sampling=Sampling()).id
    assert len({response.id, replace(response, sample=1).id, replace(response, by="n").id}) == 3


def test_temperature_zero_is_one_temperature_however_written():
    assert digest(Sampling(temperature=0)) == digest(Sampling(temperature=0.0))


def test_a_changed_row_is_found_out():
    row = to_row(choice("p"))
    with pytest.raises(InputError, match=r"f\.jsonl:3: the id of this Choice is not the id of its content"):
        from_row(Choice, {**row, "outcome": "second"}, where="f.jsonl:3")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"outcome": "better"}, "bad Choice: outcome"), ({"winner": "a"}, "unknown key 'winner' in a Choice")],
)
def test_bad_rows(change, message):
    row = to_row(choice("p"))
    del row["id"]
    with pytest.raises(InputError, match=message):
        from_row(Choice, {**row, **change})


def test_missing_keys_are_named():
    with pytest.raises(InputError, match="bad Call: request: Field required"):
        from_row(Call, {"key": {"subject": "s"}, "model": "m"})


def test_a_row_of_no_kind_is_no_judgement():
    with pytest.raises(InputError, match=r"f:1: not a judgement \(expected choice or ranking"):
        judgement_from_row({"prompt_id": "p"}, where="f:1")


def test_swapping_a_choice_keeps_what_it_says():
    said = Choice("p", "a", "b", Outcome.FIRST, "j", p_first=0.75)
    assert said.swap().swap() == said
    assert (said.credit("a"), said.swap().credit("a"), said.credit("b")) == (1.0, 1.0, 0.0)
    assert Choice("p", "a", "b", Outcome.TIE, "j").credit("a") == 0.5
    assert Choice("p", "a", "b", Outcome.REFUSED, "j").credit("a") is None
