"""Pairs drawn for people: probabilities by simulation, blind rows, and their reading back."""

import csv
import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from pippin.app.commands.label import label
from pippin.compare import labels
from pippin.compare.label_page import page
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Group, Message, Outcome, Prompt, Response, assistant, user
from pippin.data.labels import COLUMNS, PERSON, cell, key, read_labels, text_of
from pippin.judge.ask import Pair
from pippin.judge.resolve import resolve

FIRST, SECOND, TIE = Outcome.FIRST, Outcome.SECOND, Outcome.TIE
SIZES = np.array([0.4, 0.6, 0.94, 1.0, 0.05] * 6)


def pair(k: int, one: str = "one", two: str = "two") -> Pair:
    prompt = Prompt(user(f"question {k}"))
    return Pair(prompt, Response(prompt.id, assistant(one), "alpha"), Response(prompt.id, assistant(two), "beta"))


def said(p: Pair, original: Outcome, swapped: Outcome, by: str = "judge") -> list[Choice]:
    """Both orders; the outcomes as the judge put them."""
    one, two = p.first.id, p.second.id
    return [Choice(p.prompt.id, one, two, original, by), Choice(p.prompt.id, two, one, swapped, by)]


PAIRS = [pair(k) for k in range(60)]
SURE = [c for p in PAIRS[:40] for c in said(p, FIRST, SECOND)]
SPLIT = [c for p in PAIRS[40:50] for c in said(p, FIRST, FIRST)]
SILENT = [c for p in PAIRS[50:] for c in said(p, Outcome.UNPARSED, Outcome.UNPARSED)]
JUDGED = [*SURE, *SPLIT, *SILENT]


# Drawing


def test_weights_are_unbiased_for_every_unit_and_exactly_n_are_drawn():
    rng = np.random.default_rng(1)
    replicates, total, square = 20_000, np.zeros(len(SIZES)), np.zeros(len(SIZES))
    for _ in range(replicates):
        drawn, probability = labels.select(SIZES, rng.random(len(SIZES)), 8)
        assert len(set(drawn)) == 8 and (probability > 0).all() and (probability <= 1).all()
        total[drawn] += 1 / probability
        square[drawn] += 1 / probability**2
    mean = total / replicates
    error = np.sqrt((square / replicates - mean**2) / replicates)
    assert (np.abs(mean - 1) < 4 * error).all()  # the mean of one over the probability is 1 for each
    assert error.max() < 0.06


def test_inclusion_is_near_proportional_to_size():
    rng = np.random.default_rng(2)
    count = np.zeros(len(SIZES))
    for _ in range(20_000):
        count[labels.select(SIZES, rng.random(len(SIZES)), 8)[0]] += 1
    by_size = {size: count[size == SIZES].mean() / 20_000 for size in set(SIZES)}
    for size, share in by_size.items():
        assert share == pytest.approx(8 * size / SIZES.sum(), rel=0.05)


def test_equal_sizes_are_drawn_with_n_out_of_all_and_all_with_certainty():
    numbers = np.random.default_rng(3).random(20)
    assert labels.select(np.full(20, 0.7), numbers, 5)[1] == pytest.approx([0.25] * 5)
    drawn, probability = labels.select(SIZES, numbers.repeat(2)[:30], 30)
    assert (len(drawn), probability.min()) == (30, 1)


def test_doubt_is_least_for_agreement_and_most_for_silence():
    p = pair(0)

    def doubt(original: Outcome, swapped: Outcome) -> float:
        return labels.doubt(said(p, original, swapped), p.first.id)

    agreed, split, tie = doubt(FIRST, SECOND), doubt(FIRST, FIRST), doubt(TIE, TIE)
    half, none = doubt(FIRST, Outcome.FAILED), doubt(Outcome.FAILED, Outcome.REFUSED)
    assert agreed == 0 < half < split == tie < none == 1
    hedged = Choice(p.prompt.id, p.first.id, p.second.id, FIRST, "judge", p_first=0.55)
    clear = Choice(p.prompt.id, p.first.id, p.second.id, FIRST, "judge", p_first=0.95)
    assert labels.doubt([clear], p.first.id) < 0.2 < 0.7 < labels.doubt([hedged], p.first.id)
    assert labels.doubt([hedged.swap()], p.first.id) == pytest.approx(labels.doubt([hedged], p.first.id))


