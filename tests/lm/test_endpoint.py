"""What is said of endpoints without talking to one: names, pauses, and what a reply means."""

from datetime import UTC, datetime

import pytest
from lm_tiny import completion

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Key, Request, user
from pippin.lm import endpoint as ep
from pippin.lm import models, prices

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


def test_settings_in_a_name():
    spec, found = ep.options("org/m@http://h:1/v1?timeout=5&deadline=10&max_connections=64&rpm=500&tpm=1e5#KEY_ENV")
    assert spec == "org/m@http://h:1/v1#KEY_ENV"
    assert found == {"timeout": 5.0, "deadline": 10.0, "max_connections": 64, "rpm": 500.0, "tpm": 1e5}
    assert ep.options("m?output=0.6&input=0.15") == ("m", {"prices": (0.15, 0.6)})
    assert ep.options("m#KEY") == ("m#KEY", {})
    with pytest.raises(UnknownName, match="timeout"):
        ep.options("m?timeuot=5")
    for bad in ("timeout=soon", "timeout=-1", "rpm=0", "rpm=inf", "max_connections=1.5", "tpm=nan", "input=-1"):
        with pytest.raises(InputError, match="positive number"):
            ep.options(f"m?{bad}")


def test_settings_and_the_name_and_identity_of_a_model(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    plain, tuned = models.resolve("openai/gpt-4o-mini"), models.resolve("openai/gpt-4o-mini?rpm=60&input=1&output=2")
    assert (plain.name, plain.identity) == (tuned.name, tuned.identity)  # one pays for nothing that the other has
    assert plain.prices == prices.PRICES["gpt-4o-mini"] and tuned.prices == (1.0, 2.0)
    assert tuned.gate.pace.requests_per_second == 1.0
    assert models.resolve("openai/gpt-4o-mini-of-somebody").prices is None
    assert models.resolve("openai/m?max_connections=1000").gate.concurrency.highest == 1000
    assert models.resolve("openai/m?timeout=5", timeout=7.0).timeout == 7.0


def test_prices_are_dated_and_plausible():
    assert prices.AS_OF and all(0 < read < written for read, written in prices.PRICES.values())
    assert prices.find("gpt-4o-mini") == (0.15, 0.60) and prices.find("GPT-4o-mini") is None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_is_not_the_text(name):
    thinking = completion("", "length")
    thinking["choices"][0]["message"] |= {name: "Output (a) is better.", "content": None}
    said = ep.answer_fields(thinking, ASKED, None)
    assert (said["text"], said["stop"], said["thinking_tokens"]) == ("", "length", 3)
    del thinking["usage"]["completion_tokens_details"]
    assert ep.answer_fields(thinking, ASKED, None)["thinking_tokens"] == 4  # all that was written
    thinking["choices"][0]["message"]["content"] = "(b)"
    said = ep.answer_fields(thinking, ASKED, None)
    assert (said["text"], said["thinking_tokens"]) == ("(b)", None)


def test_an_account_without_money_is_told_from_a_rate_limit():
    assert ep.no_money(429, {"code": "insufficient_quota"})
    assert not ep.no_money(429, {"code": "rate_limit_exceeded"}) and not ep.no_money(429, None)


@pytest.mark.parametrize(
    "message",
    ["Requested sample logprobs of 20, which is greater than max allowed: 5", "top_logprobs must be at most 5"],
)
def test_fewer_alternatives_where_a_server_gives_fewer(message):
    asked = Request(Key("s"), user("q"), labels=("a", "b"))
    endpoint = ep.parse("m@http://h/v1")
    sent = ep.body(endpoint, asked, {}, frozenset())
    found = ep.unsupported_parameter(400, message, sent)
    again = ep.body(endpoint, asked, {}, frozenset({found}))
    assert (sent["top_logprobs"], again["top_logprobs"], again["logprobs"]) == (20, 5, True)
    assert ep.unsupported_parameter(400, "logprobs is not supported", again) == "logprobs"


def test_a_key_that_no_header_can_hold(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-sécret\nX: y")
    with pytest.raises(InputError) as caught:
        ep.parse("m@http://h/v1#TEST_KEY").key()
    assert "cret" not in str(caught.value)
