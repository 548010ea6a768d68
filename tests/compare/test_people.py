"""A judge corrected by people: planted truth, hand counts, and what cannot be corrected."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pippin import stats
from pippin.compare import gate, labels
from pippin.compare.people import FIGURES, _settle
from pippin.compare.sides import read_file
from pippin.compare.two import compare_two, pairs
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store
from pippin.data.files import read_judgements, write_judgements
from pippin.judge.ask import Pair
from pippin.judge.resolve import resolve

FAVOURS_V2 = '''
def judge(request):
    """Knows right from wrong, but on every third question names the text that says indeed."""
    text = request.messages[-1].content
    one, two = text.split("[output (a)")[1].split("[output (b)")
    favour = any(f"number {k} " in text for k in range(0, 1000, 3))
    if favour and ("indeed" in one) != ("indeed" in two):
        return "(a)" if "indeed" in one else "(b)"
    if ("right" in one) == ("right" in two):
        return "(a)"
    return "(a)" if "right" in one else "(b)"
'''


def gold(pair: Pair) -> tuple[int, int]:
    return int("right" in pair.first.text), int("right" in pair.second.text)


def fill(path: Path, rows: list[dict], say: Callable[[dict], str]) -> str:
    """The rows as a person of this opinion would return them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "choice": say(row)} for row in rows)
    return str(path)


def right(row: dict) -> str:
    one, two = "right" in row["text_first"], "right" in row["text_second"]
    return "first" if one > two else "second" if two > one else "both_bad" if not one else "tie"