def test_unsure_pairs_are_drawn_oftener_and_a_larger_n_keeps_the_earlier_ones():
    some, more = (labels.draw(PAIRS, JUDGED, n, seed=7) for n in (20, 35))
    assert {d.key for d in some.drawn} < {d.key for d in more.drawn}
    by_key = {d.key: d.probability for d in more.drawn}

    def mean(listed: list[Pair]) -> float:
        known = [by_key.get(key(p.prompt.id, p.first.id, p.second.id)) for p in listed]
        return float(np.mean([v for v in known if v is not None]))

    assert mean(PAIRS[:40]) < mean(PAIRS[40:50]) < mean(PAIRS[50:])
    assert mean(PAIRS[:40]) / mean(PAIRS[50:]) >= labels.FLOOR - 1e-9
    assert len({d.probability for d in labels.draw(PAIRS, JUDGED, 20, floor=1).drawn}) == 1
    assert {d.probability for d in labels.draw(PAIRS, [], 15).drawn} == {0.25}
    assert labels.draw(PAIRS, [], 15).effective == pytest.approx(15)
    assert some.effective < 20


def test_the_draw_is_the_same_whatever_the_order_of_rows_and_differs_by_seed():
    turned = [Pair(p.prompt, p.second, p.first) for p in reversed(PAIRS)]
    one = labels.rows(labels.draw(PAIRS, JUDGED, 20, seed=3))
    assert one == labels.rows(labels.draw(turned, JUDGED[::-1], 20, seed=3))
    assert one != labels.rows(labels.draw(PAIRS, JUDGED, 20, seed=4))


def test_the_order_of_responses_is_random_and_rows_tell_nothing_of_the_judge():
    drawing = labels.draw(PAIRS, JUDGED, 60)
    first = [d.pair.first.by == "alpha" for d in drawing.drawn]
    assert 18 <= sum(first) <= 42  # four standard deviations about 30
    other = labels.draw(PAIRS, JUDGED, 60, annotator="bob")
    assert [d.pair.first.by == "alpha" for d in other.drawn] != first
    silent = [d.pair.prompt in [p.prompt for p in PAIRS[50:]] for d in drawing.drawn]
    assert sum(silent[:30]) in range(1, 10)


def test_equal_texts_are_not_drawn_and_floors_are_checked():
    drawing = labels.draw([*PAIRS[:5], pair(9, "same", "same")], [], 10)
    assert (len(drawing.drawn), drawing.identical) == (5, 1)
    with pytest.raises(InputError, match="no prompt has two different responses"):
        labels.draw([pair(9, "same", "same")], [], 10)
    for floor in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="not a floor"):
            labels.draw(PAIRS, [], 10, floor=floor)


def test_the_default_of_the_command_is_that_of_the_library():
    assert inspect.signature(label).parameters["floor"].default == labels.FLOOR


def test_candidates_are_the_pairs_judged_and_gold_is_no_judge():
    prompt = Prompt(user("which?"))
    answers = tuple(Response(prompt.id, assistant(f"answer {k}")) for k in range(3))
    judged = Choice(prompt.id, answers[0].id, answers[2].id, TIE, "judge")
    gold = Choice(prompt.id, answers[0].id, answers[1].id, FIRST, "gold")
    pairs, opinions = labels.candidates([Group(prompt, answers, (judged, gold))])
    assert [(p.first.text, p.second.text) for p in pairs] == [("answer 0", "answer 2")] and opinions == [judged]
    assert len(labels.candidates([Group(prompt, answers, (gold,))])[0]) == 3
    assert labels.candidates([Group(prompt, answers)], [judged])[1] == [judged]
    assert len(labels.candidates([Group(prompt, (answer,)) for answer in answers])[0]) == 3  # one response a row


# Rows for people


