"""Decisions in waves: from two files and a judge to the first look that settles it, through the file of labels."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pippin.app.cli import run
from pippin.compare.decide import Terms, decide
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.data.labels import read_labels

JUDGE = '''
def judge(prompts, completions, **rest):
    """Knows right from wrong on four of five prompts; on the others it has it the other way round."""
    signs = [-1 if int(prompt.split()[1]) % 5 == 0 else 1 for prompt in prompts]
    return [sign * ("right" in text) for sign, text in zip(signs, completions)]
'''


def respond(path: Path, texts: list[str]) -> str:
    rows = [{"prompt": f"number {k} is?", "completion": text} for k, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def right(row: dict) -> str:
    one, two = "right" in row["text_first"], "right" in row["text_second"]
    return "first" if one > two else "second" if two > one else "tie"


def fill(path: Path, say: Callable[[dict], str] = right) -> int:
    """Fill in the empty rows as a person of this opinion would; return how many there were."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    empty = [row for row in rows if not row["choice"]]
    for row in empty:
        row["choice"] = say(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return len(empty)


class Work:
    """Two files, a judge and a file of labels in one folder."""

    def __init__(self, folder: Path, share_1: float, share_2: float, prompts: int = 300) -> None:
        rng = random.Random(3)
        one, two = ([f"{'right' if rng.random() < share else 'wrong'}, {side}" for _ in range(prompts)]
                    for side, share in (("one", share_1), ("two", share_2)))  # fmt: skip
        self.v1, self.v2 = respond(folder / "a.jsonl", one), respond(folder / "b.jsonl", two)
        (folder / "j.py").write_text(JUDGE)
        self.store: Store | None = None
        self.labels, self.judge = folder / "labels.csv", f"python/{folder / 'j.py'}:judge"

    def step(self, **terms):
        return decide(self.v1, self.v2, judge=self.judge, people=self.labels, terms=Terms(**terms), store=self.store)

    def through(self, **terms):
        """Label and look until no more labels are wanted."""
        made = self.step(**terms)
        while made.stopped == "labels wanted":
            assert fill(self.labels) == made.wanted
            made = self.step(**terms)
        return made


@pytest.fixture
def better(tmp_path):
    """V2 is right in 75 % of prompts, V1 in 40 %."""
    return Work(tmp_path, 0.4, 0.75)


def test_it_stops_at_the_first_look_that_decides(better):
    first = better.step()
    assert (first.stopped, first.wanted, first.labels, first.looks) == ("labels wanted", 12, 0, ())
    assert (first.judged, first.calls) == (96, 192)
    assert first.decision == "cannot tell yet: no pair is labelled"
    made = better.through()
    assert made.stopped == "decided" and made.verdict == "V2 is better"
    assert [look.verdict for look in made.looks[:-1]] == ["cannot tell"] * (len(made.looks) - 1)
    assert made.looks[-1].delta is not None and made.looks[-1].delta.low > 0
    assert made.labels == made.looks[-1].labels == made.planned[len(made.looks) - 1] < 150
    assert made.calls == 2 * made.looks[-1].pairs
    assert made.people is not None and made.people.labels == made.labels
    again = better.step()
    assert json.dumps(again.to_row()) == json.dumps(made.to_row()), "taken once, shown as often as you like"


def test_the_pairs_of_a_wave_join_those_that_are_labelled(better):
    better.step()
    fill(better.labels)
    before = read_labels(better.labels)
    made = better.step()
    after = read_labels(better.labels)
    assert made.stopped == "labels wanted" and after.empty == made.wanted == 5
    assert after.choices == before.choices, "what people said stays as it was"
    assert set(before.weights) < set(after.weights)
    assert all(after.weights[pair] <= before.weights[pair] for pair in before.weights), "no chance is lost"
    assert better.step().wanted == 5, "the same command changes nothing"


def test_a_worse_one_is_not_better(tmp_path):
    made = Work(tmp_path, 0.75, 0.4).through()
    assert made.verdict == "V2 is not better" and made.stopped == "decided"
    assert made.looks[-1].delta is not None and made.looks[-1].delta.high < 0.05
    assert "below the 0.05 worth having" in made.decision


def test_budgets_end_it(tmp_path):
    work = Work(tmp_path, 0.5, 0.52)
    made = work.through(labels=30)
    assert (made.stopped, made.verdict, made.labels) == ("label budget", "cannot tell", 30)
    assert made.decision.startswith("cannot tell with this budget: ") and "label budget is used up" in made.decision
    assert made.planned == (12, 17, 24, 30)
    other = Work(tmp_path / "calls", 0.5, 0.52) if (tmp_path / "calls").mkdir() is None else work
    made = other.through(calls=50)
    assert (made.stopped, made.labels, made.judged, made.calls) == ("call budget", 25, 25, 50)
    few = Work(tmp_path / "few", 0.5, 0.52, prompts=40) if (tmp_path / "few").mkdir() is None else work
    made = few.through()
    assert (made.stopped, made.labels) == ("every pair", made.pairs)
    for terms, words in (
        ({"labels": 9}, "--label-budget"),
        ({"worth": -0.1}, "--worth"),
        ({"calls": 10}, "--call-budget"),
    ):
        with pytest.raises(InputError, match=words):
            work.step(**terms)


def test_fewer_labels_than_agreed_end_it_and_more_are_refused(tmp_path):
    work = Work(tmp_path, 0.5, 0.52)
    work.step(labels=60)
    fill(work.labels)
    made = work.step(labels=12)
    assert (made.stopped, made.planned[-1], made.labels) == ("label budget", 60, 12)
    assert work.step(labels=60).wanted == 5
    made = work.step(labels=12)
    assert (made.stopped, made.labels, made.wanted, made.people) == ("label budget", 12, 0, None)
    with pytest.raises(InputError, match="smaller --label-budget"):
        work.step(labels=61)


def test_what_a_look_has_used_may_not_change(better):
    better.step()
    fill(better.labels)
    better.step()
    text = better.labels.read_text()
    head, _, body = text.partition("\n")
    swapped = body.replace(",first,", ",both_bad,", 1)
    assert swapped != body
    better.labels.write_text(f"{head}\n{swapped}")
    with pytest.raises(InputError, match=r"labels that a look has used are changed.*look 1"):
        better.step()
    better.labels.write_text(text)
    with pytest.raises(InputError, match=r"other terms: --worth"):
        better.step(worth=0.1)
    (Path(better.v1)).write_text(Path(better.v1).read_text().replace("wrong, one", "wrong, uno"))
    with pytest.raises(InputError, match=r"other terms: the responses"):
        better.step()


def test_labels_of_other_pairs_are_refused(better):
    better.step()
    fill(better.labels)
    lines = better.labels.read_text().splitlines()
    better.labels.write_text("\n".join([*lines, f"{'0' * 16}," + lines[-1].partition(",")[2]]) + "\n")
    with pytest.raises(InputError, match="not drawn for this decision"):
        better.step()
    better.labels.with_suffix(".looks.json").write_text("[1]")
    with pytest.raises(InputError, match="not a file of looks"):
        better.step()


def test_the_looks_can_be_had_again_from_the_labels(better):
    made = better.through()
    looks = better.labels.with_suffix(".looks.json")
    before = looks.read_text()
    looks.unlink()
    assert better.step() == made and looks.read_text() == before
    with pytest.raises(InputError, match="not a file of labels"):
        decide(better.v1, better.v2, judge=better.judge, people="labels.txt")


def test_a_judge_that_is_always_wrong_does_not_mislead(better):
    (Path(better.v1).parent / "j.py").write_text(JUDGE.replace("[sign *", "[-sign *"))
    made = better.through()
    assert made.verdict == "V2 is better"


def test_no_call_is_paid_for_twice(better, tmp_path):
    asked = tmp_path / "asked.txt"
    (tmp_path / "s.py").write_text(
        "def judge(request):\n"
        f"    open({str(asked)!r}, 'a').write('x')\n"
        "    one, two = request.messages[-1].content.split('[output (a)')[1].split('[output (b)')\n"
        "    return '(a)' if ('right' in one) >= ('right' in two) else '(b)'\n"
    )
    better.judge = f"scripted/{tmp_path / 's.py'}:judge:vanilla"
    with Store(tmp_path / "store.db") as better.store:
        made = better.through(calls=300)
    assert made.stopped == "decided" and made.verdict == "V2 is better"
    assert made.calls == 2 * made.judged <= 300
    assert len(asked.read_text()) == made.calls


def test_the_command(better, capsys, tmp_path):
    result = tmp_path / "out.json"
    command = ["compare", better.v1, better.v2, "--judge", better.judge, "--people", str(better.labels), "--sequential",
               "--label-budget", "150", "--json", str(result)]  # fmt: skip
    assert run(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("cannot tell yet: no pair is labelled\nFill in `choice` in the 12 rows of ")
    row = json.loads(result.read_text())
    assert (row["stopped"], row["labels_used"], row["calls_used"], row["looks"]) == ("labels wanted", 0, 192, [])
    assert run([*command, "--gate", "delta_low > 0"]) == 4
    while json.loads(result.read_text())["stopped"] == "labels wanted":
        fill(better.labels)
        assert run(command) == 0
    row = json.loads(result.read_text())
    assert row["decision"].startswith("V2 is better: +0.") and row["verdict"] == "V2 is better"
    assert row["labels_used"] == row["looks"][-1]["labels"] and row["stopped"] == "decided"
    assert "the intervals of all looks hold the truth together with 95% probability" in capsys.readouterr().out
    assert run([*command, "--gate", "delta_low > 0 and labels < 150"]) == 0
    assert run([*command, "--gate", "verdict == 'V2 is not better'"]) == 4
    plain = [a for a in command if a != "--sequential"]
    assert run(plain) == 2, "budgets without --sequential"
    assert run([*command[:5], "--sequential"]) == 2
    assert "--people FILE" in capsys.readouterr().err
