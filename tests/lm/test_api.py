"""The client against a local server that misbehaves in the ways that servers do."""

import asyncio
import logging
import math
import threading
import time

import pytest
from aiohttp import web
from lm_server import Server
from lm_tiny import completion

from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import Key, Message, Request, Sampling, user
from pippin.lm import endpoint as ep
from pippin.lm.api import Api
from pippin.lm.engine import run
from pippin.lm.limits import Concurrency

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def api(server, monkeypatch):
    """A client of the server, with its pauses cut to a hundredth."""
    monkeypatch.setenv("TEST_KEY", KEY)
    delay = ep.delay
    monkeypatch.setattr(ep, "delay", lambda *a: delay(*a) / 100)
    api = Api(ep.parse(f"m-1@{server.url}#TEST_KEY"), deadline=5.0, timeout=2.0)
    yield api
    api.close()


def requests(n, **options):
    return [Request(Key(f"s{i}"), user(f"q{i}"), **options) for i in range(n)]


def by_subject(calls):
    return {c.key.subject: c for c in calls}


def refuse(status, message="no", **headers):
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def test_a_call_holds_what_the_server_said(server, api):
    async def behave(body, tries):
        return completion(f"re: {body['messages'][-1]['content']}", "length")

    server.behave = behave
    api.prices = (2.0, 50.0)
    calls = by_subject(api.answer(requests(5)))
    call = calls["s3"]
    assert (call.text, call.stop, call.error) == ("re: q3", "length", None)
    assert (call.model, call.served_model, call.fingerprint) == (f"openai/m-1@{server.url}", "served-1", "fp_1")
    assert (call.prompt_tokens, call.completion_tokens, call.thinking_tokens) == (10, 4, 3)
    assert call.price == pytest.approx((10 * 2 + 4 * 50) / 1e6) and call.seconds > 0


def test_what_is_sent(server, api):
    async def behave(body, tries):
        return completion()

    server.behave = behave
    api.extra = {"reasoning_effort": "low"}
    talk = (Message("system", "be kind"), *user("hi"))
    drawn = Sampling(temperature=0.7, top_p=0.9, max_tokens=33, seed=1)
    list(
        api.answer(
            [
                Request(Key("a"), talk),
                Request(Key("a", sample=0), talk, drawn),
                Request(Key("a", sample=1), talk, drawn),
            ]
        )
    )
    greedy, *sampled = sorted(server.bodies, key=lambda b: b["temperature"])
    assert greedy == {
        "model": "m-1", "temperature": 0.0, "max_tokens": 512, "reasoning_effort": "low",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
    }  # fmt: skip
    assert all((b["temperature"], b["top_p"], b["max_tokens"]) == (0.7, 0.9, 33) for b in sampled)
    assert sampled[0]["seed"] != sampled[1]["seed"]
    assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}


def test_a_storm_of_429_is_ridden_out(server, api):
    async def behave(body, tries):
        number = int(body["messages"][-1]["content"][1:])
        return refuse(429, "slow down") if tries <= number % 3 else completion()

    server.behave = behave
    calls = list(api.answer(requests(300)))
    assert [c.stop for c in calls] == ["end"] * 300
    assert api.retries == api.gate.pace.refusals == 300 and api.gate.concurrency.slowed


def test_a_bad_request_fails_alone_and_once(server, api):
    async def behave(body, tries):
        content = body["messages"][-1]["content"]
        return refuse(400, "prompt is too long: 9000 > 4096") if content == "q7" else completion()

    server.behave = behave
    calls = by_subject(api.answer(requests(20)))
    assert calls["s7"].stop == "error" and "HTTP 400: prompt is too long" in calls["s7"].error
    assert sum(c.stop == "end" for c in calls.values()) == 19
    assert server.tries["q7"] == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(server, api, status):
    async def behave(body, tries):
        return refuse(status) if tries < 3 else completion()

    server.behave = behave
    (call,) = api.answer(requests(1))
    assert call.stop == "end" and server.tries["q0"] == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_what_cannot_pass_is_not(server, api, status):
    async def behave(body, tries):
        return refuse(status, Location="http://127.0.0.1:1/steal")

    server.behave = behave
    (call,) = api.answer(requests(1))
    assert call.stop == "error" and server.tries["q0"] == 1