def written(tmp_path: Path, listed: list[Pair], **options) -> Path:
    path = tmp_path / "labels.csv"
    labels.write_labels(path, labels.rows(labels.draw(listed, [], len(listed), **options)))
    return path


def test_rows_name_no_model_and_hold_no_formula(tmp_path):
    hostile = [
        pair(1, "=cmd|' /C calc'!A0", "+1"), pair(2, "-2", "@SUM(A1)"), pair(3, "'tis", "plain, \"quoted\"\nline"),
        pair(4, "\u202eright to left", "bell\x07 and half \ud800"),
    ]  # fmt: skip
    path = written(tmp_path, hostile, annotator="=me")
    raw = path.read_text(encoding="utf-8")
    assert "alpha" not in raw and "beta" not in raw and "\x07" not in raw and "\u202e" not in raw
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == [*COLUMNS, "probability", "prompt", "text_first", "text_second"]
    assert not any(value.startswith(("=", "+", "-", "@")) for row in read for value in row.values())
    texts = {text_of(row[name]) for row in read for name in ("text_first", "text_second")}
    assert {"=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", "'tis", 'plain, "quoted"\nline'} <= texts
    assert {text_of(row["annotator"]) for row in read} == {"=me"}


@pytest.mark.parametrize("text", ["=1", "'=1", "''", "'tis", "-", "@", "plain", "", "\tx", "'"])
def test_cells_are_read_back_as_they_were(text):
    assert text_of(cell(text)) == text


def test_a_cell_that_people_wrote_stays():
    assert text_of("'tis") == "'tis"


def test_a_conversation_is_shown_turn_by_turn(tmp_path):
    prompt = Prompt((Message("user", "one"), Message("assistant", "two"), Message("user", "three")))
    two = Pair(prompt, Response(prompt.id, assistant("a")), Response(prompt.id, assistant("b")))
    [row] = labels.rows(labels.draw([two], [], 1))
    assert row["prompt"] == "user:\none\n\nassistant:\ntwo\n\nuser:\nthree"


def test_what_people_filled_in_is_kept_and_never_lost(tmp_path):
    drawing = labels.draw(PAIRS, JUDGED, 20, seed=7, annotator="ann")
    filled = labels.rows(drawing)
    for k, row in enumerate(filled):
        row["choice"] = "first" if k % 2 else "tie"
    path = tmp_path / "labels.csv"
    labels.write_labels(path, filled)
    more = labels.draw(PAIRS, JUDGED, 35, seed=7, annotator="ann")
    again = labels.rows(more, labels.kept(path))
    assert len(again) == 35 and sum(row["choice"] != "" for row in again) == 20
    before = {(r["first"], r["second"]): r["choice"] for r in filled}
    assert {(r["first"], r["second"]): r["choice"] for r in again if r["choice"]} == before
    beside = labels.rows(labels.draw(PAIRS, JUDGED, 20, seed=7, annotator="bob"), labels.kept(path))
    assert len(beside) == 40 and {r["annotator"] for r in beside if not r["choice"]} == {"bob"}
    with pytest.raises(InputError, match="would be lost"):
        labels.rows(labels.draw(PAIRS, JUDGED, 5, seed=7), labels.kept(path))
    assert labels.kept(tmp_path / "none.csv") == ()


# Reading


def table(tmp_path: Path, rows: list[dict], name: str = "l.csv") -> Path:
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(k: int = 0, choice: str | None = "first", **more) -> dict:
    p = PAIRS[k]
    return {"prompt_id": p.prompt.id, "first": p.first.id, "second": p.second.id, "choice": choice, **more}


def test_labels_of_several_people_with_empty_rows_and_columns_of_their_own(tmp_path):
    rows = [
        row(0, "First ", annotator="ann", weight="2.5", note="!"), row(0, "both bad", annotator="bob", weight="2.5"),
        row(1, "", annotator="ann", weight="4"), row(2, "TIE", annotator="ann", weight="4"), dict.fromkeys(row(), ""),
    ]  # fmt: skip
    found = read_labels(table(tmp_path, rows))
    assert [str(c.outcome) for c in found.choices] == ["first", "both_bad", "tie"]
    assert (found.empty, found.annotators) == (1, ["ann", "bob"])
    assert found.weights[key(*(row(0)[n] for n in ("prompt_id", "first", "second")))] == 2.5
    assert [len(opinions) for opinions in found.by_pair.values()] == [2, 1]


