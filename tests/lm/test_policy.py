"""A policy's responses, log-probabilities and labels, and that others can load what it saves."""

import json
import math

import pytest
import torch
from lm_tiny import WORDS, tiny_llama, word_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from pippin.core.errors import InputError
from pippin.core.types import Key, Message, Prompt, Request, Sampling, user
from pippin.lm.chat import Chat
from pippin.lm.decoding import Decoding
from pippin.lm.hf import load_policy
from pippin.lm.policy import Policy
from pippin.lm.protocols import Answers, LogProbs, Trains

PROMPTS = [Prompt(user(f"w{i} w2 w3")) for i in range(1, 13)]
DRAWN = Sampling(temperature=1.0, max_tokens=8, seed=3)


@pytest.fixture
def policy(model):
    return Policy(model, Chat(word_tokenizer()), name="tiny")


def log_softmax_of(policy, ids):
    return policy.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)


def test_protocols(policy):
    assert isinstance(policy, Answers) and isinstance(policy, LogProbs) and isinstance(policy, Trains)


def test_responses_are_joined_by_prompt_and_sample(policy):
    got = policy.respond(PROMPTS, n=3, sampling=DRAWN)
    assert [(r.prompt_id, r.sample) for r in got] == [(p.id, k) for p in PROMPTS for k in range(3)]
    assert {r.by for r in got} == {"tiny"} and {r.stop for r in got} <= {"end", "length"}
    assert all(r.sampling == DRAWN and r.context is None for r in got)
    assert len({r.text for r in got}) > 20


def test_a_draw_depends_on_seed_purpose_prompt_and_sample_only(policy):
    whole = {(r.prompt_id, r.sample): r.text for r in policy.respond(PROMPTS, n=3, sampling=DRAWN)}
    alone = policy.respond(PROMPTS[7:8], n=2, sampling=DRAWN)
    assert [r.text for r in alone] == [whole[PROMPTS[7].id, k] for k in range(2)]
    for other in ({"purpose": "rollout"}, {"sampling": Sampling(max_tokens=8, seed=4)}):
        got = policy.respond(PROMPTS, **({"sampling": DRAWN} | other))
        assert sum(r.text != whole[r.prompt_id, 0] for r in got) > 8


def test_stop_says_whether_the_response_ended(policy):
    likely = policy.clone()
    with torch.no_grad():
        likely.model.lm_head.weight.mul_(0.0)  # all tokens alike: about 2 of 250 end a response
    stops = [r.stop for r in likely.respond(PROMPTS, n=40, sampling=Sampling(max_tokens=40, seed=1))]
    expected = 1 - (1 - 2 / len(WORDS)) ** 40
    assert stops.count("end") / len(stops) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / len(stops)))


def test_follow_ups_are_asked_after_each_answer(policy):
    talk = Prompt(user("w1"), follow_ups=user("w2") + user("w3"))
    (got,) = policy.respond([talk], sampling=DRAWN)
    assert [m.role for m in got.messages] == ["assistant", "user", "assistant", "user", "assistant"]
    assert (got.messages[1].content, got.messages[3].content) == ("w2", "w3")
    first = policy.respond([Prompt(user("w1"), follow_ups=user("w2"))], sampling=Sampling(0.0, max_tokens=8))[0]
    as_one = policy.respond([Prompt(user("w1") + first.messages[:2])], sampling=Sampling(0.0, max_tokens=8))[0]
    assert first.messages[2] == as_one.messages[0]


def test_best_of_n_keeps_the_highest_score_and_the_first_of_equals(model):
    plain = Policy(model, Chat(word_tokenizer()), name="tiny")
    best = Policy(model, Chat(word_tokenizer()), Decoding(n=4, reranker="rm/x"), name="tiny")
    candidates = plain.respond(PROMPTS, n=8, sampling=DRAWN)
    texts = {p.id: [r.text for r in candidates if r.prompt_id == p.id] for p in PROMPTS}

    def value(text):
        return float(sum(map(ord, text)))

    def rerank(prompts, many):
        assert [p.id for p in prompts] == [p.id for p in PROMPTS for _ in range(2)]
        return [[value(text) for text in row] for row in many]

    got = best.respond(PROMPTS, n=2, sampling=DRAWN, rerank=rerank)
    for r in got:
        mine = texts[r.prompt_id][4 * r.sample : 4 * r.sample + 4]
        assert r.text == max(mine, key=value)
    flat = best.respond(PROMPTS, sampling=DRAWN, rerank=lambda p, many: [[0.0] * 4 for _ in many])
    assert [r.text for r in flat] == [texts[p.id][0] for p in PROMPTS]
    with pytest.raises(InputError, match="best-of-4"):
        best.respond(PROMPTS, sampling=DRAWN)


def test_prefix_and_banned_tokens(model):
    chat = Chat(word_tokenizer())
    steered = Policy(model, chat, Decoding(prefix="w9 w8", banned=tuple(f"w{i}" for i in range(100))), name="tiny")
    got = steered.respond(PROMPTS, n=4, sampling=DRAWN)
    assert all(int(w[1:]) >= 100 for r in got for w in r.text.split() if w.startswith("w"))
    assert got[0].context == (*PROMPTS[0].messages, Message("assistant", "w9 w8"))
    ids, _ = chat.example(user("w1"), "w9 w8 w3")
    total = log_softmax_of(steered, ids)[-3:-1].gather(-1, torch.tensor([[ids[-2]], [ids[-1]]])).sum().item()
    assert steered.logprobs([user("w1")], ["w3"])[0].total == pytest.approx(total, abs=1e-4)
    with pytest.raises(InputError, match="vocabulary"):
        _ = Policy(model, chat, Decoding(banned=("nothing",))).banned_ids