def respond(path: Path, texts: list[str], model: str) -> str:
    rows = [{"prompt": f"number {k} is?", "completion": t, "model": model} for k, t in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def planted(tmp_path):
    """240 prompts; V1 is right more often, and the judge says the opposite."""
    rng = random.Random(5)
    one = [f"{'right' if rng.random() < 0.65 else 'wrong'} one" for _ in range(240)]
    two = [f"{'right' if rng.random() < 0.45 else 'wrong'} two, indeed" for _ in range(240)]
    (tmp_path / "s.py").write_text(FAVOURS_V2)
    v1, v2 = respond(tmp_path / "a.jsonl", one, "alpha"), respond(tmp_path / "b.jsonl", two, "beta")
    truth = np.mean([("right" in y) - ("right" in x) for x, y in zip(one, two, strict=True)])
    return v1, v2, f"scripted/{tmp_path / 's.py'}:judge:vanilla", float(truth)


def drawn(v1: str, v2: str, n: int, judge: str = "", seed: int = 0) -> list[dict]:
    made = pairs(read_file(v1), read_file(v2))
    said = resolve(judge).compare(made) if judge else []
    return labels.rows(labels.draw(made, said, n, seed=seed))


def test_a_judge_that_favours_one_side_is_corrected(planted, tmp_path):
    v1, v2, judge, truth = planted
    people = fill(tmp_path / "l.csv", drawn(v1, v2, 80, judge), right)
    naive = compare_two(v1, v2, judge=judge)
    assert truth < -0.1 and naive.delta.low > 0  # the naive answer is sure, and wrong
    made = compare_two(v1, v2, judge=judge, people=people)
    assert made.delta.low <= truth <= made.delta.high
    assert made.judge_alone == naive.delta
    assert made.people is not None and made.people.bias is not None and made.people.bias.high < 0
    assert (made.people.labels, made.people.foreign, made.people.empty) == (80, 0, 0)
    assert made.decision.endswith("corrected by 80 labels") and "n=240 prompts" in made.decision
    assert made.alone.startswith("the judge alone: +0.") and "people less judge: -0." in made.alone
    again = compare_two(v1, v2, judge=judge, people=people)
    assert json.dumps(again.to_row()) == json.dumps(made.to_row())


def test_error_rates_are_each_sides_own(planted, tmp_path):
    v1, v2, judge, _ = planted
    people = fill(tmp_path / "l.csv", drawn(v1, v2, 240), right)
    made = compare_two(v1, v2, judge=judge, people=people)
    listed = list(enumerate(pairs(read_file(v1), read_file(v2))))
    lost = [k for k, p in listed if gold(p) == (1, 0)]
    assert made.people is not None
    of_v1, of_v2 = made.people.wrong
    assert of_v1 is not None and of_v2 is not None
    assert of_v1.value == pytest.approx(sum(k % 3 == 0 for k in lost) / len(lost))
    assert of_v2.value == 0
    assert of_v1.low < of_v1.value < of_v1.high


def test_labels_on_all_pairs_give_what_people_say(planted, tmp_path):
    v1, v2, judge, truth = planted
    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", drawn(v1, v2, 240), right))
    assert made.delta.value == pytest.approx(truth)
    assert made.people is not None and made.people.alone is not None
    assert made.people.alone.value == pytest.approx(truth)


def test_the_figures_are_those_of_the_correction_by_hand(planted, tmp_path):
    v1, v2, judge, _ = planted
    rows = drawn(v1, v2, 60, judge, seed=2)
    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", rows, right))
    listed = pairs(read_file(v1), read_file(v2))
    choices = resolve(judge).compare(listed)
    judge_N, people_N, probability_N = [], [], []
    weight = {row["prompt_id"]: row["weight"] for row in rows}
    for k, p in enumerate(listed):
        credits = [c.credit(p.second.id) for c in choices[2 * k : 2 * k + 2]]
        judge_N.append(2 * (credits[0] + credits[1]) / 2 - 1)  # type: ignore[operator]
        people_N.append(np.diff(gold(p))[0] if p.prompt.id in weight else np.nan)
        probability_N.append(1 / weight.get(p.prompt.id, np.inf))
    expected = stats.corrected(judge_N, people_N, probability_N=probability_N, support=(-1, 1)).corrected
    assert made.delta.value == pytest.approx(expected.value)
    assert (made.delta.low, made.delta.high) == pytest.approx((expected.low, expected.high))


def test_equal_texts_are_ties_for_people_too(planted, tmp_path):
    v1, v2, judge, _ = planted
    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", drawn(v1, v2, 240), right))
    more = []
    for name, file in (("a2.jsonl", v1), ("b2.jsonl", v2)):
        same = [{"prompt": f"another {k}", "completion": "the same"} for k in range(80)]
        (tmp_path / name).write_text(Path(file).read_text() + "".join(json.dumps(row) + "\n" for row in same))
        more.append(str(tmp_path / name))
    wider = compare_two(*more, judge=judge, people=str(tmp_path / "l.csv"))
    assert wider.delta.value == pytest.approx(made.delta.value * 240 / 320)
    assert wider.people is not None and wider.people.labels == 240


def test_pairs_without_a_verdict_stay_in_the_question(planted, tmp_path):
    v1, v2, judge, truth = planted
    # silent where V1 is right and V2 wrong: to leave these out would make V2 the better one
    (tmp_path / "s.py").write_text(
        FAVOURS_V2.replace("    favour =", "    if 'right one' in text and 'wrong two' in text:\n"
                                           "        return 'hm'\n    favour =")
    )  # fmt: skip
    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", drawn(v1, v2, 100, judge), right))
    assert made.missing > 40 and made.judge_alone.low > 0.3
    assert made.delta.low <= truth <= made.delta.high
    assert any("tells nothing" in caution for caution in made.cautions)


def test_labels_about_others_are_counted_and_all_foreign_is_an_error(planted, tmp_path):
    v1, v2, judge, _ = planted
    rows = drawn(v1, v2, 40)
    strange = [{**row, "prompt_id": f"{k:016x}"} for k, row in enumerate(rows[:7])]
    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", rows[7:] + strange, right))
    assert made.people is not None
    assert (made.people.labels, made.people.foreign) == (33, 7)
    assert "7 of 40 labels are about other responses: left out" in made.cautions
    with pytest.raises(InputError, match=r"no label is about the responses compared \(found 7 labels"):
        compare_two(v1, v2, judge=judge, people=fill(tmp_path / "f.csv", strange, right))


def test_few_labels_and_labels_of_one_side_correct_nothing(planted, tmp_path):
    v1, v2, judge, _ = planted
    few = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", drawn(v1, v2, 9), right))
    assert few.decision.startswith("cannot correct: 9 labels, at least 10 are needed; the judge alone: +0.")
    row = few.to_row()
    assert [row[name] for name in ("delta", "delta_low", "delta_high", "p", "gain", "bias")] == [None] * 6
    assert row["judge_alone"] == few.judge_alone.value and row["verdict"] == "cannot correct"
    assert "cannot correct: 9 labels, at least 10 are needed" in row["cautions"]
    for_v2 = {p.prompt.id for k, p in enumerate(pairs(read_file(v1), read_file(v2))) if k % 3 == 0}
    rows = [row for row in drawn(v1, v2, 240) if row["prompt_id"] in for_v2]
    chosen = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "m.csv", rows, right))
    assert chosen.decision.startswith("cannot correct: none of 80 labels is on the ")
    assert "that the judge gave to V1" in chosen.decision
    nobody = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "n.csv", rows, lambda row: ""))
    assert nobody.decision.startswith("cannot correct: 0 labels")


