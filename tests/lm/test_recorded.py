"""Scripted and replayed models, and the names of models."""

import json

import pytest

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Call, Key, Request, to_row, user
from pippin.lm.api import Api
from pippin.lm.engine import request_digest, run
from pippin.lm.models import PROVIDERS, resolve
from pippin.lm.policy import Policy
from pippin.lm.protocols import Answers
from pippin.lm.replay import Replay
from pippin.lm.scripted import Scripted

REQUESTS = [Request(Key(f"s{i}", order="first", sample=i % 2), user(f"q{i}")) for i in range(4)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_list_is_used_in_order_and_ends():
    model = Scripted(["one", "two"])
    calls = list(model.answer(REQUESTS[:3]))
    assert [c.text for c in calls] == ["one", "two", ""]
    assert calls[2].stop == "error" and "at most 2" in calls[2].error
    assert Scripted(["a"]).identity != Scripted(["b"]).identity


def test_a_function_may_give_label_probabilities():
    (call,) = Scripted(lambda r: {"a": -2.0, "b": -0.1}).answer(REQUESTS[:1])
    assert (call.text, call.logprobs) == ("b", {"a": -2.0, "b": -0.1})


def test_scripts_from_files(tmp_path):
    (tmp_path / "script.py").write_text("def loud(request):\n    return request.messages[0].content.upper()\n")
    write(tmp_path / "texts.jsonl", ["x", "y"])
    assert [c.text for c in resolve(f"scripted/{tmp_path}/script.py:loud").answer(REQUESTS[:1])] == ["Q0"]
    assert [c.text for c in resolve(f"scripted/{tmp_path}/texts.jsonl").answer(REQUESTS[:2])] == ["x", "y"]
    for name in (f"{tmp_path}/script.py:quiet", f"{tmp_path}/none.py:f", f"{tmp_path}/none.jsonl"):
        with pytest.raises(InputError, match=r"script|quiet"):
            resolve(f"scripted/{name}")
    (tmp_path / "texts.jsonl").write_text('"x"\n{}\n')
    with pytest.raises(InputError, match=r"texts\.jsonl:2"):
        resolve(f"scripted/{tmp_path}/texts.jsonl")


def test_replay_of_a_recorded_run_gives_the_same_results(tmp_path):
    recorded = list(Scripted(lambda r: f"said to {r.key.subject}").answer(REQUESTS))
    model = Replay(write(tmp_path / "calls.jsonl", map(to_row, recorded)))
    assert len(model) == 4

    def task(request):
        (call,) = yield [request]
        return call.text, call.model, call.served_model

    got = run({r.key.subject: task(r) for r in REQUESTS}, {"": model})
    assert got["s2"] == ("said to s2", f"replay/{tmp_path}/calls.jsonl", "scripted")


def test_a_missing_recording_is_an_error_call(tmp_path):
    rows = [to_row(Call(REQUESTS[0].key, "r", "m", text="yes", stop="end"))]
    model = Replay(write(tmp_path / "calls.jsonl", rows))
    for other in (
        Request(Key("s0", order="swapped"), user("q0")),
        Request(Key("s0", order="first", sample=1), user("q0")),
        Request(Key("s0", order="first", turn=1), user("q0")),
        Request(Key("s0", role="metrics", order="first"), user("q0")),
    ):
        (call,) = model.answer([other])
        assert call.stop == "error" and "no recording of subject s0" in call.error


def test_recordings_are_found_by_content_where_no_key_fits(tmp_path):
    key = Key("elsewhere")
    rows = [
        to_row(Call(key, "r", "m", text="by messages", stop="end")) | {"messages": [{"role": "user", "content": "q1"}]},
        to_row(Call(Key("x"), request_digest("gpt", REQUESTS[2]), "gpt", text="by request", stop="end")),
    ]
    del rows[0]["id"]
    model = Replay(write(tmp_path / "calls.jsonl", rows))
    by = {r.key.subject: r for r in REQUESTS}
    sampled = Request(Key("s1"), by["s1"].messages)
    assert [c.text for c in model.answer([sampled, by["s2"]])] == ["by messages", "by request"]


def test_a_folder_of_recordings(tmp_path):
    for i in range(2):
        write(tmp_path / f"{i}.jsonl", [to_row(Call(REQUESTS[i].key, "r", "m", text=str(i), stop="end"))])
    assert [c.text for c in resolve(f"replay/{tmp_path}").answer(REQUESTS[:2])] == ["0", "1"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"key": {"subject": "s"}}', '{"key": 3, "request": "r", "model": "m"}'])
def test_a_bad_recording_names_its_line(tmp_path, line):
    good = json.dumps(to_row(Call(REQUESTS[0].key, "r", "m", stop="end")))
    (tmp_path / "calls.jsonl").write_text(f"{good}\n\n{line}\n")
    with pytest.raises(InputError, match=r"calls\.jsonl:3"):
        Replay(tmp_path / "calls.jsonl")


def test_no_recordings(tmp_path):
    with pytest.raises(InputError, match="no recordings"):
        resolve(f"replay/{tmp_path}/none.jsonl")
    with pytest.raises(InputError, match="no recordings"):
        resolve(f"replay/{tmp_path}")


def test_names(tmp_path):
    api = resolve("openai/gpt-x@http://host:8000/v1", max_connections=7)
    assert isinstance(api, Api) and isinstance(api, Answers) and api.gate.concurrency.highest == 7
    assert resolve("fast", aliases={"fast": "faster", "faster": "openai/gpt-x"}).name == "openai/gpt-x"
    assert resolve("openai/gpt-x", base_url="http://other/v1").identity == "openai/gpt-x@http://other/v1"
    for unknown in ("opnai/gpt", "gpt", "smollm2/x", "openai", "hf"):
        with pytest.raises(UnknownName, match="no model named"):
            resolve(unknown)
    with pytest.raises(UnknownName, match="'openai'"):
        resolve("opnai/gpt")
    with pytest.raises(InputError, match="circle"):
        resolve("a", aliases={"a": "b", "b": "a"})
    with pytest.raises(InputError, match="no such model"):
        resolve(str(tmp_path / "nothing"))
    assert set(PROVIDERS) == {"openai", "hf", "replay", "scripted", "smollm2", "world"}


def test_a_path_is_a_policy(tmp_path):
    from lm_tiny import tiny_llama, word_tokenizer

    tiny_llama().save_pretrained(tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    assert isinstance(resolve(str(tmp_path / "m")), Policy)
