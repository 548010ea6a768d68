"""Strategies driven through the engine by a scripted model and a real store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from judge_pairs import pair, pairs

from pippin.core.errors import ModelError
from pippin.core.store import Store
from pippin.core.types import Call, Choice, Key, Outcome, Request
from pippin.judge.ask import LABELS, ORDERS
from pippin.judge.resolve import resolve
from pippin.judge.strategy import Asker, Calls, Strategy, label_probability, read_verdict
from pippin.lm.scripted import Scripted


def choices(said: str | Mapping[str, float], strategy: str = "vanilla") -> list[Choice]:
    return resolve("s", models={"s": Scripted(lambda _: said, "s")}, strategy=strategy).compare([pair()])


@pytest.mark.parametrize("strategy", ["vanilla", "vanilla_norules"])
def test_both_orders_are_asked_once_and_stored(tmp_path: Path, strategy: str) -> None:
    model = Scripted(lambda request: "(a)" if request.key.order == "first" else "(b)", "s")
    many = pairs(7)
    with Store(tmp_path / "store.db") as store:
        said = resolve("s", models={"s": model}, strategy=strategy).compare(many, store=store)
        assert model.asked == 2 * len(many) == store.size()["calls"]
        again = resolve(f"s:{strategy}", models={"s": model}).compare(many, store=store)
        assert model.asked == 2 * len(many)  # nothing is asked twice
        assert again == said
        assert store.judgements(by=f"s:{strategy}") == said
    assert [(c.first, c.second) for c in said[:2]] == [
        (many[0].first.id, many[0].second.id), (many[0].second.id, many[0].first.id)
    ]  # fmt: skip
    assert {c.outcome for c in said[0::2]} == {Outcome.FIRST} and {c.outcome for c in said[1::2]} == {Outcome.SECOND}
    assert all(c.parser == "pippin-2" and len(c.calls) == 1 for c in said)


def test_the_rules_are_what_tells_the_two_apart() -> None:
    seen: dict[str, Request] = {}
    for strategy in ("vanilla", "vanilla_norules"):
        model = Scripted(lambda request, name=strategy: seen.setdefault(name, request) and "(a)", strategy)
        resolve("s", models={"s": model}, strategy=strategy).compare([pair()], orders=["first"])
    rules, plain = (seen[name].messages[1].content for name in ("vanilla", "vanilla_norules"))
    assert "How to judge:\n1." in rules and "How to judge" not in plain
    assert len(rules.split("\n\n")) == len(plain.split("\n\n")) + 1
    assert seen["vanilla"].labels == LABELS and seen["vanilla"].sampling.temperature == 0


@pytest.mark.parametrize(
    ("logprobs", "outcome", "p"),
    [
        ({"(a)": math.log(0.6), "(b)": math.log(0.2)}, Outcome.FIRST, 0.75),
        ({"(a)": -900.0, "(b)": -1.0}, Outcome.SECOND, 0.0),
        ({"(a)": -2.0, "(b)": -2.0}, Outcome.TIE, 0.5),
    ],
)
def test_probabilities_of_the_labels(logprobs: dict[str, float], outcome: Outcome, p: float) -> None:
    for choice in choices(logprobs):
        assert choice.outcome is outcome
        assert choice.p_first == pytest.approx(p, abs=1e-12)


def test_log_probabilities_do_not_overrule_a_text_without_a_verdict() -> None:
    said = {"(a)": -5.0, "(b)": -7.0}
    for text, stop, outcome in (("I'm sorry, no.", "end", Outcome.REFUSED), ("", "end", Outcome.FIRST)):
        call = Call(Key("x"), "r", "m", text, stop, logprobs=said)  # type: ignore[arg-type]
        assert read_verdict(pair(), "first", Asker("j", "pippin-2"), call).outcome is outcome
    assert label_probability(Call(Key("x"), "r", "m", logprobs={"(a)": -1.0})) is None
    assert label_probability(Call(Key("x"), "r", "m", logprobs={"(a)": -math.inf, "(b)": -1.0})) is None


def test_a_failed_request_is_a_failed_choice_and_the_others_go_on(tmp_path: Path) -> None:
    many, fail = pairs(3), True

    def script(request: Request) -> str:
        if fail and request.key.subject == many[1].id and request.key.order == "swapped":
            raise ConnectionError("gone")
        return "(a)"

    model = Scripted(script, "s")
    with Store(tmp_path / "store.db") as store:
        said = resolve("s", models={"s": model}).compare(many, store=store)
        assert [c.outcome for c in said].count(Outcome.FAILED) == 1
        assert said[3].outcome is Outcome.FAILED and said[3].p_first is None
        fail = False
        said = resolve("s", models={"s": model}).compare(many, store=store)
        assert model.asked == 6 + 1  # only the failed one is asked again
    assert {c.outcome for c in said} == {Outcome.FIRST}


def test_a_strategy_that_is_broken_is_not_a_judge_without_opinion() -> None:
    from pippin.judge.judges.llm import LLMJudge

    def ask(*_: object):  # type: ignore[no-untyped-def]
        yield []
        raise KeyError("oops")

    judge = LLMJudge(Scripted(["(a)"], "s"), Strategy(ask, lambda _: Calls(2)), "broken")
    with pytest.raises(ModelError, match="s:broken failed on everything: KeyError"):
        judge.compare([pair()])


def test_unreadable_answers_are_told_apart() -> None:
    for text, outcome in (("Hm.", Outcome.UNPARSED), ("I cannot say.", Outcome.REFUSED), ("Both.", Outcome.TIE)):
        assert {c.outcome for c in choices(text)} == {outcome}
    assert len(ORDERS) == 2


def test_published_parser_reads_the_same_calls_otherwise() -> None:
    model = Scripted(lambda _: "Output (a)\nOutput (b)", "s")
    ours, theirs = (resolve("s", models={"s": model}, parser=p).compare([pair()])[0] for p in ("", "llmbar"))
    assert (ours.outcome, theirs.outcome) == (Outcome.SECOND, Outcome.FIRST)
    assert ours.calls == theirs.calls and (ours.parser, theirs.parser) == ("pippin-2", "llmbar")
