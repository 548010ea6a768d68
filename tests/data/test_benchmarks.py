"""Readers of labelled benchmarks: against the counts stated with the data, by hand-written rows, and by arithmetic."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pippin.core import catalog
from pippin.core.errors import InputError, MissingExtra
from pippin.core.types import Choice, Group, Note, Outcome, Ranking, Response, Score
from pippin.data.reader import Benchmark, Notes
from pippin.data.rows import write_rows

SHARED = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
LLMBAR, PRD, PAIRS = SHARED / "llmbar" / "datasets", SHARED / "prd", SHARED / "pairwise_human"
QA, TULU = SHARED / "preference" / "qa_feedback", SHARED / "preference" / "tulu_human_eval"
REAL = {
    "llmbar": LLMBAR, "fair_eval": LLMBAR, "llmeval2": LLMBAR, "mt_bench": LLMBAR, "prd": PRD, "autoj": PAIRS,
    "hhh": PAIRS, "qa_feedback": QA, "tulu_human": TULU, "counterfactual": LLMBAR,
}  # fmt: skip


def here(*paths: Path) -> pytest.MarkDecorator:
    missing = [str(path) for path in paths if not path.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not here (PIPPIN_SHARED): {', '.join(missing)}")


def read(name: str, path: Path) -> tuple[list[Group], Notes]:
    if name == "tulu_human" and path.suffix in ("", ".xlsx"):
        pytest.importorskip("openpyxl")
    notes = Notes()
    return list(catalog.load("readers", name).read(path, notes)), notes


def gold(group: Group) -> Choice:
    [label] = [j for j in group.judgements if isinstance(j, Choice) and j.by == "gold"]
    assert (label.first, label.second) == tuple(r.id for r in group.responses)
    return label


def better(group: Group) -> tuple[Response, Response]:
    """The better response and the worse one."""
    first, second = group.responses
    return (first, second) if gold(group).outcome is Outcome.FIRST else (second, first)


# ---------------------------------------------------------------- LLMBar and what has its form

TABLE = {  # set: pairs, label 1, label 2, gold is the longer one in words, equally long
    "Natural": (100, 42, 58, 52, 6), "Neighbor": (134, 75, 59, 16, 4), "GPTInst": (92, 45, 47, 13, 4),
    "GPTOut": (47, 22, 25, 20, 2), "Manual": (46, 22, 24, 8, 2), "FairEval": (66, 41, 25, 38, 0),
    "LLMEval2": (200, 92, 108, 110, 5), "MT-Bench": (200, 101, 99, 134, 5),
}  # fmt: skip


@here(LLMBAR)
@pytest.mark.parametrize(
    ("name", "sets"),
    [("llmbar", tuple(TABLE)), ("fair_eval", ("FairEval",)), ("llmeval2", ("LLMEval2",)), ("mt_bench", ("MT-Bench",))],
)
def test_counts_labels_and_lengths_are_those_stated(name: str, sets: tuple[str, ...]) -> None:
    groups, _ = read(name, LLMBAR)
    found: dict[str, list[int]] = {}
    for group in groups:
        good, bad = (len(r.text.split()) for r in better(group))
        row = found.setdefault(group.prompt.tags[0], [0] * 5)
        first = gold(group).outcome is Outcome.FIRST
        for column, here in enumerate((True, first, not first, good > bad, good == bad)):
            row[column] += here
    assert {key: tuple(row) for key, row in found.items()} == {key: TABLE[key] for key in sets}
    assert catalog.load("benchmarks", name).default_sets(found) == (sets[:5] if name == "llmbar" else sets)


@here(LLMBAR)
def test_what_is_odd_in_processed_sets_is_kept_and_counted() -> None:
    groups, notes = read("llmeval2", LLMBAR / "LLMEval2" / "dataset.json")
    assert groups[57].responses[0].text == groups[57].responses[1].text
    assert groups[57].responses[0].id != groups[57].responses[1].id
    assert groups[169].responses[1].text.strip() == ""
    assert notes["pairs of LLMEval2 with two equal outputs"] == notes["pairs of LLMEval2 with an empty output"] == 1
    groups, _ = read("mt_bench", LLMBAR.parent)
    assert len({group.prompt.id for group in groups}) == 75
    groups, _ = read("fair_eval", LLMBAR / "FairEval")
    assert {tuple(r.by for r in group.responses) for group in groups} == {("chatgpt", "vicuna-13b")}


def write_set(folder: Path, n: int = 1) -> Path:
    rows = [{"input": f"ask {i}", "output_1": "good", "output_2": "bad", "label": 1} for i in range(n)]
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(rows))
    return folder


def test_case_study_and_processed_sets_stand_under_their_own_names(tmp_path: Path) -> None:
    for name in (
        "CaseStudy/Base-9",
        "CaseStudy/Normal",
        "CaseStudy/Constraint",
        "Processed/LLMEval^2",
        "LLMBar/Manual",
    ):
        write_set(tmp_path / name)
    groups, _ = read("llmbar", tmp_path)
    found = [group.prompt.tags[0] for group in groups]
    assert found == ["Manual", "Normal", "Constraint", "Base_9", "LLMEval2"]
    benchmark = catalog.load("benchmarks", "llmbar")
    assert benchmark.default_sets(found) == ("Manual",)
    assert benchmark.default_sets(found[1:4]) == ("Normal", "Constraint", "Base_9")  # nothing else is there
    assert [g.prompt.tags[0] for g in read("llmeval2", tmp_path)[0]] == ["LLMEval2"]
    with pytest.raises(InputError, match="no data of FairEval"):
        read("fair_eval", tmp_path)
    with pytest.raises(InputError, match="no data of FairEval"):  # a file of another known set is not taken for it
        read("fair_eval", tmp_path / "LLMBar" / "Manual" / "dataset.json")
    write_set(tmp_path / "again" / "Base_9")
    with pytest.raises(InputError, match="a second file of the same set"):
        read("llmbar", tmp_path)


# ---------------------------------------------------------------- votes of many judges


@here(PRD)
def test_prd_holds_every_vote_and_gives_the_published_win_rates() -> None:
    groups, notes = read("prd", PRD)
    vicuna = [g for g in groups if g.prompt.tags[0] == "vicuna80"]
    assert len(vicuna) == 80 and all(len(g.responses) == 5 for g in vicuna)
    assert Counter(g.prompt.tags[1] for g in vicuna) == Counter(
        {"coding": 7, "math": 3} | dict.fromkeys(("generic", "knowledge", "roleplay", "common-sense", "fermi",
                                                  "counterfactual", "writing"), 10)
    )  # fmt: skip
    votes = [j for g in vicuna for j in g.judgements if isinstance(j, Choice)]
    left = notes["votes left out: one of the two answers is not in the data"]
    assert notes["votes read"] == 15040 == len(votes) + left and left == 5280
    by = Counter(v.by for v in votes)
    models = ("gpt-4", "gpt-3.5", "bard", "claude", "vicuna")
    assert {name: by[name] for name in models} == dict.fromkeys(models, 1600)
    assert by["human/1"] + by["human/2"] + by["human/3"] == 1760 and by.total() == 1760 + 8000
    expected = json.loads((PRD / "expected.json").read_text())
    author = {r.id: r.by for g in vicuna for r in g.responses}
    for judge in ("gpt-4", "gpt-3.5"):
        credit: dict[str, list[float]] = defaultdict(list)
        for vote in votes:
            if vote.by == judge:
                for response in (vote.first, vote.second):
                    credit[author[response]].append(vote.credit(response) or 0.0)
        rates = {model: sum(values) / len(values) for model, values in credit.items()}
        assert rates == pytest.approx(expected["published_notebook"]["winrate"][judge], abs=1e-12)
    for judge, stated in expected["ours"]["swap_consistent_and_first_second_tie_rates"].items():
        said = {(v.first, v.second): v.outcome for v in votes if v.by == judge}
        same = sum(outcome is said[two, one].swap() for (one, two), outcome in said.items()) / len(said)
        rates = [same, *(sum(o == w for o in said.values()) / len(said) for w in ("first", "second", "tie"))]
        assert rates == pytest.approx(stated, abs=1e-12)


@here(PRD)
def test_prd_experts_have_gold_where_they_have_a_majority() -> None:
    groups, notes = read("prd", PRD / "lfqa_experts.jsonl.gz")
    with gzip.open(PRD / "lfqa_experts.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        stated = Counter((row := json.loads(line))["overall_preference"] for line in lines)
    people = [j for g in groups for j in g.judgements if isinstance(j, Choice) and j.by != "gold"]
    assert len(groups) == 140 and {g.prompt.tags for g in groups} == {("lfqa",)}
    assert Counter(j.outcome for j in people) == {Outcome.FIRST: stated[-1], Outcome.SECOND: stated[1]}
    assert sum(isinstance(j, Note) for g in groups for j in g.judgements) <= len(people) == sum(stated.values()) == 260
    for group in groups:
        said = Counter(j.outcome for j in group.judgements if isinstance(j, Choice) and j.by != "gold")
        labels = [j for j in group.judgements if isinstance(j, Choice) and j.by == "gold"]
        if said[Outcome.FIRST] == said[Outcome.SECOND]:
            assert labels == []
        else:
            assert gold(group).outcome is max(said, key=lambda outcome: said[outcome])
    assert notes["pairs of lfqa without gold: the experts are split"] == 11
    assert row["answer_a_type"] in {r.by for g in groups for r in g.responses} == {"human", "machine"}


@here(QA)
def test_qa_feedback_labels_every_pair_once() -> None:
    groups, notes = read("qa_feedback", QA)
    labels = [j for g in groups for j in g.judgements if isinstance(j, Choice)]
    count = Counter(j.outcome for j in labels)
    assert count == {Outcome.FIRST: 685, Outcome.SECOND: 428, Outcome.TIE: 141}
    assert round(685 / (685 + 428), 2) == 0.62
    rows = json.loads(gzip.decompress((QA / "dev_feedback.json.gz").read_bytes()))
    for row, group in zip(rows, groups, strict=True):
        assert [r.text for r in group.responses] == [row[f"prediction {i}"] for i in range(1, 5)]
        assert all(text in group.prompt.text for passage in row["passages"] for text in passage)
        assert group.prompt.text.endswith(row["question"])
        assert group.prompt.reference == row["gold"]
        ids = [r.id for r in group.responses]
        assert [(j.first, j.second) for j in group.judgements if isinstance(j, Choice)] == list(combinations(ids, 2))
    assert notes["faulty spans of the first answer left out"] == 404 + 68 + 59 + 58 + 7


@here(TULU)
def test_tulu_items_join_the_instances_and_keep_who_saw_what() -> None:
    groups, notes = read("tulu_human", TULU)
    with gzip.open(TULU / "eval_instances_tulu_1.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    instances = Counter((r["prompt"], frozenset((c["model"], c["completion"]) for c in r["completions"])) for r in rows)
    assert Counter((g.prompt.text, frozenset((r.by, r.text) for r in g.responses)) for g in groups) == instances
    assert len(groups) == 642 == notes["items"]
    said = [[j for j in g.judgements if isinstance(j, Choice)] for g in groups]
    assert sum(len(choices) > 1 for choices in said) == 78 == notes["items judged more than once"]
    choices = [choice for item in said for choice in item]
    assert Counter((c.outcome, c.strength) for c in choices) == {
        (Outcome.TIE, None): 229, (Outcome.FIRST, 1.0): 156, (Outcome.SECOND, 1.0): 131, (Outcome.FIRST, 2.0): 122,
        (Outcome.SECOND, 2.0): 101,
    }  # fmt: skip
    assert all(c.by.startswith("human/") for c in choices) and len({c.by for c in choices}) == 16
    author = {r.id: r.by for g in groups for r in g.responses}
    shown = Counter(author[c.first] for c in choices)  # the column model_a of the workbook
    assert shown == {"tulu_65B": 397, "chatgpt": 137, "tulu_human_only_65B": 105, "tulu_7B": 100}
    scores = [j for g in groups for j in g.judgements if isinstance(j, Score)]
    assert Counter(s.value for s in scores) == {1.0: 587 + 591, 0.0: 152 + 148}
    assert {(s.criterion, s.scale) for s in scores} == {("acceptable", (0.0, 1.0))}


@here(PAIRS)
def test_autoj_and_hhh() -> None:
    groups, _ = read("autoj", PAIRS)
    assert Counter(gold(g).outcome for g in groups) == {Outcome.FIRST: 520, Outcome.SECOND: 499, Outcome.TIE: 373}
    assert {g.prompt.tags[0] for g in groups} == {"autoj"}
    assert (
        set(Counter(g.prompt.tags[1] for g in groups).values()) == {24} and len({g.prompt.tags for g in groups}) == 58
    )
    groups, notes = read("hhh", PAIRS)
    assert Counter(g.prompt.tags[0] for g in groups) == {"honest": 61, "helpful": 59, "harmless": 58, "other": 43}
    assert notes["prompts of several turns"] == 41 == sum(len(g.prompt.messages) > 1 for g in groups)
    for group in groups:
        roles = [m.role for m in group.prompt.messages]
        assert roles == [("user", "assistant")[i % 2] for i in range(len(roles))] and roles[-1] == "user"
        assert all(m.content for m in group.prompt.messages)


@pytest.mark.parametrize("name", REAL)
def test_a_reader_gives_the_same_twice(name: str) -> None:
    if not REAL[name].exists():
        pytest.skip("the data are not here (PIPPIN_SHARED)")
    one, two = read(name, REAL[name]), read(name, REAL[name])
    assert one == two and one[0]


# ---------------------------------------------------------------- documented formats, by hand

REWARD_BENCH = {
    "id": "7", "prompt": "Name a colour.", "chosen": ["Red.", "Blue."], "rejected": ["Seven.", "Red."],
    "num_correct": 2, "num_incorrect": 2, "total_completions": 4, "models": ["m1", "m2", "m3", "m4"],
    "subset": "Ties", "additional_metadata": {"category": None},
}  # fmt: skip
JUDGE_BENCH = {
    "pair_id": "p", "original_id": 3, "source": "mmlu-pro-health", "question": "Which?", "response_model": "gpt",
    "response_A": "A.", "response_B": "A.", "label": "B>A",
}  # fmt: skip
AUTOJ = {"id": 0, "scenario": "s", "label": "tie", "prompt": "p", "output_1": "a", "output_2": "b"}
HHH = {"source": "other", "instruction": "p", "chosen": "a", "rejected": "b"}
QA_ROW = {"question": "q", "gold": "g", "passages": [["t", "s"]], "preference": [0] * 6} | {
    f"prediction {i}": "x" for i in range(1, 5)
}
TULU_ROW = {
    "prompt": "p", "model_a": "m", "model_b": "n", "completion_a": "a", "completion_b": "b", "preference": "tie",
    "evaluator": "zz", "completion_a_is_acceptable": "yes", "completion_b_is_acceptable": "no",
}  # fmt: skip
LFQA = {"question": "q", "answer_a": "a", "answer_b": "b", "overall_preference": 1}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_reward_bench_2_ranks_the_good_before_the_others(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / f"test{suffix}", [REWARD_BENCH, REWARD_BENCH | {"id": "8", "models": ["m1"]}])
    (group, other), notes = read("reward_bench_2", tmp_path)
    assert group.prompt.tags == ("Ties", "7")
    assert [(r.text, r.by) for r in group.responses] == [
        ("Red.", "m1"),
        ("Blue.", "m2"),
        ("Seven.", "m3"),
        ("Red.", "m4"),
    ]
    ids = tuple(r.id for r in group.responses)
    assert group.judgements == (Ranking(group.prompt.id, ids, (1, 1, 2, 2), "gold"),)
    assert [r.by for r in other.responses] == [""] * 4 and len({r.id for r in other.responses}) == 4
    assert notes["prompts whose list of models does not fit: authors unknown"] == 1


def test_judge_bench_names_sets_by_source(tmp_path: Path) -> None:
    sources = ("mmlu-pro-computer science", "livebench-reasoning", "livebench-math", "livecodebench", "new")
    write_rows(tmp_path / "d.jsonl", [JUDGE_BENCH | {"source": source} for source in sources])
    groups, notes = read("judge_bench", tmp_path / "d.jsonl")
    sets = ("knowledge", "reasoning", "math", "coding", "new")
    assert [g.prompt.tags for g in groups] == list(zip(sets, sources, strict=True))
    assert gold(groups[0]).outcome is Outcome.SECOND and [r.by for r in groups[0].responses] == ["gpt", "gpt"]
    assert groups[0].responses[0].id != groups[0].responses[1].id
    assert notes["pairs of answers by gpt"] == 5


@pytest.mark.parametrize(
    ("name", "row", "change", "said"),
    [
        ("reward_bench_2", REWARD_BENCH, {"chosen": "Red."}, "not a row of RewardBench 2"),
        ("reward_bench_2", REWARD_BENCH, {"num_correct": 1}, "'num_correct' does not fit"),
        ("reward_bench_2", REWARD_BENCH, {"rejected": []}, "not a row of RewardBench 2"),
        ("judge_bench", JUDGE_BENCH, {"label": "A=B"}, "no label in column 'label'"),
        ("judge_bench", JUDGE_BENCH, {"response_B": None}, "not a row of JudgeBench"),
        ("autoj", AUTOJ, {"label": "0"}, "no label in column 'label'"),
        ("hhh", HHH, {"rejected": 3}, "not a row of HHH"),
        ("qa_feedback", QA_ROW, {"preference": [1]}, "expected passages; six labels"),
        ("qa_feedback", QA_ROW, {"preference": [3] * 6}, "no label in column 'preference'"),
        ("tulu_human", TULU_ROW, {"preference": "better"}, "no label in column 'preference'"),
        ("tulu_human", TULU_ROW, {"completion_b_is_acceptable": "perhaps"}, "completion_b_is_acceptable"),
        ("prd", LFQA, {"overall_preference": 0}, "no label in column 'overall_preference'"),
        ("counterfactual", {"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": None}, "without a prompt"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_line(
    tmp_path: Path, name: str, row: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [row])
    assert read(name, path)[0]
    write_rows(path, [row, row | change])
    with pytest.raises(InputError, match=r"rows\.jsonl:2: ") as caught:
        read(name, path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_reads_as_a_workbook_does(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(TULU_ROW))
    for row in (TULU_ROW, dict.fromkeys(TULU_ROW), TULU_ROW | {"evaluator": "yy", "completion_b_is_acceptable": None}):
        book.active.append(list(row.values()))
    book.save(tmp_path / "t.xlsx")
    (group,), notes = read("tulu_human", tmp_path)
    assert Counter(j.by for j in group.judgements) == {"human/zz": 3, "human/yy": 2}
    assert notes["empty rows left out"] == notes["answers without a word on whether they are acceptable"] == 1
    write_rows(tmp_path / "t.jsonl", [TULU_ROW, TULU_ROW | {"evaluator": "yy", "completion_b_is_acceptable": None}])
    assert read("tulu_human", tmp_path / "t.jsonl")[0] == [group]
    (tmp_path / "t.xlsx").write_bytes(b"PK no")
    with pytest.raises(InputError, match=r"t\.xlsx: not an Excel workbook"):
        read("tulu_human", tmp_path)


def test_a_workbook_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(MissingExtra, match=re.escape("pippin[xlsx]")):
        list(catalog.load("readers", "tulu_human").read(tmp_path))


def test_benchmarks_say_what_a_reader_must_know() -> None:
    for name in set(REAL) | {"reward_bench_2", "judge_bench"}:
        benchmark = catalog.load("benchmarks", name)
        assert isinstance(benchmark, Benchmark) and benchmark.sets and benchmark.warnings, name
        assert all(set(sets) <= set(benchmark.sets) for _, sets in benchmark.means)
    assert catalog.load("benchmarks", "judge_bench").hub == "ScalerLab/JudgeBench"
    assert catalog.load("benchmarks", "reward_bench_2").hub == "allenai/reward-bench-2"
