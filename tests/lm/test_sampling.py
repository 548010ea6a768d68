"""Draws against transformers' greedy search, exact probabilities, and themselves in other batches."""

import numpy as np
import pytest
import torch
from lm_tiny import WORDS, tiny_llama
from scipy import stats

from pippin.core.errors import InputError
from pippin.lm import threads
from pippin.lm.sampling import choose, nucleus, sample

ENDS = list(range(10, 30))


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, len(WORDS), int(rng.integers(1, 40))).tolist() for _ in range(100)]
    return rows + rows[:50] + rows[:50]  # 200, some of them equal


def draw(model, prompts, **options):
    settings = {"max_tokens": 12, "temperature": 1.0, "end_ids": ENDS, "seeds": range(len(prompts)), "pad_id": 0}
    return sample(model, prompts, **(settings | options))


def test_a_row_does_not_depend_on_its_batch(model, prompts):
    alone = draw(model, prompts, batch_size=1)
    assert 0.2 < np.mean([d.ended for d in alone]) < 1  # rows end at different times, some not at all
    for size in (7, 64, 256):
        assert draw(model, prompts, batch_size=size) == alone
    backwards = draw(model, prompts[::-1], seeds=range(len(prompts))[::-1])
    assert backwards[::-1] == alone


def test_a_row_depends_on_its_seed(model, prompts):
    first, second = draw(model, prompts[:30]), draw(model, prompts[:30], seeds=range(1000, 1030))
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 20
    same = draw(model, [prompts[0]] * 40)
    assert len({tuple(d.ids) for d in same}) > 20


def test_fewer_tokens_are_the_beginning_of_more(model, prompts):
    short, long = draw(model, prompts, max_tokens=3), draw(model, prompts, max_tokens=12)
    assert [d.ids for d in short] == [d.ids[:3] for d in long]


def test_greedy_is_that_of_transformers(model, prompts):
    ours = draw(model, prompts[:60], temperature=0)
    for prompt, got in zip(prompts, ours, strict=False):
        want = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=12,
            do_sample=False, eos_token_id=ENDS, pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert got.ids == want
        assert got.ended == (want[-1] in ENDS)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6)])
def test_first_token_has_the_models_distribution(model, temperature, top_p):
    prompt = [5, 40, 50, 60]
    logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double() / temperature
    p = logits.softmax(-1).detach().numpy()
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
        p = np.where(np.isin(np.arange(len(p)), kept), p, 0)
        p /= p.sum()
    n = 4000
    got = draw(model, [prompt] * n, max_tokens=1, temperature=temperature, top_p=top_p, seeds=range(n), batch_size=n)
    counts = np.bincount([d.ids[0] for d in got], minlength=len(p))
    assert counts[p == 0].sum() == 0
    common = p * n >= 5
    observed, expected = counts[common], p[common] * n
    rest = (counts[~common].sum(), p[~common].sum() * n)
    if rest[1] > 0:
        observed, expected = np.append(observed, rest[0]), np.append(expected, rest[1])
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_banned_tokens_are_never_drawn(model, prompts):
    banned = list(range(20, 240))
    for temperature in (0, 1.0):
        got = draw(model, prompts[:50], banned=banned, temperature=temperature)
        assert not {i for d in got for i in d.ids} & set(banned)


def test_several_tokens_end_a_row_together(model, prompts):
    free = draw(model, prompts, end_ids=[])
    row = next(d.ids for d in free if len(set(d.ids[3:5])) == 2)
    marker = row[3:5]
    for a, b in zip(free, draw(model, prompts, end_ids=[], end_marker=marker), strict=True):
        at = next((t for t in range(11) if a.ids[t : t + 2] == marker), None)
        assert b.ids == (a.ids if at is None else a.ids[: at + 2])
        assert b.ended == (at is not None)


def test_context_limit_is_the_rows_own():
    model = tiny_llama(max_position_embeddings=16)
    rows = [[5] * 15, [6] * 10, [7] * 3]
    assert [len(d.ids) for d in draw(model, rows, end_ids=[], max_tokens=9)] == [1, 6, 9]
    assert draw(model, rows, end_ids=[], max_tokens=9) == draw(model, rows, end_ids=[], max_tokens=9, batch_size=1)
    with pytest.raises(InputError, match="leave room"):
        draw(model, [[5] * 16])


def test_training_mode_is_kept(model, prompts):
    other = tiny_llama()
    other.train()
    draw(other, prompts[:2])
    assert other.training


def test_a_small_model_gets_one_thread_and_the_others_are_given_back(monkeypatch, prompts):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []
    other = tiny_llama()
    other.lm_head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        draw(other, prompts[:2], max_tokens=2, end_ids=[])
        monkeypatch.setattr(threads, "SMALL", 10)
        draw(other, prompts[:2], max_tokens=2, end_ids=[])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 2]


def test_bad_arguments(model):
    for options in ({"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"seeds": [1, 2]}):
        with pytest.raises(InputError):
            draw(model, [[5]], **options)
    with pytest.raises(InputError):
        draw(model, [[]])
    assert draw(model, []) == []


def test_choose_by_hand():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]] * 4))
    u = torch.tensor([0.1, 0.3, 0.69, 0.9], dtype=torch.double)
    assert choose(logits, u, 1.0).tolist() == [0, 1, 1, 2]
    assert choose(logits, u, 0).tolist() == [1, 1, 1, 1]
    assert choose(torch.tensor([[1.0, 3.0, 3.0]]), None, 0).tolist() == [1]  # the first of equals
    assert choose(logits, u, 1.0, top_p=0.6).tolist() == [1, 1, 2, 2]  # 0.5 and 0.3 are left, as 0.625 and 0.375


def test_a_uniform_number_next_to_one_picks_a_possible_token():
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])
    almost = torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.double)
    assert choose(logits, almost, 1.0).tolist() == [1]


def test_nucleus_by_hand():
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.double)
    assert nucleus(p, 0.7).tolist() == [[False, True, False, True]]
    assert nucleus(p, 0.71).tolist() == [[False, True, True, True]]
    assert nucleus(p, 1e-9).tolist() == [[False, True, False, False]]