def test_the_servers_word_on_trying_again(server, api):
    async def behave(body, tries):
        if body["messages"][-1]["content"] == "q0":
            return refuse(503, **{"x-should-retry": "false"})
        return completion() if tries > 1 else refuse(400, **{"x-should-retry": "true"})

    server.behave = behave
    calls = by_subject(api.answer(requests(2)))
    assert (calls["s0"].stop, calls["s1"].stop) == ("error", "end")


def test_broken_json_and_half_answers_are_tried_again(server, api):
    replies = [web.Response(text="{not json"), web.Response(text="[]"), {"choices": []}, {"error": {"message": "busy"}}]

    async def behave(body, tries):
        return completion() if tries > len(replies) else replies[tries - 1]

    server.behave = behave
    (call,) = api.answer(requests(1))
    assert call.stop == "end" and server.tries["q0"] == len(replies) + 1


def test_a_dropped_connection_is_tried_again(server, api):
    async def behave(body, tries):
        return completion() if tries > 2 else None

    server.behave = behave
    calls = list(api.answer(requests(3)))
    assert [c.stop for c in calls] == ["end"] * 3


def test_no_server_at_all(api, server):
    api.endpoint = ep.parse("m@http://127.0.0.1:9/v1")
    api.deadline = 0.05
    (call,) = api.answer(requests(1))
    assert call.stop == "error" and "gave up after" in call.error


def test_the_deadline_holds_for_one_request_with_all_its_tries(server, api):
    async def behave(body, tries):
        if body["messages"][-1]["content"] == "q0":
            await asyncio.sleep(0.15)
            return refuse(500)
        return completion()

    server.behave = behave
    api.deadline = 0.4
    began = time.monotonic()
    calls = by_subject(api.answer(requests(3)))
    assert time.monotonic() - began < 2
    assert calls["s0"].stop == "error" and "gave up after 3 tries" in calls["s0"].error
    assert calls["s1"].stop == calls["s2"].stop == "end"


def test_one_try_has_its_own_time(server, api):
    async def behave(body, tries):
        if tries == 1:
            await asyncio.sleep(1.0)
        return completion()

    server.behave = behave
    api.timeout = 0.1
    (call,) = api.answer(requests(1))
    assert call.stop == "end" and server.tries["q0"] == 2


def test_never_more_requests_at_once_than_allowed(server, api):
    async def behave(body, tries):
        await asyncio.sleep(0.01)
        return completion()

    server.behave = behave
    api.gate.concurrency = Concurrency(limit=3, lowest=1, highest=5)
    assert len(list(api.answer(requests(60)))) == 60
    assert 3 < server.most_active <= 5


def test_closing_the_iterator_stops_asking(server, api):
    async def behave(body, tries):
        await asyncio.sleep(0.01)
        return completion()

    server.behave = behave
    stream = api.answer(requests(500))
    next(stream)
    stream.close()
    time.sleep(0.1)
    asked = len(server.bodies)
    time.sleep(0.2)
    assert len(server.bodies) == asked < 200
    assert len(list(api.answer(requests(30)))) == 30  # and it can be used again


