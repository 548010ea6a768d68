"""What is said of endpoints without talking to one: names, pauses, and what a reply means."""

from datetime import UTC, datetime

import pytest
from lm_tiny import completion

from pippin.core.errors import InputError
from pippin.core.types import Key, Request, user
from pippin.lm import endpoint as ep

ASKED = Request(Key("s"), user("q"))


def position(token, **alternatives):
    return {"token": token, "top_logprobs": [{"token": t, "logprob": p} for t, p in alternatives.items()]}


def test_labels_that_begin_alike_are_told_apart_where_they_differ():
    opening = position("(", **{"(": -0.01, "I": -5})
    content = [opening, position("a", a=-0.5, b=-1.0, x=-4), position(")", **{")": -0.1})]
    assert ep.label_logprobs(("(a)", "(b)"), {"content": content}) == {
        "(a)": pytest.approx(-0.5),
        "(b)": pytest.approx(-1.0),
    }
    assert ep.label_logprobs(("(a)", "(b)"), {"content": [position("Well", Well=-0.1), *content]}) is None
    assert ep.label_logprobs(("a", "b"), None) is None
    assert ep.label_logprobs(("1", "10"), {"content": [position("1", **{"1": -0.1, "2": -3})]}) is None


def test_refusals_and_filters():
    refusal = completion()
    refusal["choices"][0]["message"] = {"content": None, "refusal": "I cannot"}
    said = ep.answer_fields(refusal, ASKED, None)
    assert (said["text"], said["stop"], said["price"]) == ("I cannot", "filter", None)
    assert ep.answer_fields(completion("", "content_filter"), ASKED, None)["stop"] == "filter"
    paid = completion()
    paid["usage"]["cost"] = 0.25
    assert ep.answer_fields(paid, ASKED, (1.0, 1.0))["price"] == 0.25


def test_retry_after_in_its_three_forms_and_order():
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert ep.retry_after({"retry-after-ms": "1500", "retry-after": "9"}, now) == 1.5
    assert ep.retry_after({"retry-after": "9"}, now) == 9.0
    assert ep.retry_after({"retry-after": "Thu, 01 Jan 2026 12:00:42 GMT"}, now) == 42.0
    assert ep.retry_after({"retry-after-ms": "soon", "retry-after": "2"}, now) == 2.0
    assert ep.retry_after({"retry-after": "soon"}, now) is None and ep.retry_after({}, now) is None


def test_pauses_grow_to_eight_seconds_and_the_servers_word_holds_up_to_two_minutes():
    assert [ep.delay(k, {}, 0.0) for k in range(6)] == [0.5, 1, 2, 4, 8, 8]
    assert ep.delay(0, {}, 0.999) == pytest.approx(0.375, rel=0.01)
    assert ep.delay(0, {"retry-after": "119"}, 0.5) == 119
    for ignored in ("121", "0", "-3", "nan", "inf"):
        assert ep.delay(1, {"retry-after": ignored}, 0.0) == 1.0


@pytest.mark.parametrize(
    ("spec", "name", "url", "env"),
    [
        ("gpt-4o-mini", "openai/gpt-4o-mini", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("v2@http://host:8000/v1#KEY_ENV", "openai/v2@http://host:8000/v1", "http://host:8000/v1", "KEY_ENV"),
        ("org/m@x@https://host/v1/", "openai/org/m@x@https://host/v1", "https://host/v1", ""),
        ("m#OTHER", "openai/m", "https://api.openai.com/v1", "OTHER"),
    ],
)  # fmt: skip
def test_names_of_endpoints(spec, name, url, env, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    endpoint = ep.parse(spec)
    assert (endpoint.name, endpoint.base_url, endpoint.key_env) == (name, url, env)


def test_default_servers(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://from-env/v1")
    assert ep.parse("m").base_url == "http://from-env/v1"
    assert ep.parse("m", "http://from-flag/v1").base_url == "http://from-flag/v1"
    assert ep.parse("m@http://own/v1", "http://from-flag/v1").base_url == "http://own/v1"


@pytest.mark.parametrize("spec", ["m@http://h/v1#sk-abc-123", "m@http://u:hunter2@h/v1", "@http://h/v1"])
def test_names_that_hold_a_key_or_nothing(spec):
    with pytest.raises(InputError) as caught:
        ep.parse(spec)
    assert "abc" not in str(caught.value) and "hunter2" not in str(caught.value)
