"""Reading a prompt once for several responses, and cutting by length, change no loss and no gradient."""

import itertools

import numpy as np
import pytest
import torch

from pippin.align import loop
from pippin.align.shapes import Batch, Example, Size, collate, cut
from pippin.lm import forward, shared, threads
from pippin.lm.hf import load_policy


@pytest.fixture
def passes(monkeypatch):
    """Tokens of each pass of the model, padding counted."""
    seen = []
    real = forward._rows

    def counted(model, inputs, *rest, **named):
        seen.append(inputs.ids_N_T.numel())
        return real(model, inputs, *rest, **named)

    monkeypatch.setattr(forward, "_rows", counted)
    return seen


def long_prompts(bench, length=30):
    """The pool of a bench with a long prompt before every response, the same for a group."""
    pool = loop._prepare(bench.method, bench.context, bench.networks, None)
    rng = np.random.default_rng(0)
    for rows in pool.rows_of.values():
        prompt = rng.integers(5, 60, size=length).tolist()
        for i in rows:
            e = pool.examples[i]
            pool.examples[i] = Example(
                prompt + list(e.ids), [0] * length + list(e.mask), e.group, e.token, e.value, e.weight
            )
    return pool


def step(bench, pool):
    for module in bench.networks.trained().values():
        module.zero_grad(set_to_none=True)
    method, context = bench.method, bench.context
    terms = [t for t in method.terms if t.active(context.config)]
    loss, metrics, tokens = loop.accumulate(
        terms, bench.networks, pool, pool.groups, context.config, context.training, method.couple
    )
    return loss, torch.cat([p.grad.flatten() for p in bench.networks.policy.model.parameters()]), metrics, tokens


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dpo", {}), ("kto", {}), ("simpo", {}), ("slic", {}), ("rrhf", {}), ("pro", {}),
     ("reward_model", {"head": "logratio"})],
)  # fmt: skip
def test_a_shared_prompt_gives_the_same_loss_and_gradient(name, settings, make_bench, passes):
    told = {}
    for way in (True, False):
        bench = make_bench(name, per_device_train_batch_size=4, gradient_accumulation_steps=2, **settings)
        bench.networks.shared = way
        passes.clear()
        told[way] = (*step(bench, long_prompts(bench)), sum(passes))
    assert told[True][0] == pytest.approx(told[False][0], abs=1e-5)
    torch.testing.assert_close(told[True][1], told[False][1], atol=1e-5, rtol=1e-4)
    assert told[False][1].abs().max() > 0
    assert told[True][3] == told[False][3], "the ledger counts the tokens of the examples, however they are read"
    assert told[True][4] < 0.8 * told[False][4], "and fewer went through the model"


def rows_of(*rows):
    return collate(Batch(tuple(Example(ids, mask, 0) for ids, mask in rows)), 0)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([([5, 6, 7, 8], [0, 0, 1, 1]), ([5, 6, 9], [0, 0, 1])], id="pair"),
        pytest.param([([5, 6, 7, 8, 9, 3], [0, 0, 1, 0, 0, 1]), ([5, 6, 9], [0, 0, 1])], id="gaps in a mask"),
        pytest.param([([5, 6, 7], [0, 0, 0]), ([5, 6, 9], [0, 0, 1]), ([5, 6, 9], [0, 0, 1])], id="nothing wanted"),
        pytest.param([([5, 6, 7, 8, 9], [0, 0, 0, 1, 0])] * 3, id="equal rows"),
        pytest.param([([5, 6, 7], [0, 0, 0])], id="nothing at all"),
        pytest.param([([5, 6], [0, 1]), ([7, 6], [0, 1])], id="nothing shared"),
    ],
)
def test_any_mask_has_its_log_probabilities(rows, monkeypatch):
    monkeypatch.setattr(shared, "_WORTH", 10.0)  # also where it would not pay
    model, t = load_policy("world/base").model, rows_of(*rows)
    arguments = (model, t.ids_N_T, t.attention_N_T, t.mask_N_T)
    torch.testing.assert_close(
        shared.response_logps(*arguments), forward.response_logps(*arguments), atol=1e-5, rtol=1e-5
    )


def test_a_hidden_token_before_the_response_is_not_read(monkeypatch):
    monkeypatch.setattr(shared, "_WORTH", 10.0)
    model, t = load_policy("world/base").model, rows_of(([5, 6, 7, 8], [0, 0, 1, 1]), ([5, 6, 9, 4], [0, 0, 1, 1]))
    attention = t.attention_N_T.clone()
    attention[1, 0] = 0
    arguments = (model, t.ids_N_T, attention, t.mask_N_T)
    torch.testing.assert_close(
        shared.response_logps(*arguments), forward.response_logps(*arguments), atol=1e-5, rtol=1e-5
    )