def test_logprobs_are_sums_over_the_response_and_its_end(policy):
    prompts = [user("w1 w2"), user("w3"), user("w4 w5 w6")]
    responses = ["w7", "w8 w9 w10", ""]
    for messages, text, got in zip(prompts, responses, policy.logprobs(prompts, responses), strict=True):
        ids, mask = policy.chat.example(messages, text)
        table = log_softmax_of(policy, ids)
        assert got.tokens == len(text.split()) + 1
        assert got.total == pytest.approx(
            sum(table[t - 1, ids[t]].item() for t in range(len(ids)) if mask[t]), abs=1e-4
        )


def test_labels_are_scored_not_generated(policy):
    labels = ("w1", "w2", "w3 w4")
    requests = [Request(Key(f"s{i}"), user(f"w{i} w7"), labels=labels) for i in range(5)]
    calls = {c.key.subject: c for c in policy.answer(requests)}
    for request in requests:
        call = calls[request.key.subject]
        for label in labels:
            ids, mask = policy.chat.example(request.messages, label, ended=False)
            table = log_softmax_of(policy, ids)
            want = sum(table[t - 1, ids[t]].item() for t in range(len(ids)) if mask[t])
            assert call.logprobs[label] == pytest.approx(want, abs=1e-4)
        assert call.text == max(labels, key=lambda x: call.logprobs[x])


def test_label_probabilities_over_the_vocabulary_sum_to_one(policy):
    (found,) = policy.label_logps([user("w1")], [tuple(w for w in WORDS if w.startswith("w"))])
    chat, table = policy.chat, log_softmax_of(policy, policy.chat.prompt_ids(user("w1")))[-1]
    rest = sum(table[chat.tokenizer.convert_tokens_to_ids(w)].exp().item() for w in WORDS if not w.startswith("w"))
    assert sum(map(math.exp, found.values())) + rest == pytest.approx(1.0, abs=1e-5)


def test_answers_to_equal_requests_are_equal_whoever_asks(policy):
    asked = [Request(Key(s, sample=k), user("w1 w2"), DRAWN) for s in ("a", "b") for k in (0, 1)]
    a0, a1, b0, b1 = [c.text for c in policy.answer(asked)]
    assert (a0, a1) == (b0, b1) and a0 != a1


def test_one_request_that_does_not_fit_does_not_stop_the_others(policy):
    asked = [Request(Key("long"), user("w1 " * 500), DRAWN), Request(Key("short"), user("w1"), DRAWN)]
    calls = {c.key.subject: c for c in policy.answer(asked)}
    assert calls["long"].stop == "error" and "503 tokens" in calls["long"].error
    assert calls["short"].stop in ("end", "length") and calls["short"].prompt_tokens == 4


def test_calls_have_the_ids_the_engine_looks_for(policy):
    from pippin.lm.engine import identity, request_digest

    request = Request(Key("a"), user("w1"), DRAWN)
    (call,) = policy.answer([request])
    assert call.request == request_digest(identity(policy), request)


def test_identity_follows_the_weights(policy):
    other = policy.clone()
    assert other.identity == policy.identity
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1
    assert other.identity != policy.identity
    assert Policy(policy.model, policy.chat, Decoding(prefix="w1")).identity != policy.identity


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.0, max_tokens=9), Decoding(0.7, 0.9, 20)])
def test_saved_policy_is_a_model_folder_of_transformers(policy, decoding, tmp_path):
    policy.decoding = decoding
    policy.save(tmp_path / "p")
    names = {p.name for p in (tmp_path / "p").iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    assert "pippin.json" not in names
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "p")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "p")
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w1"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert ids == policy.chat.prompt_ids(user("w1"))
    out = theirs.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=6, temperature=None, top_p=None, top_k=None
    )
    (ours,) = policy.respond([Prompt(user("w1"))], sampling=Sampling(0.0, max_tokens=6))
    assert policy.chat.decode(out[0, len(ids) :].tolist()) == ours.text
    again = load_policy(str(tmp_path / "p"))
    assert again.decoding == decoding and again.identity == policy.identity


def test_a_recipe_that_is_not_plain_is_kept(policy, tmp_path):
    policy.decoding = Decoding(0.5, 1.0, 7, prefix="w1", banned=("w2", "w3"), n=4, reranker="rm/x")
    policy.save(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["bad_words_ids"]
    assert load_policy(str(tmp_path)).decoding == policy.decoding
    policy.decoding = Decoding()
    policy.save(tmp_path)
    assert load_policy(str(tmp_path)).decoding == Decoding()
    (tmp_path / "pippin.json").write_text('{"decoding": {"warmth": 3}}')
    with pytest.raises(InputError, match="decoding recipe"):
        load_policy(str(tmp_path))


def test_end_ids_of_the_generation_config_end_responses(tmp_path):
    model = tiny_llama()
    model.generation_config.eos_token_id = [2, 77]
    Policy(model, Chat(word_tokenizer())).save(tmp_path)
    stated = json.loads((tmp_path / "generation_config.json").read_text())
    stated["eos_token_id"] = [2, 77]
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    assert load_policy(str(tmp_path)).chat.end_ids == (2, 6, 77)
