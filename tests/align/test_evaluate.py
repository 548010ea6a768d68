"""Accuracies on held-out preferences, against log-probabilities computed one by one from the model's own logits."""

import numpy as np
import pytest
import torch

from pippin.align.evaluate import PairLogps, pair_accuracy, pair_logps, score_accuracy
from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Outcome, Prompt, Response, assistant, user
from pippin.lm.hf import load_policy

TEXTS = ["apple | pear .", "pear", "kiwi kiwi kiwi", "the apple is red .", "no", "a pear and a kiwi and an apple ."]


def group(n: int, chosen: str, rejected: str, outcome: Outcome = Outcome.FIRST) -> Group:
    prompt = Prompt(user(f"list {n} fruits"))
    one, two = (Response(prompt.id, assistant(text)) for text in (chosen, rejected))
    return Group(prompt, (one, two), (Choice(prompt.id, one.id, two.id, outcome, "labels"),))


GROUPS = [group(n, TEXTS[n % 6], TEXTS[(n * 5 + 2) % 6]) for n in range(11) if TEXTS[n % 6] != TEXTS[(n * 5 + 2) % 6]]


@pytest.fixture(scope="module")
def base():
    return load_policy("world/base")


@pytest.fixture(scope="module")
def moved():
    """The base with its weights shaken: another policy with the same tokenizer."""
    policy = load_policy("world/base")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return policy


def one_by_one(policy, prompt: Prompt, text: str) -> tuple[float, int]:
    """Sum of log-probabilities and token count of a response, from whole logits, without batch or mask."""
    start = policy.chat.prompt_ids(prompt.messages)
    ids, _ = policy.chat.example(prompt.messages, text)
    with torch.no_grad():
        logp = policy.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(logp[t - 1, ids[t]].item() for t in range(len(start), len(ids))), len(ids) - len(start)


def by_hand(policy, groups):
    pairs = [[one_by_one(policy, g.prompt, r.text) for r in g.responses] for g in groups]
    sums = np.array([[total for total, _ in pair] for pair in pairs])
    return sums, np.array([[n for _, n in pair] for pair in pairs])


def test_sums_and_tokens_are_those_of_the_models_own_logits(base):
    sums, tokens = by_hand(base, GROUPS)
    made = pair_logps(base, GROUPS)
    assert made.sums_P_2 == pytest.approx(sums, abs=1e-4)
    assert made.tokens_P_2 == pytest.approx(tokens)
    assert list(made.prompts_P) == [g.prompt.id for g in GROUPS]


def test_accuracies_count_which_side_is_higher(base, moved):
    (now, tokens), (before, _) = by_hand(moved, GROUPS), by_hand(base, GROUPS)
    made = pair_accuracy(moved, GROUPS, base)
    expected = {"sum": now, "mean": now / tokens, "implicit": now - before}
    for name, scores in expected.items():
        assert made[name].value == pytest.approx(np.mean(scores[:, 0] > scores[:, 1])), name
        assert made[name].n == len(GROUPS)
        assert 0 <= made[name].low <= made[name].value <= made[name].high <= 1
    assert set(pair_accuracy(moved, GROUPS)) == {"sum", "mean"}


def test_a_policy_has_no_implicit_opinion_against_itself(base):
    assert pair_accuracy(base, GROUPS, base)["implicit"].value == 0.5


def test_the_preferred_response_is_the_one_that_the_judgement_names(base):
    swapped = [Group(g.prompt, g.responses, (g.judgements[0].swap(),)) for g in GROUPS]  # says the same
    against = [group(n, *(r.text for r in g.responses), Outcome.SECOND) for n, g in enumerate(GROUPS)]
    renumbered = [group(n, *(r.text for r in g.responses)) for n, g in enumerate(GROUPS)]
    assert pair_accuracy(base, swapped) == pair_accuracy(base, GROUPS)
    total = pair_accuracy(base, against)["sum"].value + pair_accuracy(base, renumbered)["sum"].value
    assert total == pytest.approx(1)


def test_ties_state_no_preference(base):
    ties = [group(n, "pear", "kiwi", Outcome.TIE) for n in range(3)]
    with pytest.raises(InputError, match="no preference"):
        pair_logps(base, ties)
    assert pair_logps(base, [*GROUPS, *ties]).prompts_P.shape == (len(GROUPS),)


def test_a_response_that_is_cut_away_is_missing_and_counted(base):
    long = group(99, "pear", "kiwi")
    long = Group(Prompt(user("list " + "apple " * 40)), long.responses, long.judgements)
    made = pair_logps(base, [*GROUPS, long], max_length=30)
    assert np.isnan(made.sums_P_2[-1]).all()
    accuracy = made.accuracies()["sum"]
    assert (accuracy.n, accuracy.missing) == (len(GROUPS), 1)


def test_change_is_paired():
    prompts = np.array(["a", "b", "c", "d"])
    tokens = np.ones((4, 2))
    before = PairLogps(np.array([[-2.0, -1], [-2, -1], [-1, -2], [-1, -1]]), tokens, prompts)
    after = PairLogps(np.array([[-1.0, -2], [-2, -1], [-1, -2], [-1, -2]]), tokens, prompts)
    assert after.change(before)["sum"].value == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    with pytest.raises(InputError, match="other pairs"):
        after.accuracies(PairLogps(before.sums_P_2, tokens, prompts[::-1]))


def test_accuracy_of_a_score():
    made = score_accuracy(lambda prompts, texts: [float(len(text)) for text in texts], GROUPS)
    longer = [np.sign(len(g.responses[0].text) - len(g.responses[1].text)) for g in GROUPS]
    assert 0 in longer  # a tie is half right
    assert made.value == pytest.approx(np.mean(0.5 + 0.5 * np.array(longer)))