def test_rows_that_are_not_yet_labelled_are_said(planted, tmp_path):
    v1, v2, judge, _ = planted
    rows = drawn(v1, v2, 40)
    done = {row["prompt_id"] for row in rows[:25]}
    people = fill(tmp_path / "l.csv", rows, lambda row: right(row) if row["prompt_id"] in done else "")
    made = compare_two(v1, v2, judge=judge, people=people)
    assert made.people is not None and (made.people.labels, made.people.empty) == (25, 15)
    assert any("15 rows are not yet labelled" in caution for caution in made.cautions)
    assert any("25 labels are few" in caution for caution in made.cautions)


def test_several_annotators_are_averaged_and_their_agreement_is_said(planted, tmp_path):
    v1, v2, judge, _ = planted
    rows = drawn(v1, v2, 40)
    both = [{**row, "annotator": who} for row in rows for who in ("ann", "bob")]
    odd = {row["prompt_id"] for row in rows[:10]}  # here bob says first, whatever stands there

    def say(row: dict) -> str:
        return "first" if row["annotator"] == "bob" and row["prompt_id"] in odd else right(row)

    made = compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", both, say))
    assert made.people is not None and made.people.agreement is not None
    differ = sum(right(row) != "first" for row in rows[:10])
    assert made.people.agreement.value == pytest.approx(1 - differ / 40)
    assert (made.people.labels, made.people.opinions) == (40, 80)
    assert made.people.annotators == ("ann", "bob")


def test_rogan_gladen_is_given_only_when_asked_and_only_for_equal_weights(planted, tmp_path):
    v1, v2, judge, _ = planted
    equal = fill(tmp_path / "l.csv", drawn(v1, v2, 240), right)
    assert compare_two(v1, v2, judge=judge, people=equal).to_row()["people"]["rogan_gladen"] is None
    told = compare_two(v1, v2, judge=judge, people=equal, rogan_gladen=True).to_row()["people"]["rogan_gladen"]
    assert "errs on all pairs as often as on the labelled ones" in told["assumes"]
    listed = list(enumerate(pairs(read_file(v1), read_file(v2))))
    wins = [(sum(gold(p)) == 1, gold(p) == (0, 1), k % 3 == 0 or gold(p) == (0, 1)) for k, p in listed]
    judged = [v2_said for k, (one_right, _, v2_said) in enumerate(wins) if one_right or k % 3 == 0]
    caught = np.mean([v2_said for one_right, v2_won, v2_said in wins if one_right and v2_won])
    passed = np.mean([not v2_said for one_right, v2_won, v2_said in wins if one_right and not v2_won])
    share = (np.mean(judged) + passed - 1) / (caught + passed - 1)
    assert told["estimate"]["value"] == pytest.approx(2 * share - 1)
    uneven = fill(tmp_path / "u.csv", drawn(v1, v2, 60, judge), right)
    row = compare_two(v1, v2, judge=judge, people=uneven, rogan_gladen=True).to_row()
    assert row["people"]["rogan_gladen"].startswith("cannot: the labels were drawn with unequal probabilities")


