"""Control tokens: new rows in a policy's vocabulary, on disk and back, hidden from the reference, never drawn."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pippin.align import networks, sources
from pippin.align.method import Training
from pippin.align.shapes import Batch, Example, collate
from pippin.core.errors import InputError
from pippin.core.types import Prompt, user
from pippin.lm.decoding import Decoding
from pippin.lm.hf import load_policy

NEW = ("<|best|>", "<|worst|>")
PROMPT = Prompt(user("list three animals"))


@pytest.fixture
def grown():
    policy = load_policy("world/base")
    return policy, policy.add_tokens(NEW, seed=3)


def test_new_rows_have_the_mean_and_deviation_of_the_old_ones_and_depend_on_seed_and_text_alone():
    policy = load_policy("world/base")
    old = policy.model.get_input_embeddings().weight.detach().clone()
    many = tuple(f"<|{k}|>" for k in range(400))
    ids = policy.add_tokens(many)
    weight = policy.model.get_input_embeddings().weight.detach()
    assert list(ids.values()) == list(range(len(old), len(old) + 400))
    assert torch.equal(weight[: len(old)], old)
    rows = weight[len(old) :]
    assert ((rows.mean(0) - old.mean(0)).abs() < 4.5 * old.std(0) / 20).all()
    assert rows.std(0) / old.std(0) == pytest.approx(torch.ones(old.shape[1]), abs=0.2)
    other = load_policy("world/base")
    alone = other.add_tokens(many[7:8])["<|7|>"]
    assert torch.equal(other.model.get_input_embeddings().weight[alone], rows[7])
    third = load_policy("world/base")
    third.add_tokens(many[7:8], seed=1)
    assert not torch.equal(third.model.get_input_embeddings().weight[alone], rows[7])


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_and_head_grow_tied_or_not(tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    policy = load_policy("world/base")
    if not tied:
        config = LlamaConfig(**{**policy.model.config.to_dict(), "tie_word_embeddings": False})
        torch.manual_seed(0)
        policy.model = LlamaForCausalLM(config).eval()
    before = policy.logprobs([PROMPT.messages], ["ant , bear , cat"])[0].total
    head = policy.model.get_output_embeddings().weight.detach().clone()
    first, second = policy.add_tokens(NEW).values()
    embeddings, grown = (m.weight for m in (policy.model.get_input_embeddings(), policy.model.get_output_embeddings()))
    assert (embeddings is grown) is tied
    assert len(grown) == len(embeddings) == len(head) + 2 and policy.model.config.vocab_size == len(grown)
    assert torch.equal(grown[:-2], head) and not torch.equal(grown[first], grown[second])
    if not tied:
        assert not torch.equal(grown[first], embeddings[first])
    after = policy.logprobs([PROMPT.messages], ["ant , bear , cat"])[0].total
    assert before - 8 < after < before  # two more words share the probability


def test_rows_that_a_model_has_to_spare_are_used_and_made_anew():
    policy = load_policy("world/base")
    policy.model.resize_token_embeddings(200, mean_resizing=False)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[191:] = 50.0
    ids = policy.add_tokens(NEW)
    weight = policy.model.get_input_embeddings().weight
    assert len(weight) == 200 and list(ids.values()) == [191, 192]
    assert weight[191:193].abs().max() < 5 and (weight[193:] == 50).all()


def test_clones_made_before_keep_their_vocabulary_and_those_made_after_have_the_new_one():
    policy = load_policy("world/base")
    before = policy.clone()
    policy.add_tokens(NEW)
    after = policy.clone()
    assert len(before.model.get_input_embeddings().weight) + 2 == len(after.model.get_input_embeddings().weight)
    assert NEW[0] not in before.chat.tokenizer.get_vocab() and NEW[0] in after.chat.tokenizer.get_vocab()
    assert before.chat.prompt_ids(PROMPT.messages) == after.chat.prompt_ids(PROMPT.messages)


def test_a_saved_policy_has_prefix_and_banned_tokens_and_transformers_loads_it(grown, tmp_path):
    policy, ids = grown
    policy.decoding = Decoding(prefix=NEW[0], banned=NEW, max_tokens=8)
    policy.save(tmp_path)
    again = load_policy(str(tmp_path))
    assert again.weights_digest == policy.weights_digest and again.decoding == policy.decoding
    assert again.banned_ids == tuple(ids.values())
    assert again.chat.prompt_ids(PROMPT.messages, NEW[0])[-1] == ids[NEW[0]]
    assert again.chat.end_ids == policy.chat.end_ids and again.chat.pad_id == policy.chat.pad_id
    assert [r.text for r in again.respond([PROMPT])] == [r.text for r in policy.respond([PROMPT])]
    model, tokenizer = (c.from_pretrained(tmp_path) for c in (AutoModelForCausalLM, AutoTokenizer))
    assert tokenizer(NEW[1])["input_ids"] == [ids[NEW[1]]]
    row = torch.tensor([again.chat.prompt_ids(PROMPT.messages, NEW[0])])
    assert torch.equal(model(row).logits[0, -1], policy.model(row).logits[0, -1])
    assert again.add_tokens(NEW) == ids, "known tokens keep their rows"
    assert again.weights_digest == policy.weights_digest


def test_a_control_token_in_a_message_is_text(grown):
    policy, ids = grown
    assert not set(policy.chat.prompt_ids(user(f"list {NEW[0]} animals"))) & set(ids.values())


def test_what_is_no_control_token_is_refused():
    policy = load_policy("world/base")
    before = policy.weights_digest
    for texts in (("apple",), (" <|a|>",), ("",), ("<|a|>", "<|a|>")):
        with pytest.raises(InputError, match="control token"):
            policy.add_tokens(texts)
    assert policy.add_tokens(()) == {} and policy.weights_digest == before


def test_sampling_is_conditioned_on_the_prefix_and_draws_no_control_token(grown):
    policy, ids = grown
    with torch.no_grad():  # a policy that would draw nothing else
        policy.model.get_input_embeddings().weight[list(ids.values())] *= 30
    context = sources.Context(policy, None, Training(), 0, control=ids)
    group = sources.LoopGroup(PROMPT, policy.chat.prompt_ids(PROMPT.messages))
    for prefix in ((), (ids[NEW[0]],)):
        [drawn] = sources.sample(context, [group], 20, 6, prefix=prefix)
        assert list(drawn.prompt_ids) == list(group.prompt_ids)
        assert not {i for row in drawn.responses for i in row} & set(ids.values())
    free = sources.sample(replace(context, control={}), [group], 20, 6)[0]
    assert {i for row in free.responses for i in row} & set(ids.values()), "unbanned they would be drawn"


def test_the_reference_does_not_see_a_control_token_and_no_kl_counts_it(grown):
    policy, ids = grown
    nets = networks.build(
        policy, frozenset({"reference"}), reward=None, kind="last", seed=0, control=tuple(ids.values())
    )
    prompt = policy.chat.prompt_ids(PROMPT.messages)
    said = policy.chat.example(PROMPT.messages, "ant , bear")[0][len(prompt) :]

    def row(prefix):
        ids = [*prompt, *prefix, *said]
        return collate(Batch((Example(ids, [0] * (len(ids) - len(said)) + [1] * len(said), 0),)), policy.chat.pad_id)

    plain, steered = row(()), row((ids[NEW[0]],))
    seen = [nets.note(r, "logp_ref")[r.mask_N_T] for r in (plain, steered)]
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=0)
    assert nets.say(plain, frozenset({"kl"})).kl_N_T.abs().max() == 0
    assert nets.say(steered, frozenset({"kl"})).kl_N_T.max() > 1e-3, "the policy sees it"
    with torch.no_grad():  # rows of the head alone: nothing but the new tokens' probability changes
        head = torch.nn.Linear(96, 193, bias=False)
        head.weight.copy_(policy.model.get_output_embeddings().weight)
        head.weight[list(ids.values())] += 1.0
    policy.model.lm_head = head
    assert nets.say(plain, frozenset({"kl"})).kl_N_T.abs().max() < 1e-6