def test_json_lines_and_no_weights(tmp_path):
    found = read_labels(table(tmp_path, [row(0), row(1, None)], "l.jsonl"))
    assert (found.choices[0].by, found.empty, found.weights) == (PERSON, 1, {})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0), row(1, "frist")], ["l.csv:3", "no choice named 'frist'", "Did you mean 'first'"]),
        ([row(0, annotator="ann"), row(0, "tie", annotator="ann")], ["l.csv:3", "a second row of annotator 'ann'"]),
        ([row(0), {**row(1), "first": "1.23E+15"}], ["l.csv:3", "no id in column 'first'", "spreadsheet"]),
        ([{**row(0), "second": PAIRS[0].first.id}], ["l.csv:2", "a response beside itself"]),
        ([row(0, weight="0")], ["l.csv:2", "not a weight"]),
        ([row(0, weight="many")], ["l.csv:2", "not a weight"]),
        ([row(0, weight="inf")], ["l.csv:2", "not a weight"]),
        ([row(0, weight="2"), row(1, weight="")], ["l.csv:3", "a row without a weight"]),
        ([row(0, weight="2", annotator="a"), row(0, weight="3", annotator="b")], ["l.csv:3", "two weights"]),
        ([{"prompt_id": "x", "first": "y"}], ["l.csv:2", "labels without a column 'second'"]),
        ([{"prompt_id;first;second;choice": "a;b;c;d"}], ["commas"]),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_its_row(tmp_path, rows, words):
    with pytest.raises(InputError) as caught:
        read_labels(table(tmp_path, rows))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


# The judge


def test_people_are_a_judge_in_the_order_they_saw(tmp_path):
    one, two, three = PAIRS[:3]
    turned = {**row(0, "second", annotator="bob"), "first": one.second.id, "second": one.first.id}
    path = table(tmp_path, [row(0, annotator="ann"), turned, row(1, "tie", annotator="ann")])
    judge = resolve(f"person/{path}")
    assert [c.outcome for c in judge.compare([one])] == [FIRST, SECOND]  # each saw another order
    assert [c.outcome for c in judge.compare([two, three])] == [TIE] + [Outcome.ABSTAINED] * 3
    assert [c.outcome for c in resolve(f"person/{path}?by=bob").compare([one])] == [Outcome.ABSTAINED, SECOND]
    with pytest.raises(UnknownName, match="Did you mean 'bob'"):
        resolve(f"person/{path}?by=bub")
    with pytest.raises(InputError, match=r"expected person/labels\.csv"):
        resolve("person")


def test_people_who_are_divided_tie_and_a_majority_counts(tmp_path):
    names = ("ann", "bob", "cy")
    rows = [row(0, c, annotator=a) for c, a in zip(("first", "first", "second"), names, strict=True)]
    rows += [row(1, c, annotator=a) for c, a in zip(("first", "second"), names, strict=False)]
    rows += [row(2, "both_bad", annotator=a) for a in names]
    said = resolve(f"person/{table(tmp_path, rows)}").compare(PAIRS[:3], orders=("first",))
    assert [c.outcome for c in said] == [FIRST, TIE, Outcome.BOTH_BAD]
    assert said[0].p_first == pytest.approx(2 / 3)


def test_a_file_that_nobody_has_filled_in_is_no_judge(tmp_path):
    with pytest.raises(InputError, match="nobody has labelled"):
        resolve(f"person/{table(tmp_path, [row(0, '')])}")


# The page


def test_the_page_is_one_file_without_tags_from_texts_or_names():
    drawing = labels.draw([pair(1, "</script><script>alert(1)</script>", "<b>two</b>")], [], 1)
    made = page(labels.rows(drawing))
    assert "alpha" not in made and "beta" not in made
    assert "</script><script>alert" not in made and "<b>two" not in made
    assert "src=" not in made and made.count("<script") == 2
    assert made == page(labels.rows(drawing))