def test_uneven_weights_are_said_and_their_scale_is_nothing(planted, tmp_path):
    v1, v2, judge, _ = planted
    rows = drawn(v1, v2, 60)
    heavy = [{**row, "weight": 9.0 if k < 5 else 1.0} for k, row in enumerate(rows)]
    small = [{**row, "weight": row["weight"] / 100} for row in heavy]
    made, scaled = (
        compare_two(v1, v2, judge=judge, people=fill(tmp_path / "l.csv", each, right)) for each in (heavy, small)
    )
    assert any("weights differ by more than 4 to 1" in caution for caution in made.cautions)
    assert scaled.delta.value == pytest.approx(made.delta.value)


def test_gates_use_the_corrected_figures(planted, tmp_path):
    v1, v2, judge, _ = planted
    people = fill(tmp_path / "l.csv", drawn(v1, v2, 80, judge), right)
    made = compare_two(v1, v2, judge=judge, people=people, gate="delta < 0 and judge_alone > 0 and labels == 80")
    assert gate.holds("delta < 0 and judge_alone_low > 0 and bias < 0 and gain > 0", made.figures())
    assert set(FIGURES) <= set(made.to_row())
    assert set(FIGURES).isdisjoint(compare_two(v1, v2, judge=judge).to_row())
    with pytest.raises(UnknownName, match="no figure for a gate named 'judge_alone'"):
        compare_two(v1, v2, judge=judge, gate="judge_alone > 0")
    json.dumps(made.to_row(), allow_nan=False)


def test_scores_are_not_what_people_gave(planted, tmp_path):
    v1, v2, judge, _ = planted
    people = fill(tmp_path / "l.csv", drawn(v1, v2, 20), right)
    with pytest.raises(InputError, match="--metric win"):
        compare_two(v1, v2, judge="rule/longer", metric="score", people=people)
    with pytest.raises(InputError, match="Give --people"):
        compare_two(v1, v2, judge=judge, rogan_gladen=True)


def test_what_more_labels_would_buy():
    said = np.full(600, np.nan)
    said[:40] = np.where(np.arange(40) < 24, 1.0, -1.0)  # +0.2, deviation 0.98
    found = stats.corrected(np.zeros(600), said, support=(-1, 1))
    words, count = _settle(found, found.corrected)
    assert count == pytest.approx((1.98 * 0.98 / 0.2) ** 2 - 40, rel=0.15)  # so that the half-width is 0.2
    assert words.startswith(f"About {count} more")
    said[:40] = np.where(np.arange(40) < 32, 1.0, -1.0)
    sure = stats.corrected(np.zeros(600), said, support=(-1, 1))
    assert _settle(sure, sure.corrected) == ("No more labels are needed to settle it.", 0)
    level = np.where(np.arange(600) % 2, 1.0, -1.0)
    level[:6] = 1.0
    none = stats.corrected(np.zeros(600), np.where(np.arange(600) < 300, level, np.nan), support=(-1, 1))
    words, count = _settle(none, none.corrected)
    assert count is None and words.startswith("No number of labels would settle it: one on every prompt")


def test_scores_of_a_scoring_judge_are_stored(planted, tmp_path):
    v1, v2, _, _ = planted
    with Store(tmp_path / "store.db") as store:
        compare_two(v1, v2, judge="rule/longer", store=store)
        store.export(tmp_path / "kept")
    scores = read_judgements(tmp_path / "kept" / "judgements.jsonl")
    assert sum(j.kind == "score" for j in scores) == 480


def test_a_file_of_judgements_makes_unsure_pairs_likelier(planted, tmp_path):
    v1, v2, judge, _ = planted
    made = pairs(read_file(v1), read_file(v2))
    write_judgements(tmp_path / "j.jsonl", resolve(judge).compare(made))
    rows = labels.rows(labels.draw(made, read_judgements(tmp_path / "j.jsonl"), 60))  # type: ignore[arg-type]
    assert rows == drawn(v1, v2, 60, judge)
    tied = [row["probability"] for row in rows if right(row) in ("tie", "both_bad")]
    sure = [row["probability"] for row in rows if right(row) not in ("tie", "both_bad")]
    assert np.mean(tied) > np.mean(sure)
