"""Which of two is better: the numbers against hand counts, the engine's judges against known faults, gates."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pippin.compare import gate
from pippin.compare.sides import Side, cautions, is_file
from pippin.compare.two import FIGURES, compare_two, pairs
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store
from pippin.core.types import Prompt, Response, Sampling, assistant, user
from pippin.judge.resolve import resolve


def write(path: Path, texts: dict[str, list[str]], model: str = "") -> str:
    rows = [{"prompt": p, "completion": c, "model": model} for p, cs in texts.items() for c in cs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lengths(path: Path, counts: list[int], model: str = "") -> str:
    """A file whose k-th response is a text of ``counts[k]`` characters."""
    return write(path, {f"question {k}": ["x" * n] for k, n in enumerate(counts)}, model)


def script(path: Path, body: str) -> str:
    path.write_text(f"def answer(request):\n    text = request.messages[-1].content\n    {body}\n")
    return f"scripted/{path}:answer"


@pytest.fixture
def two(tmp_path):
    """30 prompts; V2 is longer on 20, shorter on 6, and of equal length, with another text, on 4."""
    one = lengths(tmp_path / "one.jsonl", [10] * 30)
    other = write(
        tmp_path / "two.jsonl",
        {f"question {k}": ["y" * (20 if k < 20 else 5 if k < 26 else 10)] for k in range(30)},
    )
    return one, other


def test_delta_is_the_win_share_of_v2_less_that_of_v1(two):
    made = compare_two(*two, judge="rule/longer")
    assert made.delta.value == pytest.approx((20 - 6) / 30)
    assert made.delta.low < made.delta.value < made.delta.high
    assert (made.delta.n, made.delta.clusters, made.missing, made.pairs) == (30, 30, 0, 30)
    assert made.outcomes == {"first": 26, "second": 26, "tie": 8}
    assert made.decision.startswith("V2 is better: +0.467 [")
    assert made.to_row()["scope"] == "these runs"


def test_the_interval_is_near_students(two):
    made = compare_two(*two, judge="rule/longer")
    values = np.array([1.0] * 20 + [-1.0] * 6 + [0.0] * 4)
    low, high = scipy_stats.t.interval(0.95, 29, values.mean(), scipy_stats.sem(values))
    assert made.delta.low == pytest.approx(low, abs=0.06)
    assert made.delta.high == pytest.approx(high, abs=0.06)


def test_the_other_way_round_is_the_mirror_image(two):
    there, back = compare_two(*two, judge="rule/longer"), compare_two(*reversed(two), judge="rule/longer")
    assert back.delta.value == pytest.approx(-there.delta.value)
    assert back.decision.startswith("V2 is worse: -0.467 [")
    assert compare_two(*two, judge="rule/shorter").delta.value == pytest.approx(-there.delta.value)


def test_what_cannot_be_told_says_what_more_prompts_would_buy(tmp_path):
    one = lengths(tmp_path / "a.jsonl", [10] * 20)
    other = lengths(tmp_path / "b.jsonl", [11, 9] * 9 + [11, 11])
    made = compare_two(one, other, judge="rule/longer")
    assert made.decision.startswith("cannot tell: +0.100 [")
    # a paired t-test that is to find 0.1 at deviation 1.02 with power 0.8 needs about 800 prompts
    needed = int(made.more.rpartition("takes about ")[2].split()[0])
    assert needed == pytest.approx((1.96 + 0.84) ** 2 * 1.02**2 / 0.1**2, rel=0.15)


def test_by_score_delta_is_the_mean_difference(two):
    made = compare_two(*two, judge="rule/longer", metric="score")
    assert made.delta.value == pytest.approx((20 * 10 - 6 * 5) / 30)
    assert made.delta.unit == "mean score"
    with pytest.raises(InputError, match="gives no numbers"):
        compare_two(*two, judge="rule/first", metric="score")


def test_a_judge_that_always_says_first_cannot_tell(two, tmp_path):
    judge = script(tmp_path / "judge.py", "return '(a)'")
    made = compare_two(*two, judge=f"{judge}:vanilla")
    assert made.delta.value == 0
    assert made.first_shown is not None and made.first_shown.value == 1
    assert made.same_in_both_orders is not None and made.same_in_both_orders.value == 0


def test_missing_verdicts_are_counted_and_bounded(two, tmp_path):
    # no verdict where V2 is 5 characters long, else the longer one
    unsure, order = "'y' * 5 in text and 'y' * 6 not in text", "text.find('y' * 20) < text.find('x' * 10)"
    judge = script(tmp_path / "judge.py", f"return 'hm' if {unsure} else '(a)' if {order} else '(b)'")
    one, other = two
    made = compare_two(one, other, judge=f"{judge}:vanilla_norules")
    assert made.missing == 6
    assert made.delta.missing == 6
    assert made.outcomes["unparsed"] == 12
    assert made.worst is not None and made.best is not None
    decided = made.delta.value * 24
    assert made.worst.value == pytest.approx((decided - 6) / 30)
    assert made.best.value == pytest.approx((decided + 6) / 30)
    assert "6 of 30 pairs missing" in made.decision


def test_equal_texts_are_ties_and_not_asked_about(tmp_path):
    texts = {f"q{k}": [f"same {k}"] for k in range(4)}
    one, other = write(tmp_path / "a.jsonl", texts), write(tmp_path / "b.jsonl", texts | {"q0": ["longer text"]})
    judge = script(tmp_path / "judge.py", "return '(a)'")
    made = compare_two(one, other, judge=f"{judge}:vanilla")
    assert (made.identical, sum(made.outcomes.values())) == (3, 2)
    same = compare_two(one, one, judge=f"{judge}:vanilla")
    assert (same.delta.value, same.identical) == (0, 4)


def test_pairs_are_made_by_prompt_and_never_by_row(tmp_path):
    one = lengths(tmp_path / "a.jsonl", [10, 30])
    backwards = write(tmp_path / "b.jsonl", {"question 1": ["z" * 20], "question 0": ["z" * 20], "another": ["z"]})
    made = compare_two(one, backwards, judge="rule/longer")
    assert made.delta.value == 0
    assert made.left_out == (0, 1)


def side(counts: dict[str, int]) -> Side:
    rows = []
    for name, n in counts.items():
        prompt = Prompt(user(name))
        rows += [(prompt, Response(prompt.id, assistant(f"{name} {k}"), sample=k)) for k in range(n)]
    return Side("side", tuple(rows))


def test_several_responses_are_paired_one_by_one_and_a_single_one_with_each():
    def made(one: int, two: int) -> list[tuple[str, str]]:
        return [(p.first.text, p.second.text) for p in pairs(side({"q": one}), side({"q": two}))]

    assert made(2, 2) == [("q 0", "q 0"), ("q 1", "q 1")]
    assert made(1, 3) == [("q 0", "q 0"), ("q 0", "q 1"), ("q 0", "q 2")]
    assert made(3, 1) == [("q 0", "q 0"), ("q 1", "q 0"), ("q 2", "q 0")]
    assert made(3, 2) == [("q 0", "q 0"), ("q 1", "q 1")]


def test_samples_of_one_prompt_are_one_cluster(tmp_path):
    one = write(tmp_path / "a.jsonl", {f"q{k}": ["x"] for k in range(12)})
    other = write(tmp_path / "b.jsonl", {f"q{k}": ["xx" * n for n in (1, 2, 3)] for k in range(12)})
    made = compare_two(one, other, judge="rule/longer")
    assert (made.delta.n, made.delta.clusters) == (36, 12)


def test_a_model_answers_the_prompts_of_the_file_and_is_asked_once(two, tmp_path):
    model = script(tmp_path / "model.py", "return 'a longer answer to ' + text")
    with Store(tmp_path / "store.db") as store:
        made = compare_two(two[0], model, judge="rule/longer", store=store)
        assert made.decision.startswith("V2 is better: +1.000 [")
        assert store.size()["calls"] == 30
        again = compare_two(two[0], model, judge="rule/longer", store=store)
        assert store.size()["calls"] == 30
    assert again.to_row() == made.to_row()


def test_two_models_need_prompts_and_answer_the_same_ones(two, tmp_path):
    short = script(tmp_path / "short.py", "return 'short'")
    long = script(tmp_path / "long.py", "return 'not so short'")
    with pytest.raises(InputError, match="--prompts"):
        compare_two(short, long, judge="rule/longer")
    made = compare_two(short, long, judge="rule/longer", prompts=two[0], limit=7)
    assert (made.delta.value, made.delta.clusters) == (1, 7)


def test_requests_that_fail_are_counted_and_said(two, tmp_path):
    model = script(tmp_path / "model.py", "return {}['no'] if text.endswith('0') else 'x' * 99")
    made = compare_two(two[0], model, judge="rule/longer")
    assert (made.v2.failed, made.delta.clusters) == (3, 27)
    assert any("V2 gave no answer to 3 requests" in caution for caution in made.cautions)
    with pytest.raises(InputError, match="V2 has no response"):
        compare_two(two[0], script(tmp_path / "none.py", "raise ValueError('down')"), judge="rule/longer")


def test_unequal_decoding_and_a_judge_with_a_stake_are_said(two, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "pippin_run.json").write_text(json.dumps({"manifest": {"reward": "rule/longer", "judge.dev": "gold"}}))
    sides = (Side(str(folder), (), Sampling(0.0)), Side("world/base", (), Sampling(1.0)))
    said = cautions(sides, resolve("rule/longer"), "rule/longer")
    assert any("decoding differs" in line for line in said)
    assert any("rule/longer gave the reward in V1's training" in line for line in said)
    assert cautions((Side("a.jsonl", ()), Side("b.jsonl", ())), resolve("rule/longer"), "rule/longer") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "elo"}, "no metric named 'elo'"),
        ({"gate": "delta_lo > 0"}, "Did you mean 'delta_low'"),
        ({"judge": "rule/longest"}, "no rule named 'longest'"),
        ({"prompts": "missing.jsonl"}, "missing.jsonl: no such file"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(two, change, words):
    with pytest.raises(InputError, match=words):
        compare_two(*two, **{"judge": "rule/longer", **change})


def test_no_prompt_in_common_and_no_verdict_are_errors(two, tmp_path):
    other = write(tmp_path / "c.jsonl", {"elsewhere": ["x"]})
    with pytest.raises(InputError, match="no prompt in common"):
        compare_two(two[0], other, judge="rule/longer")
    with pytest.raises(InputError, match="V2 answers none of the prompts"):
        compare_two(two[0], other, judge="rule/longer", prompts=two[0])
    judge = script(tmp_path / "silent.py", "return 'no idea'")
    with pytest.raises(InputError, match="decided no pair"):
        compare_two(*two, judge=f"{judge}:vanilla")


def test_one_prompt_has_an_interval_as_wide_as_ignorance(tmp_path):
    one, other = lengths(tmp_path / "a.jsonl", [5]), lengths(tmp_path / "b.jsonl", [9])
    made = compare_two(one, other, judge="rule/longer")
    assert made.delta.value == 1
    assert made.delta.low < 0
    assert made.decision.startswith("cannot tell")


def test_the_row_is_json_and_has_the_names_that_scripts_rely_on(two):
    row = json.loads(json.dumps(compare_two(*two, judge="rule/longer").to_row(), allow_nan=False))
    assert {"decision", "delta", "delta_low", "delta_high", "n", "missing", "judge", "scope", "position_bias"} <= set(
        row
    )
    assert set(FIGURES) <= set(row)
    assert row["n"] == 30


def test_files_are_known_by_their_ending():
    assert is_file("a.jsonl") and is_file("./b.JSON.gz") and is_file("c.parquet")
    assert not is_file("./checkpoint") and not is_file("openai/gpt-4o-mini") and not is_file("m.gguf")


# Gates

VALUES = {"delta": 0.1, "delta_low": 0.02, "n": 50, "verdict": "V2 is better", "p": None}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("delta_low > 0", True),
        ("delta_low > 0 and n >= 100", False),
        ("delta_low > 0 or n >= 100", True),
        ("not delta < 0", True),
        ("0 < delta_low < delta <= 1", True),
        ("delta - delta_low > 0.5 * delta", True),
        ("verdict == 'V2 is better'", True),
        ("-delta > 0", False),
        ("(n - 25) / 25 == 1", True),
    ],
)
def test_gates_compare_figures(expression, holds):
    assert gate.holds(expression, VALUES) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')", "delta.__class__", "[delta]", "(lambda: 1)()", "delta if n else 0",
        "9 ** 9 ** 9", "delta >", "", "f'{delta}'", "delta := 1", "n[0]", "'a' * 999999999999", "n / 0 > 1",
        "p < 0.05", "delta < 'x'", "b'x' == n", "-" * 5000 + "n",
    ],
)  # fmt: skip
def test_gates_execute_nothing(expression):
    with pytest.raises(InputError):
        gate.holds(expression, VALUES)


def test_a_gate_with_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'delta_low'"):
        gate.check("delta_lo > 0", VALUES)


def test_a_gate_on_nan_does_not_hold():
    assert gate.holds("delta > 0", {"delta": math.nan}) is False
