"""Preferences made less dependent on length: what stays, what goes, what is added."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Preference, Prompt, Response, assistant, user
from pippin.feedback import balance
from pippin.feedback.collapse import collapse


def words(group: Group, response: Response) -> int:
    return len(response.text.split())


def row(name: str, lengths: list[int], *preferences: Preference) -> balance.Row:
    prompt = Prompt(user(name))
    said = tuple(Response(prompt.id, assistant(f"{name} " * n), sample=k) for k, n in enumerate(lengths))
    return Group(prompt, said), preferences or (Preference(0, 1),)


def rows_of(*gaps: int, start: int = 0) -> list[balance.Row]:
    """A pair for each gap: how many words the better response has more."""
    return [row(f"p{start + k}", [50 + gap, 50]) for k, gap in enumerate(gaps)]


def prompts(rows: list[balance.Row]) -> list[str]:
    return [group.prompt.text for group, _ in rows]


def test_lengths_are_balanced_in_each_bin() -> None:
    rows = rows_of(3, 4, 9, -1, 10, 19, -12, -13, -19, 25, 0)
    made = balance.with_balanced_lengths(rows, words, 10, seed=0)
    gaps = balance.length_gaps(made.rows, words)
    bins = Counter((gap > 0) - (gap < 0) for gap in gaps if abs(gap) < 10), Counter(g > 0 for g in gaps if abs(g) >= 10)
    assert bins == (Counter({1: 1, -1: 1, 0: 1}), Counter({True: 2, False: 2}))
    assert made.pairs == 2 + 1 + 1  # of the first bin, of the second, and 25, which has nothing on the other side
    assert balance.with_balanced_lengths(made.rows, words, 10, seed=1).pairs == 0


def test_longer_wins_half_of_what_is_left_whatever_the_data() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(*(int(g) for g in rng.normal(8, 15, size=300).clip(-49, 99)))
    assert np.mean([gap > 0 for gap in balance.length_gaps(rows, words) if gap]) > 0.6
    made = balance.with_balanced_lengths(rows, words, 10, seed=0)
    gaps = [gap for gap in balance.length_gaps(made.rows, words) if gap]
    assert len(gaps) > 100 and np.mean([gap > 0 for gap in gaps]) == 0.5
    assert len(made.rows) + made.pairs == 300


def test_a_tie_says_nothing_of_length_and_the_second_may_be_the_better() -> None:
    tie, backwards = row("tie", [90, 10], Preference(0, 1, 0.5)), row("back", [10, 15], Preference(0, 1, 0.2))
    assert balance.length_gaps([tie, backwards], words) == [5]
    assert prompts(balance.with_balanced_lengths([tie, backwards], words, 10, 0).rows) == ["tie"]


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order() -> None:
    rows = rows_of(*[5] * 40, *[-5] * 10)
    shuffled = [rows[k] for k in np.random.default_rng(1).permutation(len(rows))]
    kept = {seed: set(prompts(balance.with_balanced_lengths(rows, words, 10, seed).rows)) for seed in (0, 1)}
    assert kept[0] == set(prompts(balance.with_balanced_lengths(shuffled, words, 10, 0).rows)) != kept[1]
    one, two = (balance.with_random_pairs(r, 0.25, 0).rows[len(rows) :] for r in (rows, shuffled))
    assert {(g.prompt.text, g.responses[1].text) for g, _ in one} == {
        (g.prompt.text, g.responses[1].text) for g, _ in two
    }


def test_random_pairs_set_a_winner_against_the_winner_of_another_prompt() -> None:
    rows = [*rows_of(*range(1, 20)), row("tie", [3, 4], Preference(0, 1, 0.5)), row("b", [2, 9], Preference(1, 0, 0.8))]
    winners = {g.responses[p[0].i].text: g.prompt.text for g, p in rows if p[0].probability != 0.5}
    made = balance.with_random_pairs(rows, 0.25, seed=0)
    assert made.rows[: len(rows)] == rows and made.pairs == 5 == len(made.rows) - len(rows)
    for group, preferences in made.rows[len(rows) :]:
        won, lost = (r.text for r in group.responses)
        assert winners[won] == group.prompt.text != winners[lost]
        assert collapse(group.judgements, group.responses).preferences == preferences == (Preference(0, 1),)
        assert [c.by for c in group.judgements if isinstance(c, Choice)] == ["random_pairs"]
    assert len({g.prompt.id for g, _ in made.rows[len(rows) :]}) == 5
    with pytest.raises(InputError, match="two prompts or more"):
        balance.with_random_pairs(rows_of(3) * 2, 1.0, seed=0)


def test_confidence_is_cut_at_both_ends() -> None:
    rows = [row(f"p{p}", [1, 2], Preference(0, 1, p)) for p in (0.5, 0.6, 0.75, 0.95, 1.0)]
    rows.append(row("turned", [1, 2], Preference(0, 1, 0.1)))  # the second is better with 0.9
    made = balance.within_confidence(rows, 0.6, 0.95)
    assert prompts(made.rows) == ["p0.6", "p0.75", "p0.95", "turned"] and made.pairs == 2
    with pytest.raises(InputError, match=r"collapse\.probabilities"):
        balance.within_confidence(rows_of(1, 2), 0.6, 1.0)


def test_a_response_without_a_pair_goes_and_one_that_never_had_one_stays() -> None:
    given = row("p", [1, 2, 3, 4], Preference(0, 1, 0.55), Preference(2, 1, 0.9))  # nobody spoke of the last
    [(group, preferences)] = balance.within_confidence([given], 0.6, 1.0).rows
    assert [words(group, r) for r in group.responses] == [2, 3, 4]
    assert preferences == (Preference(1, 0, 0.9),)
    silent = Group(given[0].prompt, given[0].responses)
    assert balance.within_confidence([(silent, ()), given], 0.6, 1.0).rows[0] == (silent, ())


def test_pairs_said_twice_are_told_apart() -> None:
    rows = rows_of(5, -5) + rows_of(5)  # the first one again
    assert balance.with_balanced_lengths(rows, words, 10, 0).pairs == 1
