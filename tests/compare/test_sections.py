"""The parts of the page that are sentences and a table: what they say, and when they say nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_results.py

from report_results import full_results, inferred_results, large_results

from pippin.compare import figures, sections, wording
from pippin.compare.headline import headline


@pytest.fixture(scope="module")
def results():
    return {**full_results(), **inferred_results()}


def words(block) -> str:
    return " ".join(block.sentences)


def lines(block) -> list[list[str]]:
    return [[cell.line for cell in row] for row in block.rows]


def test_nothing_is_said_without_its_key():
    assert sections.inference({}) == [] and sections.books({}) == [] and sections.manifests({}) is None
    assert sections.inference({"looks": None, "equivalence": None, "claims": [], "effects": []}) == []
    assert sections.standing({}) == []


def test_both_scopes_of_a_claim_stand_in_one_row(results):
    block = sections.claims(results)
    row = next(row for row in lines(block) if row[0] == "sft_filtered")
    assert row[3:9] == [
        "+0.040 [+0.010, +0.070]", "0.004", "better", "+0.040 [\u22120.020, +0.100]", "0.004", "cannot tell",
    ]  # fmt: skip
    assert len(block.columns) == len(row)
    runs = {"claims": [c for c in results["claims"] if c["scope"] == "these runs"]}
    assert sections.claims(runs).rows == () and "five training seeds" in words(sections.claims(runs))


def test_a_part_of_the_variance_that_no_run_tells_is_left_out(results):
    held = results["variance"][0]
    part = {**held, "components": {**held["components"], "judge": None}, "shares": {**held["shares"], "judge": None}}
    titles = [title for title, _ in sections.variance({"variance": [part]}).columns]
    assert titles[2:-2] == ["prompt", "seed", "prompt x seed", "sample"]


@pytest.mark.parametrize(
    ("seen", "said"), [(True, "so it was not frozen before"), (False, "No result on its test prompts was in the store")]
)
def test_a_frozen_plan_says_when_and_what_changed(results, seen, said):
    block = sections.frozen({"frozen": {**results["frozen"], "data_seen_before": seen}})
    assert said in words(block) and "2 of its fields changed since" in words(block)
    assert lines(block) == [["seeds", "0, 1", "0, 1, 2"], ["settings.<i>", "not set", "0.1"]]
    unchanged = sections.frozen({"frozen": {**results["frozen"], "changed": []}})
    assert "Nothing of it changed since" in words(unchanged) and unchanged.rows == ()


def test_looks_say_where_the_study_stopped_and_why(results):
    block = sections.looks(results)
    assert "It stopped at 8 seeds: every arm is decided." in words(block)
    assert [row[0] for row in lines(block)] == ["5 seeds", "8 seeds"]


def test_costs_stand_as_planned_and_as_used(results):
    held = {row[0]: row[1:] for row in lines(sections.estimate(results))}
    assert held["cpu seconds"] == ["900 [640, 1,300]", "872"] and held["money"] == ["not known", "\u2013"]


def test_a_manifest_shows_first_what_not_all_arms_share(results):
    rows = lines(sections.manifests(results))
    assert (
        rows[0][0] == "data (preferences)" and rows[0][2] == "3 values" and "0000: base, best_of_n, ppo;" in rows[0][1]
    )
    assert ["base", "world/base", "all arms"] in rows[1:]
    less = {**results["manifests"], "sft": {"base": "world/base"}}
    rows = lines(sections.manifests({**results, "manifests": less}))
    assert next(row for row in rows if row[0] == "template")[2] == "some arms"


def test_standings_count_every_pair_once_from_both_sides():
    results = large_results(arms=14, seeds=1)
    for block in sections.standing(results):
        counts = [[int(cell.text) for cell in row[1:4]] for row in block.rows]
        assert len(counts) == 14 and all(sum(row) == 13 for row in counts)
        assert sum(row[0] for row in counts) == sum(row[2] for row in counts)
        assert counts[0][2] == 0, "the first arm is clearly worse than none"


def test_the_headline_counts_many_arms_and_repeats_what_was_said_of_few(results):
    assert headline(results).startswith("Highest is best_of_n, +0.1")
    assert "4 of 7 arms are better than sft, 2 worse, 1 cannot be told from it (640 prompts, 2 seeds)." in headline(
        results
    )
    few = {**results, "arms": [r for r in results["arms"] if r["name"] in ("sft", "ppo")],
           "pooled": [r for r in results["pooled"] if r["name"] in ("sft", "ppo")]}  # fmt: skip
    assert headline(few) == results["decision"]
    lost = {**results, "diverged": [{"arm": "ppo", "seed": 0, "why": "x"}, {"arm": "ppo", "seed": 1, "why": "x"}]}
    assert headline(lost).endswith("1 arm diverged in some seeds, which these figures leave out.")
    assert headline({}) == "No decision was stated."


def test_a_baseline_for_every_value_of_an_axis_is_no_difference_of_its_own(results):
    rows = [
        {"name": f"{m}/{d}", "baseline": f"sft/{d}", "decoding": "greedy", "gold_mean": 0.5, "n": 10,
         "delta_vs_sft": 0.1 if m == "dpo" else None, "delta_low": 0.05, "delta_high": 0.15, "p_holm": 0.01}
        for m in ("sft", "dpo") for d in ("a", "b")
    ]  # fmt: skip
    found = figures.forest_figure({"baseline": "sft", "arms": rows, "metric": {"name": "gold"}})
    assert str(found[0].drawings[0]).count("<polygon") == 2


def test_long_learning_curves_keep_their_last_step():
    run = {"arm": "a", "seed": 0, "metric": "loss", "points": [[s, 1.0] for s in range(1001)]}
    drawing = str(figures.learning_figures({"learning": [run]})[0].drawings[0])
    line = drawing[drawing.index("<polyline") :]
    corners = line[line.index('points="') + 8 : line.index('" class')].split()
    assert 100 <= len(corners) <= 121 and float(corners[-1].split(",")[0]) == 176.0


@pytest.mark.parametrize(
    ("count", "said"),
    [(3, "a0, a1, a2"), (8, "a0, a1, a2, a3, a4, a5, a6, a7"), (9, "a0, a1, a2, a3, a4, a5, a6 and 2 more")],
)
def test_of_many_names_the_rest_is_counted(count, said):
    assert wording.few([f"a{i}" for i in range(count)]) == said
