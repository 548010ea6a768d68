"""Judgements into preferences: the rules, by name and by property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pippin.core.config import build
from pippin.core.errors import InputError
from pippin.core.types import Choice, Note, Outcome, Preference, Prompt, Ranking, Response, Score, assistant, user
from pippin.feedback.collapse import Rule, collapse

PROMPT = Prompt(user("Why?"))
RESPONSES = tuple(Response(PROMPT.id, assistant(text)) for text in "abcd")
F, S, T = Outcome.FIRST, Outcome.SECOND, Outcome.TIE


def choice(i: int, j: int, outcome: Outcome, by: str = "j", p: float | None = None, **more: Any) -> Choice:
    return Choice(PROMPT.id, RESPONSES[i].id, RESPONSES[j].id, outcome, by, p, **more)


def pairs(*judgements: Any, **rule: Any) -> list[tuple[int, int, float]]:
    found = collapse(judgements, RESPONSES, build(Rule, rule)).preferences
    return [(p.i, p.j, p.probability) for p in found]


@pytest.mark.parametrize(
    ("judgements", "rule", "expected", "dropped"),
    [
        ([choice(0, 1, F)], {}, [(0, 1, 1.0)], {}),
        ([choice(0, 1, S)], {}, [(1, 0, 1.0)], {}),
        ([choice(1, 0, F)], {}, [(1, 0, 1.0)], {}),
        ([choice(0, 1, F), choice(1, 0, S)], {}, [(0, 1, 1.0)], {}),  # both orders say 0
        ([choice(0, 1, F), choice(1, 0, F)], {}, [], {"ties": 1}),  # whatever is shown first
        ([choice(0, 1, F), choice(1, 0, F)], {"ties": "half"}, [(0, 1, 0.5)], {}),
        ([choice(0, 1, F), choice(1, 0, F)], {"orders": "agree"}, [], {"disagreeing": 1}),
        ([choice(0, 1, F), choice(1, 0, S)], {"orders": "agree"}, [(0, 1, 1.0)], {}),
        ([choice(0, 1, F), choice(1, 0, T)], {}, [(0, 1, 0.75)], {}),
        ([choice(0, 1, F), choice(1, 0, T)], {"orders": "agree"}, [], {"disagreeing": 1}),
        ([choice(0, 1, T), choice(1, 0, T)], {"orders": "agree", "ties": "half"}, [(0, 1, 0.5)], {}),
        ([choice(0, 1, Outcome.BOTH_BAD)], {"ties": "half"}, [(0, 1, 0.5)], {}),
        ([choice(0, 1, F), choice(1, 0, Outcome.FAILED)], {}, [(0, 1, 1.0)], {}),
        ([choice(0, 1, F), choice(1, 0, Outcome.UNPARSED)], {"orders": "agree"}, [], {"missing": 1}),
        ([choice(0, 1, Outcome.REFUSED)], {"ties": "half"}, [], {"missing": 1}),
        # three votes in one order and one in the other: each order weighs the same
        ([*[choice(0, 1, F, by) for by in "xyz"], choice(1, 0, F)], {}, [], {"ties": 1}),
        ([choice(0, 1, F, p=0.6), choice(1, 0, S, p=0.2)], {"probabilities": "stated"}, [(0, 1, 0.7)], {}),
        ([choice(0, 1, F, p=0.6), choice(1, 0, S, p=0.2)], {}, [(0, 1, 1.0)], {}),
        ([Note(PROMPT.id, (RESPONSES[0].id,), "x", "j")], {}, [], {}),
        ([Choice(PROMPT.id, RESPONSES[0].id, "other", F, "j")], {}, [], {"elsewhere": 1}),
    ],
)
def test_rules(judgements: Any, rule: Any, expected: Any, dropped: Any) -> None:
    assert [(i, j, pytest.approx(p)) for i, j, p in expected] == pairs(*judgements, **rule)
    assert collapse(judgements, RESPONSES, build(Rule, rule)).dropped == dropped


def test_rankings_give_all_pairs() -> None:
    ids = tuple(r.id for r in RESPONSES)
    assert pairs(Ranking(PROMPT.id, ids, (2, 1, 2, 3), "j")) == [
        (1, 0, 1.0), (0, 3, 1.0), (1, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)
    ]  # fmt: skip
    none = Ranking(PROMPT.id, ids, (), "j", outcome=Outcome.UNPARSED)
    assert collapse([none], RESPONSES).dropped == {"missing": 6}


def test_scores_are_compared_within_author_and_criterion() -> None:
    def score(i: int, value: float | None, by: str = "j", criterion: str = "overall") -> Score:
        outcome = None if value is not None else Outcome.REFUSED
        return Score(PROMPT.id, RESPONSES[i].id, value, by, criterion, outcome=outcome)

    assert pairs(score(0, 1.0), score(2, 3.0)) == [(2, 0, 1.0)]
    assert pairs(score(0, 1.0), score(1, 3.0, "k")) == []  # one author's 1 is not another's
    assert pairs(score(0, 1.0), score(1, 3.0, criterion="style")) == []
    found = collapse([score(0, 1.0), score(1, None), score(2, 1.0)], RESPONSES)
    assert found.preferences == () and found.dropped == {"missing": 2, "ties": 1} and found.pairs == 3


def test_two_readings_of_one_call_are_refused() -> None:
    one = choice(0, 1, F, calls=("c",), parser="llmbar")
    with pytest.raises(InputError, match="two parsers"):
        collapse([one, choice(0, 1, S, calls=("c",), parser="pippin-2")], RESPONSES)
    assert len(pairs(one, choice(1, 0, S, calls=("d",), parser="pippin-2"))) == 1


opinions = st.lists(
    st.builds(
        choice, st.sampled_from([0, 1]), st.sampled_from([2, 3]), st.sampled_from(list(Outcome)), st.sampled_from("xy")
    ),
    max_size=8,
)
rules = st.builds(Rule, st.sampled_from(["drop", "half"]), st.sampled_from(["average", "agree"]))


@given(opinions, rules, st.randoms())
def test_the_order_and_the_naming_of_judgements_change_nothing(said: list[Choice], rule: Rule, rng: Any) -> None:
    found = collapse(said, RESPONSES, rule)
    shuffled = list(said)
    rng.shuffle(shuffled)
    assert collapse(shuffled, RESPONSES, rule) == found
    assert len(found.preferences) + found.ties + found.missing + found.disagreeing == found.pairs
    assert all(p.probability >= 0.5 for p in found.preferences)


@given(opinions, rules)
def test_exchanging_two_responses_exchanges_the_preferences(said: list[Choice], rule: Rule) -> None:
    turned = tuple(reversed(RESPONSES))
    found = {(p.i, p.j, p.probability) for p in collapse(said, RESPONSES, rule).preferences if p.probability != 0.5}
    other = {
        (3 - p.i, 3 - p.j, p.probability) for p in collapse(said, turned, rule).preferences if p.probability != 0.5
    }
    assert {(i, j, round(p, 9)) for i, j, p in found} == {(i, j, round(p, 9)) for i, j, p in other}


def test_a_wrong_rule_is_named() -> None:
    with pytest.raises(InputError, match="ties"):
        build(Rule, {"ties": "keep"})
    assert Preference(0, 1) in collapse([choice(0, 1, F)], RESPONSES).preferences
