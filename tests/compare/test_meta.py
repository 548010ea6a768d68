"""Meta-evaluation: recordings give the published cells, planted judges give what was planted."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pippin.compare.meta.recordings import STRATEGIES, read_recordings
from pippin.compare.meta.run import meta
from pippin.compare.meta.table import table
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Request, digest
from pippin.lm.scripted import Scripted

ROOT = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data" / "llmbar"
real = pytest.mark.skipif(not ROOT.is_dir(), reason="the LLMBar recordings are not here (PIPPIN_SHARED)")
COUNTS = ("n", "correct_original_order", "correct_swapped_order", "correct_both_orders", "equal")
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")


def fast(*args: Any, **options: Any) -> dict[str, Any]:
    return meta(*args, **{"resamples": 200, **options})


# ---------------------------------------------------------------- a small benchmark with planted judges


def build(folder: Path, n: int = 60) -> Path:
    """Two sets of ``n`` pairs. The better output contains GOOD; it is the longer one in two of three pairs."""
    for name in ("Natural", "Manual"):
        rows = []
        for i in range(n):
            better, worse = f"GOOD {i}" + " more" * (3 if i % 3 else 0), f"bad {i} long"
            label = 1 + (i // 2) % 2
            one, two = (better, worse) if label == 1 else (worse, better)
            rows.append({"input": f"{name} {i}", "output_1": one, "output_2": two, "label": label})
        (folder / name).mkdir(parents=True)
        (folder / name / "dataset.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bench"))


def shown_good(request: Request) -> bool:
    """Whether the output shown first is the better one."""
    return request.messages[1].content.index("GOOD") < request.messages[1].content.index("bad ")


def noisy(accuracy: float) -> Callable[[Request], str]:
    def script(request: Request) -> str:
        chance = int(digest([request.key.subject, request.key.order], 8), 16) / 16**8
        return "(a)" if shown_good(request) == (chance < accuracy) else "(b)"

    return script


def planted(bench: Path, script: Callable[[Request], Any], **options: Any) -> dict[str, Any]:
    return fast("llmbar", ["m"], data=bench, models={"m": Scripted(script, "m")}, **options)


def test_a_judge_that_always_says_first(bench: Path) -> None:
    for row in planted(bench, lambda _: "(a)")["cells"]:
        assert (row["accuracy_pct"], row["agreement_pct"]) == (50.0, 0.0)
        assert row["consistency"]["split"]["value"] == 1.0
        assert row["first_shown"]["value"] == 1.0 and row["first_shown"]["p"] < 0.01
        assert row["swap_averaged"]["value"] == 0.5


def test_a_judge_that_is_always_right(bench: Path) -> None:
    result = planted(bench, noisy(1.0))
    for row in result["cells"]:
        assert (row["accuracy_pct"], row["agreement_pct"], row["correct_both_orders"]) == (100.0, 100.0, 60)
        assert row["first_shown"]["value"] == 0.5
        assert 0.9 < row["accuracy"]["low"] <= row["accuracy"]["high"] == 1.0
    assert next(row["judge"] for row in table(result) if row["set"] == "Natural") == "m:vanilla"
    gold = fast("llmbar", ["gold"], data=bench)
    assert [row["accuracy_pct"] for row in gold["cells"]] == [100.0, 100.0]


def test_a_judge_of_known_accuracy_is_found_within_its_interval(tmp_path: Path) -> None:
    data = build(tmp_path / "b", 400)
    for row in planted(data, noisy(0.8))["cells"]:
        assert row["accuracy"]["low"] < 0.8 < row["accuracy"]["high"]
        assert 0.72 < row["accuracy"]["value"] < 0.88
        agreement = 0.8**2 + 0.2**2  # independent errors
        assert row["agreement"]["low"] < agreement < row["agreement"]["high"]


def test_a_judge_of_length_is_found_by_its_length_bias(bench: Path) -> None:
    """Independent of the rule: the scripted judge counts characters in what it is shown."""

    def longer(request: Request) -> str:
        lines = request.messages[1].content.split("\n")
        one, two = (len(lines[k + 1]) for k, line in enumerate(lines) if line.startswith("[output ("))
        return "(a)" if one > two else "(b)"

    result = planted(bench, longer)
    rules = {(row["llm"], row["set"]): row for row in result["baselines"]}
    for row in result["cells"]:
        assert row["length"]["prefers_longer"]["value"] == 1.0
        assert row["length"]["accuracy_gold_longer"]["value"] == 1.0
        assert row["length"]["accuracy_gold_shorter"]["value"] == 0.0
        assert row["accuracy_pct"] == rules["rule/longer", row["set"]]["accuracy_pct"] == pytest.approx(200 / 3)
        assert rules["rule/shorter", row["set"]]["accuracy_pct"] == pytest.approx(100 / 3)
        assert rules["rule/first", row["set"]]["accuracy_pct"] == 50.0
    assert result["sets"]["Natural"] == {
        "n": 60, "prompts": 60, "gold_first": 30, "gold_longer": 40, "equal_length": 0
    }  # fmt: skip


def test_missing_verdicts_are_counted_and_bounded_or_wrong_as_published(bench: Path) -> None:
    def script(request: Request) -> str:
        silent = int(digest([request.key.subject], 8), 16) % 4 == 0
        return "Hm." if silent else noisy(1.0)(request)

    counted, published = planted(bench, script), planted(bench, script, policy="published")
    for ours, theirs in zip(counted["cells"], published["cells"], strict=True):
        silent = ours["outcomes"]["unparsed"]
        share = silent / 120
        assert 0 < share < 1 and ours["accuracy"]["missing"] == silent
        assert ours["accuracy_pct"] == 100.0 and ours["accuracy_bounds"] == pytest.approx([1 - share, 1.0])
        assert theirs["accuracy_pct"] == pytest.approx(100 * (1 - share))
        assert theirs["agreement_pct"] == 100.0  # two missing verdicts agree, as in the paper's code
        assert ours["agreement"]["n"] + ours["agreement"]["missing"] >= 60
        assert ours["consistency"]["missing"]["value"] == pytest.approx(share)


def test_probabilities_of_both_orders_are_averaged_in_log_odds(bench: Path) -> None:
    """Biased to the first place by 2 nats, right by 1: split in the verdicts, right once the orders are averaged."""

    def script(request: Request) -> dict[str, float]:
        return {"(a)": 2.0 + (1.0 if shown_good(request) else -1.0) - 10.0, "(b)": -10.0}

    for row in planted(bench, script)["cells"]:
        assert row["accuracy_pct"] == 50.0
        assert row["swap_averaged"]["value"] == 1.0


def test_judges_are_compared_in_pairs_and_corrected(bench: Path) -> None:
    models = {"good": Scripted(noisy(1.0), "good"), "poor": Scripted(noisy(0.5), "poor")}
    result = fast("llmbar", list(models), data=bench, models=models, against="poor:vanilla")
    rows = {(row["set"], row["judge"]): row["difference"] for row in result["differences"]}
    assert len(rows) == 2 * 4  # the other judge and three rules on each set
    for name in ("Natural", "Manual"):
        assert rows[name, "good:vanilla"]["low"] > 0.3 and rows[name, "good:vanilla"]["p"] < 0.05
        assert rows[name, "rule/first"]["p"] > 0.05
    with pytest.raises(UnknownName, match="Did you mean 'poor:vanilla'"):
        fast("llmbar", list(models), data=bench, models=models, against="por:vanilla")


def test_a_rule_that_is_asked_for_stands_once(bench: Path) -> None:
    result = fast("llmbar", ["rule/longer"], data=bench)
    assert {row["llm"] for row in result["cells"]} == {"rule/longer"}
    assert {row["llm"] for row in result["baselines"]} == {"rule/first", "rule/shorter"}


def test_limits_sets_and_seeds(bench: Path) -> None:
    result = planted(bench, noisy(0.7), limit=10, sets=["Manual"])
    assert [(row["set"], row["n"]) for row in result["cells"]] == [("Manual", 10)]
    assert planted(bench, noisy(0.7), seed=3) == planted(bench, noisy(0.7), seed=3)
    assert json.loads(json.dumps(result)) == result  # plain values, and no NaN
    assert "NaN" not in json.dumps(result)


def test_a_file_of_ones_own_is_a_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"q{i % 5}", "chosen": "GOOD" + "!" * i, "rejected": "bad" + "!" * i} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [row] = fast(str(path), ["rule/longer"])["cells"]
    assert (row["n"], row["accuracy_pct"]) == (20, 100.0)
    assert row["accuracy"]["clusters"] == 5  # resampled by prompt


def test_bad_input_is_named(tmp_path: Path, bench: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'llmbar'"):
        meta("lmbar", ["rule/first"])
    with pytest.raises(InputError, match="--data"):
        meta("llmbar", ["rule/first"])
    with pytest.raises(InputError, match="nothing to evaluate"):
        meta("llmbar", data=bench)
    with pytest.raises(InputError, match="no recordings"):
        meta("llmbar", data=bench, recordings=tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'counted'"):
        meta("llmbar", ["rule/first"], data=bench, policy="count")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no set named 'Zoo'"):
        meta("llmbar", ["rule/first"], data=bench, sets=["Zoo"])


def record(folder: Path, name: str, **more: Any) -> None:
    row = {"set": "Natural", "i": 0, "label": 1, "stages": [[["Output (a)", "stop"], ["Output (b)", "stop", None]]]}
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        file.write(json.dumps(row | more) + "\n")


def test_recordings_are_read_from_their_texts(tmp_path: Path, bench: Path) -> None:
    record(tmp_path, "m__Vanilla")
    record(tmp_path, "m__Debate")
    record(tmp_path, "m__Swap", stages=[[["Output (a) is better.", ""]] * 2, [["Output (b)", ""], ["Output (b)", ""]]])
    record(tmp_path, "m__Rating", stages=None, scores=[["7", ""], ["7", ""]])
    result = fast("llmbar", data=bench, recordings=tmp_path, parser="llmbar")
    said = {row["strategy"]: [row[key] for key in COUNTS] for row in result["cells"]}
    assert said == {"Vanilla": [1, 1, 1, 1, 1], "Swap": [1, 0, 1, 0, 0], "Rating": [1, 0, 1, 0, 0],
                    "Debate": [1, 1, 1, 1, 1]}  # fmt: skip
    [unknown] = result["skipped"]
    assert unknown["file"] == "m__Debate.jsonl.gz" and "not LLMBar's" in unknown["why"]
    record(tmp_path, "m__CoT")
    said = {rule: fast("llmbar", data=bench, recordings=tmp_path, parser="llmbar", parser_for={"m__CoT": rule})
            for rule in ("verdict", "phrase")}  # fmt: skip
    found = {rule: next(c for c in made["cells"] if c["strategy"] == "CoT") for rule, made in said.items()}
    assert [found[rule]["accuracy_pct"] for rule in ("verdict", "phrase")] == [100.0, 0.0]
    with pytest.raises(UnknownName, match="Did you mean 'phrase'"):
        fast("llmbar", data=bench, recordings=tmp_path, parser_for={"m__CoT": "phrases"})
    with pytest.raises(UnknownName, match="Did you mean 'm__CoT'"):
        fast("llmbar", data=bench, recordings=tmp_path, parser_for={"m__COT": "phrase"})
    [rating] = [r for r in read_recordings(tmp_path, "pippin-2")[0] if r.strategy == "Rating"]
    assert {str(rating.original[0].outcome), str(rating.swapped[0].outcome)} == {"tie"}


def test_recordings_must_fit_the_data(tmp_path: Path, bench: Path) -> None:
    record(tmp_path, "m__Vanilla", label=2)
    with pytest.raises(InputError, match="label is not the data's"):
        fast("llmbar", data=bench, recordings=tmp_path)
    record(tmp_path, "m__Vanilla", i=60)
    with pytest.raises(InputError, match="not in the data"):
        fast("llmbar", data=bench, recordings=tmp_path)
    record(tmp_path, "m__Vanilla", stages=[])
    with pytest.raises(InputError, match=r"m__Vanilla\.jsonl\.gz:1: not a row of a recording"):
        fast("llmbar", data=bench, recordings=tmp_path)


# ---------------------------------------------------------------- the real recordings


@cache
def fine(names: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / f"{name}.jsonl.gz").symlink_to(ROOT / "recordings" / f"{name}.jsonl.gz")
        return meta("llmbar", data=ROOT / "datasets", recordings=folder, parser="llmbar", resamples=2000)


@cache
def published() -> dict[str, Any]:
    return fast("llmbar", recordings=ROOT / "recordings", parser="llmbar", resamples=100)


@real
def test_all_published_cells() -> None:
    """Every number of the paper's statistics files, to the last bit."""
    expected = json.loads((ROOT / "expected.json").read_text())
    result = published()
    wanted = {
        (s, llm, name): cell for s, llms in expected.items() for llm, c in llms.items() for name, cell in c.items()
    }
    found = {(row["set"], row["llm"], row["strategy"]): row for row in result["cells"]}
    assert found.keys() == wanted.keys() and len(wanted) == 285 and not result["skipped"]
    for key, cell in wanted.items():
        assert {name: found[key][name] for name in cell} == cell, key
    assert {name for _, _, name in wanted} <= set(STRATEGIES)


