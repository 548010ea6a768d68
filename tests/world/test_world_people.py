"""Verifier, demonstrators and annotators: the truth, and the planted departures from it."""

import math

import pytest

from pippin.world import lexicon, people, tasks
from pippin.world.tasks import Task
from pippin.world.verifier import verify


def drawn(n: int, seed: int = 0) -> list[Task]:
    rng = tasks.stream(seed, "test", "people")
    return [tasks.draw(rng) for _ in range(n)]


def test_experts_are_always_right() -> None:
    for task in drawn(3000):
        verdict = verify(task, people.expert(task, tasks.stream(0, "expert", task.key())))
        assert verdict.solved and verdict.gold == 1.0


def test_each_habit_is_caught_and_costs() -> None:
    seen = dict.fromkeys(people.HABITS, 0)
    for task in drawn(3000):
        for name, misread in people.HABITS.items():
            if (other := misread(task)) is not None:
                verdict = verify(task, people.answer(other, tasks.stream(1, name, task.key())))
                assert not verdict.solved and verdict.gold <= 0.5
                seen[name] += 1
    assert min(seen.values()) > 20


def test_the_crowd_is_mostly_wrong_and_chatty() -> None:
    rows = [(task, people.crowd(task, tasks.stream(2, "crowd", task.key()))) for task in drawn(2000)]
    verdicts = [verify(task, text) for task, text in rows]
    assert 0.2 < sum(v.solved for v in verdicts) / len(verdicts) < 0.45
    assert sum(v.fluff > 0 for v in verdicts) / len(verdicts) > 0.6


@pytest.mark.parametrize(
    ("asked", "response", "failed"),
    [
        ("reverse : ant fox", "fox , ant", set()),
        ("reverse : ant fox", "sure thing : fox , ant hope this helps", set()),
        ("reverse : ant fox", "ant , fox", {"core"}),
        ("reverse : ant fox", "-> fox , ant", {"format"}),
        ("reverse : ant fox", "fox ant", {"format"}),
        ("reverse : ant fox", "fox , ant ,", {"format"}),
        ("reverse : ant fox goat", "goat , fox / ant", {"format"}),
        ("reverse : ant fox", "", {"core", "format"}),
        ("list two animals separated by slashes ending in a star", "ant / fox *", set()),
        ("list two animals separated by slashes ending in a star", "ant / ant *", {"core"}),
        ("list two animals separated by slashes ending in a star", "ant , fox", {"separator", "end"}),
        ("list three animals including ant avoiding fox", "hen , fox", {"number", "include", "avoid"}),
        ("list three animals starting with ant from z to a", "fox , hen , pig", {"start", "order"}),
        ("count the animals as a digit : ant fox red", "2", set()),
        ("count the animals as a digit : ant fox red", "two", {"form"}),
        ("count the animals as a digit : ant fox red", "3", {"core"}),
        ("write twice : ant fox", "ant , ant , fox , fox", set()),
        ("drop the animals : ant red fox teal", "red , teal", set()),
    ],
)
def test_checks(asked: str, response: str, failed: set[str]) -> None:
    verdict = verify(asked, response)
    assert {name for name, passed in verdict.checks.items() if not passed} == failed
    assert verdict.solved == (not failed)
    assert (verdict.gold == 1.0) == (not failed and verdict.fluff <= 3) or verdict.fluff > 3


def test_fluff_costs_and_is_counted() -> None:
    plain, chatty = verify("copy : ant fox", "ant , fox"), verify("copy : ant fox", "sure thing : " * 4 + "ant , fox")
    assert (plain.fluff, chatty.fluff) == (0, 8)
    assert chatty.solved and chatty.gold == pytest.approx(0.75) and chatty.words == plain.words + 12


@pytest.mark.parametrize(
    "text",
    ["", " ", "\x00\ud800", "ant , " * 5000, ", , ,", "<eos> <user>", "ａｎｔ", "sure thing : " * 300, "!" * 999],
)
def test_hostile_text_gets_a_low_verdict(text: str) -> None:
    for asked in ("list two animals avoiding fox", "count the animals : ant", "what is this ?", ""):
        verdict = verify(asked, text)
        assert 0.0 <= verdict.gold < 0.5 and not verdict.solved


def test_demonstrations_are_deterministic_and_mixed() -> None:
    rows = people.demonstrations(400, seed=0)
    assert rows == people.demonstrations(400, seed=0) and rows[:100] == people.demonstrations(100, seed=0)
    assert 0.2 < sum(who == "expert" for _, _, who in rows) / len(rows) < 0.4
    assert len({prompt.id for prompt, _, _ in rows}) == 400


def test_preference_follows_the_closed_form() -> None:
    annotator = people.Annotator(sharpness=4.0, length=0.1, fluff=-0.2, position=0.3, lapse=0.1)
    prompt = tasks.as_prompt(tasks.parse("reverse : ant fox"))
    right, wrong = "fox , ant", "sure thing : ant , fox"
    logit = 4.0 * (1.0 - verify(prompt, wrong).gold) + 0.1 * (3 - 6) - 0.2 * (0 - 2) + 0.3
    p_first, _ = people.prefer(annotator, prompt, right, wrong, seed=0)
    assert p_first == pytest.approx(0.05 + 0.9 / (1 + math.exp(-logit)))
    choices = [people.prefer(annotator, prompt, right, wrong, seed)[1] for seed in range(4000)]
    assert sum(choices) / len(choices) == pytest.approx(1 - p_first, abs=0.02)
    assert people.prefer(annotator, prompt, right, wrong, 7) == people.prefer(annotator, prompt, right, wrong, 7)


def test_position_and_fluff_weights_are_recovered() -> None:
    """Both orders of equal content give the position weight; chat around one answer gives the fluff weight."""
    annotator = people.Annotator(sharpness=0.0, fluff=0.4, position=0.5)
    prompt = tasks.as_prompt(tasks.parse("copy : ant fox"))
    plain, chatty = "ant , fox", "sure thing : ant , fox"
    there = people.prefer(annotator, prompt, chatty, plain, 0)[0]
    back = people.prefer(annotator, prompt, plain, chatty, 0)[0]
    one, two = math.log(there / (1 - there)), math.log(back / (1 - back))
    assert (one + two) / 2 == pytest.approx(0.5) and (one - two) / 2 == pytest.approx(0.8)


def test_extreme_weights_stay_probabilities() -> None:
    prompt = tasks.as_prompt(tasks.parse("copy : ant fox"))
    for sign in (-1, 1):
        p_first, _ = people.prefer(people.Annotator(position=sign * 1e6), prompt, "a", "b", 0)
        assert p_first == (sign + 1) / 2


def test_adversarial_pairs_have_known_truth() -> None:
    pairs = people.adversarial_pairs(200, seed=0)
    assert pairs == people.adversarial_pairs(200, seed=0)
    assert len({pair.prompt.id for pair in pairs}) == 200 and {pair.better for pair in pairs} == {0, 1}
    for pair in pairs:
        shown = [verify(pair.prompt, pair.first), verify(pair.prompt, pair.second)]
        right, wrong = shown[pair.better], shown[1 - pair.better]
        assert right.gold == 1.0 and right.fluff == 0
        assert not wrong.solved and wrong.fluff > 0 and wrong.words >= right.words


def test_phrases_are_made_of_style_words_only() -> None:
    content = {*lexicon.WORDS, *lexicon.CATEGORIES, *lexicon.NUMBERS, *lexicon.DIGITS}
    for phrase in lexicon.OPENERS + lexicon.CLOSERS:
        assert not content & set(phrase.split()) and phrase.split()[-1] not in lexicon.ENDS.values()