def test_several_threads_share_one_client(server, api):
    async def behave(body, tries):
        await asyncio.sleep(0.005)
        return completion(body["messages"][-1]["content"])

    server.behave = behave
    found = {}

    def ask(i):
        found[i] = list(api.answer([Request(Key(f"{i}-{k}"), user(f"{i}-{k}")) for k in range(20)]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(c.text == c.key.subject and c.key.subject.startswith(f"{i}-") for i in found for c in found[i])
    assert sum(map(len, found.values())) == 100


def test_through_the_engine_with_a_store(server, api, tmp_path):
    async def behave(body, tries):
        await asyncio.sleep(0.002)
        return refuse(500) if tries == 1 else completion(f"re: {body['messages'][-1]['content']}")

    def task(i):
        (first,) = yield [Request(Key(f"t{i}"), user(f"q{i}"))]
        (second,) = yield [Request(Key(f"t{i}", turn=1), user(first.text))]
        return second.text

    server.behave = behave
    with Store(tmp_path / "s.db") as store:
        for _ in range(2):
            got = run({f"t{i}": task(i) for i in range(60)}, {"": api}, store)
            assert got == {f"t{i}": f"re: re: q{i}" for i in range(60)}
        assert len(server.bodies) == 240  # two tries each, in the first run only
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.is_file())


def test_the_key_is_in_no_record_and_no_log(server, api, caplog):
    async def behave(body, tries):
        return refuse(401, f"Incorrect API key provided: {KEY}; sk-very-****6789")

    server.behave = behave
    with caplog.at_level(logging.DEBUG):
        (call,) = api.answer(requests(1))
    assert "Incorrect API key provided: [key]" in call.error
    for text in (repr(call), repr(vars(api)), caplog.text, api.name, api.identity):
        assert KEY not in text and "6789" not in text


def test_a_key_that_is_not_set_is_said_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        list(Api(ep.parse("gpt", server.url)).answer(requests(1)))
    assert server.bodies == []


def test_unsupported_parameters_are_left_out_and_remembered(server, api):
    async def behave(body, tries):
        if "max_tokens" in body:
            return refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "logprobs" in body:
            return refuse(400, "This model does not support logprobs")
        return completion("a")

    server.behave = behave
    calls = list(api.answer(requests(40, labels=("a", "b"))))
    assert {(c.stop, c.text, c.logprobs) for c in calls} == {("end", "a", None)}
    before = len(server.bodies)
    list(api.answer(requests(5, labels=("a", "b"))))
    assert len(server.bodies) == before + 5
    assert server.bodies[-1]["max_completion_tokens"] == 512


def test_a_limit_on_max_tokens_is_not_taken_for_an_unknown_parameter(server, api):
    async def behave(body, tries):
        return refuse(400, "max_tokens is too large: 512. This model's context has 256 tokens")

    server.behave = behave
    (call,) = api.answer(requests(1))
    assert call.stop == "error" and api.unsupported == frozenset()


def test_labels_are_read_from_top_logprobs(server, api):
    options = [
        {"token": " a", "logprob": -0.4},
        {"token": "a", "logprob": -2.0},
        {"token": "b", "logprob": -1.6},
        {"token": "The", "logprob": -3},
    ]

    async def behave(body, tries):
        assert body["logprobs"] is True and body["top_logprobs"] == 20
        return completion("a", logprobs={"content": [{"token": " a", "logprob": -0.4, "top_logprobs": options}]})

    server.behave = behave
    (call,) = api.answer(requests(1, labels=("a", "b", "c")))
    assert set(call.logprobs) == {"a", "b"}
    assert call.logprobs["a"] == pytest.approx(math.log(math.exp(-0.4) + math.exp(-2.0)))
    assert call.logprobs["b"] == pytest.approx(-1.6)


def test_a_server_without_a_key_gets_none(server, monkeypatch):
    async def behave(body, tries):
        return completion()

    server.behave = behave
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    api = Api(ep.parse(f"m@{server.url}"))
    list(api.answer(requests(1)))
    api.close()
    assert "Authorization" not in server.headers[0]


def test_a_server_that_never_answered_is_given_up_soon(api):
    api.endpoint = ep.parse("m@http://127.0.0.1:9/v1")
    api.deadline = 600.0
    began = time.monotonic()
    (call,) = api.answer(requests(1))
    assert time.monotonic() - began < 20
    assert call.stop == "error" and "cannot connect to" in call.error and "gave up after 4 tries" in call.error


def test_whether_a_model_gives_log_probabilities_is_found_out_once(server, api):
    given = {"content": [{"token": "a", "top_logprobs": [{"token": "a", "logprob": -0.1}]}]}
    reply = [completion("")]

    async def behave(body, tries):
        return reply[0]

    server.behave = behave
    list(api.answer(requests(1)))
    list(api.answer(requests(1, labels=("a", "b"))))
    assert api.gives_logprobs is None  # nobody asked for any, or there was no text to give them for
    reply[0] = completion("a")
    list(api.answer(requests(1, labels=("a", "b"))))
    assert api.gives_logprobs is False
    reply[0] = completion("a", logprobs=given)
    list(api.answer(requests(1, labels=("a", "b"))))
    assert api.gives_logprobs is True


def test_an_overload_is_met_with_fewer_at_once_and_forgotten(server, api):
    async def behave(body, tries):
        await asyncio.sleep(0.01)
        return refuse(503) if ill else completion()

    server.behave, ill, api.deadline = behave, True, 0.5
    assert {c.stop for c in api.answer(requests(64))} == {"error"}
    assert api.gate.concurrency.slowed and api.gate.concurrency.limit < 20
    ill = False
    assert {c.stop for c in api.answer(requests(1500))} == {"end"}
    assert api.gate.concurrency.limit > 32


def test_a_thousand_at_once(server, monkeypatch):
    async def behave(body, tries):
        await asyncio.sleep(1.0)
        return completion()

    server.behave = behave
    api = Api(ep.parse(f"m@{server.url}"), max_connections=1000)
    api.gate.concurrency.limit = 1000.0
    assert {c.stop for c in api.answer(requests(1000))} == {"end"}
    assert server.most_active > 900
    api.close()


def test_a_limit_of_requests_per_minute_is_kept(server):
    async def behave(body, tries):
        return completion()

    server.behave = behave
    api = Api(ep.parse(f"m@{server.url}"), rpm=6000)  # one in 10 ms
    list(api.answer(requests(40)))
    arrived = [row[1] for row in server.log]
    assert arrived[-1] - arrived[0] >= 0.36
    api.close()


def test_an_empty_account_is_not_waited_for(server, api):
    async def behave(body, tries):
        return web.json_response({"error": {"message": "pay first", "code": "insufficient_quota"}}, status=429)

    server.behave = behave
    (call,) = api.answer(requests(1))
    assert "pay first" in call.error and server.tries["q0"] == 1


def test_text_that_is_not_unicode_is_sent(server, api):
    async def behave(body, tries):
        return completion()

    server.behave = behave
    (call,) = api.answer([Request(Key("s"), user("a lone \ud800"))])
    assert call.stop == "end" and "lone" in server.bodies[0]["messages"][0]["content"]


def test_a_budget_stops_what_is_not_yet_sent(server, tmp_path):
    """Calls under way when the money is spent are kept; nothing else is asked, stored or invented."""

    async def behave(body, tries):
        await asyncio.sleep(0.01)
        reply = completion()
        reply["usage"]["cost"] = 0.01
        return reply

    def task(i):
        (call,) = yield [Request(Key(f"t{i}"), user(f"q{i}"))]
        return call.stop, call.error

    server.behave, seen = behave, []
    api = Api(ep.parse(f"m@{server.url}"), max_connections=10)
    with Store(tmp_path / "s.db") as store:
        got = run({f"t{i}": task(i) for i in range(300)}, {"": api}, store, budget=0.5, progress=seen.append)
        said = [value for value in got.values() if value == ("end", None)]
        assert 50 <= len(said) == len(server.bodies) == store.size()["calls"] <= 60
        assert set(got.values()) == {("end", None), ("error", "the budget of 0.5 US dollars is spent")}
        assert (seen[-1].asked, seen[-1].unasked) == (len(said), 300 - len(said))
        run({f"t{i}": task(i) for i in range(300)}, {"": api}, store)
    assert len(server.bodies) == 300
    api.close()


def test_a_budget_without_a_price_asks_no_more_than_is_under_way(server):
    async def behave(body, tries):
        return completion()

    def task(i):
        (call,) = yield [Request(Key(f"t{i}"), user(f"q{i}"))]
        return call.error

    server.behave = behave
    api = Api(ep.parse(f"m@{server.url}"), max_connections=4)
    got = run({f"t{i}": task(i) for i in range(200)}, {"": api}, budget=1.0)
    assert len(server.bodies) < 50 and any("no known price" in error for error in got.values() if error)
    api.close()