@real
def test_winners_in_the_recordings_are_not_looked_at(tmp_path: Path) -> None:
    name = "ChatGPT__Vanilla.jsonl.gz"
    with gzip.open(ROOT / "recordings" / name, "rt", encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
        for row in rows:
            row["stages"] = [[[text, stop, None] for text, stop, _ in stage] for stage in row["stages"]]
            file.write(json.dumps(row | {"final": None}) + "\n")
    blind = fast("llmbar", data=ROOT / "datasets", recordings=tmp_path, parser="llmbar", resamples=100)
    seen = [row for row in published()["cells"] if (row["llm"], row["strategy"]) == ("ChatGPT", "Vanilla")]
    assert blind["cells"] == seen


@real
def test_trivial_rules_stand_beside_the_judges() -> None:
    """The figures for "longer" and "shorter" by characters were computed elsewhere from the same data."""
    rules = {(row["llm"], row["set"]): round(row["accuracy_pct"], 1) for row in published()["baselines"]}
    longer = {"Natural": 56.5, "Neighbor": 11.9, "GPTInst": 13.0, "GPTOut": 44.7, "Manual": 18.5}
    for name, value in longer.items():
        assert rules["rule/longer", name] == value
        assert rules["rule/shorter", name] == pytest.approx(100 - value, abs=0.1)
        assert rules["rule/first", name] == 50.0
    means = {(row["name"], row["judge"]): row["accuracy"]["value"] for row in published()["means"]}
    assert means["Adversarial", "rule/shorter"] == pytest.approx(0.780, abs=5e-4)
    assert means["Adversarial", "GPT-4:Vanilla_NoRules"] == pytest.approx(0.731, abs=5e-4)
    assert means["all five sets", "GPT-4:Metrics_Reference"] == pytest.approx(0.854, abs=5e-4)


@real
def test_consistency_position_and_length_of_the_recordings() -> None:
    cells = {(row["llm"], row["strategy"], row["set"]): row for row in published()["cells"]}
    for llm, strategy, triple in (
        ("GPT-4", "Vanilla_NoRules", (67.6, 11.0, 21.4)), ("ChatGPT", "CoT", (9.7, 47.0, 43.2)),
        ("Falcon", "CoT", (6.4, 88.5, 5.1)), ("ChatGPT-0301", "Metrics_Reference", (11.6, 65.0, 23.4)),
    ):  # fmt: skip
        shares = {
            part: 100 * np.mean([cells[llm, strategy, name]["consistency"][part]["value"] for name in ADVERSARIAL])
            for part in ("right", "split", "wrong", "missing")
        }  # the reference figures count pairs with a missing order as split
        assert [shares["right"], shares["split"] + shares["missing"], shares["wrong"]] == pytest.approx(
            triple, abs=0.06
        )
    natural = cells["LLaMA2", "Vanilla", "Natural"]["length"]
    pairs = json.loads((ROOT / "datasets" / "Natural" / "dataset.json").read_text())
    with gzip.open(ROOT / "recordings" / "LLaMA2__Vanilla.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        rows = [row for row in map(json.loads, lines) if row["set"] == "Natural"]
    credit: dict[bool, list[bool]] = {True: [], False: []}
    for pair, row in zip(pairs, rows, strict=True):
        longer = len(pair["output_1"].split()) - len(pair["output_2"].split())
        if longer:
            credit[(longer > 0) == (pair["label"] == 1)] += [winner == str(pair["label"]) for winner in row["final"]]
    assert natural["accuracy_gold_longer"]["value"] == pytest.approx(np.mean(credit[True]))
    assert natural["accuracy_gold_shorter"]["value"] == pytest.approx(np.mean(credit[False]))
    assert np.mean(credit[True]) - np.mean(credit[False]) > 0.25
    first = cells["Falcon", "CoT", "Natural"]["first_shown"]
    assert first["value"] > 0.8 and first["p"] < 0.05


@real
def test_a_better_parser_changes_only_what_was_ambiguous(tmp_path: Path) -> None:
    """ChatGPT's Swap_CoT, mean of five sets: 41.60 as published; 42.12 with last match wins and missing wrong."""

    def five(result: dict[str, Any], judge: str) -> float:
        return next(
            100 * m["accuracy"]["value"] for m in result["means"] if (m["name"], m["judge"]) == ("all five sets", judge)
        )

    same = [f"GPT-4__{name}" for name in ("Vanilla", "Vanilla_NoRules", "Reference", "Metrics_Reference")]
    for name in ("ChatGPT__Swap_CoT", *same):
        (tmp_path / f"{name}.jsonl.gz").symlink_to(ROOT / "recordings" / f"{name}.jsonl.gz")
    ours = fast("llmbar", data=ROOT / "datasets", recordings=tmp_path, policy="wrong", resamples=100)
    assert five(published(), "ChatGPT:Swap_CoT") == pytest.approx(41.60, abs=0.005)
    assert five(ours, "ChatGPT:Swap_CoT") == pytest.approx(42.12, abs=0.005)
    for name in same:
        assert five(ours, name.replace("__", ":")) == five(published(), name.replace("__", ":"))
    changed = Counter((c["judge"], c["published"], c["here"], c["conflict"]) for c in ours["parser_changes"])
    assert changed == {("ChatGPT:Swap_CoT", "first", "second", True): 31,
                       ("ChatGPT:Swap_CoT", "unparsed", "tie", False): 2}  # fmt: skip


@real
def test_bias_over_all_five_sets() -> None:
    """Reference: shares computed elsewhere from the same texts; length in words, 109 and 292 pairs."""
    pooled = {row["judge"]: row for row in published()["pooled"]}
    sets = published()["sets"].values()
    assert (sum(s["gold_longer"] for s in sets), sum(s["equal_length"] for s in sets)) == (109, 18)
    for judge, longer, shorter in (("GPT-4:Vanilla_NoRules", 88, 71), ("GPT-4:Vanilla", 88, 83),
                                   ("GPT-4:Metrics_Reference", 85, 87), ("ChatGPT:Vanilla", 61, 32),
                                   ("LLaMA2:Vanilla", 77, 31), ("Falcon:Vanilla", 67, 51)):  # fmt: skip
        row = pooled[judge]["length"]
        assert 100 * row["accuracy_gold_longer"]["value"] == pytest.approx(longer, abs=0.8)
        assert 100 * row["accuracy_gold_shorter"]["value"] == pytest.approx(shorter, abs=0.8)
    first = {judge: 100 * row["first_shown"]["value"] for judge, row in pooled.items() if ":" in judge}
    ranges = {"GPT-4": (47, 53), "ChatGPT": (54, 70), "ChatGPT-0301": (54, 76), "LLaMA2": (32, 67), "Falcon": (72, 93)}
    for llm, (low, high) in ranges.items():
        found = [value for judge, value in first.items() if judge.startswith(f"{llm}:") and "Rating" not in judge]
        assert (min(found), max(found)) == pytest.approx((low, high), abs=0.6), llm


@real
def test_intervals_within_monte_carlo_error() -> None:
    """Reference: a stratified paired bootstrap over pairs, made elsewhere."""
    names = [
        f"{llm}__{s}"
        for llm in ("GPT-4", "ChatGPT")
        for s in ("Vanilla", "Vanilla_NoRules", "CoT", "Metrics_Reference")
    ]
    means = {(m["name"], m["judge"]): m["accuracy"] for m in fine(tuple(names))["means"]}
    for judge, value, low, high in (("GPT-4:Vanilla_NoRules", 73.1, 68.3, 77.8), ("GPT-4:Vanilla", 80.8, 76.4, 85.1),
                                    ("GPT-4:Metrics_Reference", 82.8, 78.6, 86.7)):  # fmt: skip
        made = means["Adversarial", judge]
        assert 100 * made["value"] == pytest.approx(value, abs=0.05)
        assert [100 * made["low"], 100 * made["high"]] == pytest.approx([low, high], abs=0.6)
    gaps = {
        (r["llm"], r["strategy"]): r["difference"]
        for r in fine(tuple(names))["within_model"]
        if r["mean"] == "Adversarial"
    }
    for llm, strategy, value, low, high in (
        ("GPT-4", "CoT", -4.2, -7.1, -1.4), ("GPT-4", "Metrics_Reference", 2.0, -0.5, 4.6),
        ("ChatGPT", "CoT", 2.6, -0.9, 6.1), ("ChatGPT", "Metrics_Reference", 8.4, 4.7, 12.0),
    ):  # fmt: skip
        made = gaps[llm, strategy]
        assert 100 * made["value"] == pytest.approx(value, abs=0.06)
        assert [100 * made["low"], 100 * made["high"]] == pytest.approx([low, high], abs=0.6)


@real
def test_claims_of_the_paper() -> None:
    found = {c["claim"]: {row["llm"]: row["verdict"] for row in c["rows"]} for c in published()["claims"]}
    below = found["ChatGPT and LLaMA-2 are below chance on the adversarial sets"]
    assert below == dict.fromkeys(("ChatGPT", "ChatGPT-0301", "LLaMA2"), "holds")
    assert sorted(found["Chain of thought mostly hurts"].values()) == ["holds"] * 2 + ["not shown"] * 3
    together = next(c for c in published()["claims"] if "by ten points" in c["claim"])
    gain = next(row["estimate"]["value"] for row in together["rows"] if row["llm"] == "GPT-4")
    assert 100 * gain == pytest.approx(9.7, abs=0.05)


@real
def test_noise_floor_of_repeated_requests() -> None:
    """The same prompt three times: share of calls without a unanimous verdict, in percent."""
    rows = {row["judge"].partition(",")[0]: row for row in published()["noise"]}
    wanted = {"GPT-4": 4.9, "ChatGPT": 4.5, "ChatGPT-0301": 4.1, "LLaMA2": 0.0, "Falcon": 0.0}
    assert {llm: round(100 * row["not_unanimous"]["value"], 1) for llm, row in rows.items()} == wanted
    assert {row["calls"] for row in rows.values()} == {838}


@real
@pytest.mark.parametrize("strategy", ["Vanilla", "Vanilla_NoRules"])
def test_the_strategies_driven_by_the_recordings_give_the_same_cells(strategy: str) -> None:
    """A scripted model answers from the recording; prompts, engine, orders and statistics are the real ones."""
    from pippin.data.readers.llmbar import READER
    from pippin.judge.ask import Pair

    with gzip.open(ROOT / "recordings" / f"GPT-4__{strategy}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    positions: dict[str, int] = {}
    said: dict[tuple[str, str], str] = {}
    by_place = {(row["set"], row["i"]): row["stages"][0] for row in rows}
    for group in READER.read(ROOT / "datasets"):
        name = group.prompt.tags[0]
        index = positions[name] = positions.get(name, -1) + 1
        if (name, index) in by_place:
            shown = Pair(group.prompt, *group.responses).id
            for order, (text, *_) in zip(("first", "swapped"), by_place[name, index], strict=True):
                said[shown, order] = text
    model = Scripted(lambda request: said[request.key.subject, request.key.order], "GPT-4")
    given = {"data": ROOT / "datasets", "parser": "llmbar", "models": {"GPT-4": model}}
    result = fast("llmbar", [f"GPT-4:{strategy.lower()}"], resamples=100, **given)
    assert model.asked == 838
    recorded = [row for row in published()["cells"] if (row["llm"], row["strategy"]) == ("GPT-4", strategy)]
    assert [[row[k] for k in (*COUNTS, "accuracy_pct", "agreement_pct")] for row in result["cells"]] == [
        [row[k] for k in (*COUNTS, "accuracy_pct", "agreement_pct")] for row in recorded
    ]