def test_a_window_of_attention_is_not_exceeded(passes, monkeypatch):
    model = load_policy("world/base").model
    t = rows_of(([5] * 20 + [6], [0] * 20 + [1]), ([5] * 20 + [7], [0] * 20 + [1]))
    arguments = (model, t.ids_N_T, t.attention_N_T, t.mask_N_T)
    assert shared.shares_prompts(model)
    passes.clear()
    shared.response_logps(*arguments)
    monkeypatch.setattr(model.config, "sliding_window", 8, raising=False)
    shared.response_logps(*arguments)
    assert passes == [22, 42]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("sft", {}), ("dpo", {}), ("kto", {}), ("ppo", {}), ("reward_model", {"head": "last"}), ("sft", {"bf16": True})],
)
def test_rows_end_to_end_give_the_same_loss_and_gradient(name, settings, make_bench, passes, monkeypatch):
    """Also where a term reads values, scores or the full KL, and with the short groups of a batch put together."""
    told = {}
    for way in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(threads, "SMALL", 0 if way else 10**9)
            bench = make_bench(name, per_device_train_batch_size=4, gradient_accumulation_steps=2, **settings)
            pool = loop._prepare(bench.method, bench.context, bench.networks, None)
            passes.clear()
            told[way] = (*step(bench, pool), list(passes))
    close = {"atol": 2e-2, "rtol": 2e-2} if settings.get("bf16") else {"atol": 1e-5, "rtol": 1e-4}
    assert told[True][0] == pytest.approx(told[False][0], abs=close["atol"])
    torch.testing.assert_close(told[True][1], told[False][1], **close)
    assert told[True][3] == told[False][3], "the ledger counts the tokens of the examples, however they are read"
    assert sum(told[True][4]) < sum(told[False][4]) and len(told[True][4]) <= len(told[False][4])


def test_layers_that_compute_again_keep_their_padding(make_bench, passes, monkeypatch):
    """Attention run again in the backward pass would not know the pieces, and would see other rows."""
    monkeypatch.setattr(threads, "SMALL", 0)
    told = {}
    for way in (True, False):
        bench = make_bench("sft", gradient_checkpointing=way)
        told[way] = step(bench, loop._prepare(bench.method, bench.context, bench.networks, None))
    assert told[True][0] == pytest.approx(told[False][0], abs=1e-5)
    torch.testing.assert_close(told[True][1], told[False][1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_the_cut_has_the_fewest_tokens(most):
    rng = np.random.default_rng(most)
    for _ in range(20):
        sizes = [Size(int(rng.integers(1, 4)), int(rng.integers(1, 400))) for _ in range(6)]
        order = sorted(range(6), key=lambda i: -sizes[i].longest)

        def cost(parts, sizes=sizes):
            return sum(128 + sum(sizes[i].rows for i in p) * max(sizes[i].longest for i in p) for p in parts)

        found = cut(sizes, most)
        assert sorted(i for part in found for i in part) == list(range(6))
        assert max(map(len, found)) <= most
        borders = itertools.product([0, 1], repeat=5)
        ways = [np.split(order, [k + 1 for k, b in enumerate(way) if b]) for way in borders]
        assert cost(found) == min(cost(way) for way in ways if max(map(len, way)) <= most)


def test_like_lengths_come_together():
    assert cut([Size(1, n) for n in (10, 500, 12, 480)], 2) == [[1, 3], [2, 0]]
    assert cut([Size(1, n) for n in (10, 2000)], 8) == [[1], [0]], "a short row is not padded to a long one"
    assert cut([], 4) == []


@pytest.mark.parametrize("most", [1, 2, 5])
def test_rows_end_to_end_fill_what_the_longest_groups_would_take(most):
    rng = np.random.default_rng(most)
    tokens = rng.integers(1, 400, size=30).tolist()
    parts = cut([Size(2, n // 2 + 1, n) for n in tokens], most)
    filled = [sum(tokens[i] for i in part) for part in parts]
    assert sorted(i for part in parts for i in part) == list(range(30))
    assert max(filled) <= most * max(tokens)
    assert len(parts) <= 1 + 1.2 * sum(tokens) / (most * max(tokens)) < 30 / most
