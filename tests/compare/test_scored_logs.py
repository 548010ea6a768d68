"""Logs of Inspect and lm-evaluation-harness as recorded scores."""

from __future__ import annotations

import json
import math

import pytest

from pippin.compare.scored import Key, compare_scored
from pippin.compare.scored_logs import Choice, read_scored
from pippin.core.errors import InputError, UnknownName
from pippin.data.eval_logs import harness_log, inspect_logs, kind_of

from .scored_files import TIME, inspect_log, write_harness, write_inspect


def rows(values, epochs: int = 1, name: str = "match", **more):
    return [
        {"id": k, "epoch": e + 1, "scores": {name: value}, **more}
        for k, value in enumerate(values)
        for e in range(epochs)
    ]


@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_grades_are_numbers_as_in_inspect(tmp_path, suffix):
    values = ["C", "I", "P", "N", 0.25, True, "yes", "no", "0.5", float("nan"), "a colour", None]
    log = write_inspect(tmp_path / f"a{suffix}", inspect_log(rows(values), stated={"match": 0.472}))
    [read] = read_scored([str(log)])
    numbers = [read.samples[Key("", str(k))].scores[0] for k in range(len(values))]
    assert numbers[:9] == [1, 0, 0.5, 0, 0.25, 1, 1, 0, 0.5]
    assert all(math.isnan(n) for n in numbers[9:])
    assert (read.name, read.metric) == ("mockllm/a", "match")


def test_the_same_log_in_both_forms_says_the_same(tmp_path):
    log = inspect_log(rows(["C", "I", "C"], 2))
    one, two = (read_scored([str(write_inspect(tmp_path / name, log))]) for name in ("a.json", "a.eval"))
    assert one == two
    assert [len(s.scores) for s in one[0].samples.values()] == [2, 2, 2]
    [whole] = inspect_logs(tmp_path / "a.eval", whole=True)
    assert len(whole.samples) == 6 and all("events" in s for s in whole.samples)


def test_what_failed_or_never_ran_is_missing_and_not_wrong(tmp_path):
    samples = [*rows(["C", "I"]), {"id": 2, "epoch": 1, "error": "gone"}]
    log = write_inspect(tmp_path / "a.eval", inspect_log(samples, status="error", ids=[0, 1, 2, 3]))
    told = compare_scored(read_scored([str(log)]))
    [level] = told.levels
    assert level.mean and (level.samples, level.missing, level.mean.value) == (4, 2, 0.5)
    assert told.notes == ("a.eval: the evaluation's status is error",)


def test_a_log_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    log = write_inspect(tmp_path / "a.eval", inspect_log(rows(["C", "I", "C"])), cut=True)
    [read] = read_scored([str(log)])
    assert len(read.samples) == 3 and read.notes == ("a.eval: the evaluation's status is cut off",)


def test_scores_with_several_values_have_a_name_each(tmp_path):
    log = write_inspect(tmp_path / "a.eval", inspect_log(rows([{"style": 3, "fact": "C"}], name="judge")))
    assert read_scored([str(log)], Choice("judge/fact"))[0].samples[Key("", "0")].scores == (1.0,)
    with pytest.raises(UnknownName, match=r"judge/style"):
        read_scored([str(log)], Choice("judge/styel"))


def test_the_headline_score_is_the_first_choice(tmp_path):
    both = [{"id": 0, "epoch": 1, "scores": {"a": 0, "z": 1}}]
    log = write_inspect(tmp_path / "a.json", inspect_log(both, stated={"z": 1.0}))
    assert read_scored([str(log)])[0].metric == "z"


def test_a_folder_of_logs_is_one_model_on_several_tasks(tmp_path):
    for model in ("a", "b"):
        (tmp_path / model).mkdir()
        for task, value in (("x", "C"), ("y", "I" if model == "a" else "C")):
            log = inspect_log(rows([value] * 8), model=f"m/{model}", task=task)
            write_inspect(tmp_path / model / f"{task}.eval", log)
    told = compare_scored(read_scored([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert [(c.part, c.delta and c.delta.value) for c in told.contrasts] == [("all tasks", 0.5), ("x", 0.0), ("y", 1.0)]
    write_inspect(tmp_path / "a" / "x2.eval", inspect_log(rows(["C"]), task="x"))
    with pytest.raises(InputError, match="several logs of one task"):
        read_scored([str(tmp_path / "a")])


def test_variants_of_one_task_are_joined_by_sample_and_other_questions_are_not(tmp_path):
    one = inspect_log(rows(["C", "I", "C"]), task="plain")
    two = inspect_log([*rows(["C", "C"]), {"id": 2, "epoch": 1, "input": "another", "scores": {"match": "C"}}],
                      task="cot", model="mockllm/b")  # fmt: skip
    paths = [str(write_inspect(tmp_path / f"{n}.eval", log)) for n, log in enumerate((one, two))]
    [contrast] = compare_scored(read_scored(paths)).contrasts
    assert contrast.delta and (contrast.delta.n, contrast.delta.value, contrast.changed) == (2, 0.5, 1)


def test_clusters_come_from_the_samples_metadata(tmp_path):
    samples = [{**row, "metadata": {"passage": row["id"] // 2}} for row in rows(["C"] * 6)]
    log = str(write_inspect(tmp_path / "a.eval", inspect_log(samples)))
    assert {s.cluster for s in read_scored([log], Choice(cluster="passage"))[0].samples.values()} == {"0", "1", "2"}
    with pytest.raises(InputError, match="without this field"):
        read_scored([log], Choice(cluster="chapter"))


def test_harness_tasks_groups_and_their_weights(tmp_path):
    tasks = {"s": [{"score": v} for v in (1, 0, 1, 1)], "l": [{"score": v} for v in [0, 1] * 20]}
    by_samples, even = 23 / 44, (3 / 4 + 1 / 2) / 2
    for name, stated in (("weighed", by_samples), ("even", even)):
        folder = write_harness(tmp_path / name, tasks, groups={"g": ["s", "l"]},
                               stated={"g": stated, "s": 3 / 4, "l": 1 / 2})  # fmt: skip
        told = compare_scored(read_scored([str(folder)]))
        assert told.notes == ()
        means = {level.part: level.mean.value for level in told.levels if level.mean}
        assert means == pytest.approx({"g": stated, "l": 1 / 2, "s": 3 / 4})


def test_harness_models_are_joined_by_document(tmp_path):
    a = write_harness(tmp_path / "a", {"t": [{"score": v} for v in (1, 0, 0, 1)]}, model="one")
    other = {"question": "another"}
    b = write_harness(tmp_path / "b", {"t": [{"score": 1}, {"score": 1}, {"score": 1, "doc": other}]}, model="two")
    [contrast] = compare_scored(read_scored([str(a), str(b)])).contrasts
    assert (contrast.name, contrast.changed, contrast.alone) == ("two", 1, (0, 1))
    assert contrast.delta and (contrast.delta.n, contrast.delta.value) == (2, 0.5)


def test_harness_filters_and_metrics_by_name(tmp_path):
    both = [{"score": {"exact_match": v}, "filter": f} for v, f in ((0, "strict"), (1, "flexible"))]
    folder = str(write_harness(tmp_path / "a", {"t": both}, metric="exact_match"))
    assert read_scored([folder])[0].metric == "exact_match,strict"
    [read] = read_scored([folder], Choice("exact_match,flexible"))
    assert [s.scores for s in read.samples.values()] == [(1.0,)]


def test_harness_metrics_that_are_no_mean_are_not_averaged(tmp_path):
    folder = write_harness(tmp_path / "a", {"t": [{"score": -3.0}]}, metric="perplexity", aggregation="perplexity")
    with pytest.raises(InputError, match="no score that is a mean over samples"):
        read_scored([str(folder)])


def test_harness_direction_and_older_names(tmp_path):
    folder = write_harness(tmp_path / "a", {"t": [{"score": 0.5}, {"score": 0.25}]}, metric="brier", higher=False)
    assert not read_scored([str(folder)])[0].higher_is_better
    for file in folder.iterdir():
        file.rename(file.with_name(file.name.replace(f"_{TIME}", "")))
    assert kind_of(folder) == "lm_eval" and set(harness_log(folder).samples) == {"t"}


def test_two_models_of_one_name_are_told_apart_by_their_files(tmp_path):
    log = inspect_log(rows(["C", "I"]))
    paths = [str(write_inspect(tmp_path / name, log)) for name in ("a.eval", "b.json")]
    assert [read.name for read in read_scored(paths)] == ["a.eval", "b.json"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: f / "nothing", "no log of Inspect"),
        (lambda f: write_inspect(f / "a.json", inspect_log([])), "without samples"),
        (lambda f: (f / "a.eval").write_bytes(b"PK\3\4 not a zip") and f / "a.eval", "damaged"),
        (lambda f: write_harness(f / "r", {}, stated={"t": 1.0}), "results without samples.*--log_samples"),
        (lambda f: (f / f"samples_t_{TIME}.jsonl").write_text("{]\n") and f / f"samples_t_{TIME}.jsonl", "not JSON"),
        (lambda f: write_harness(f / "two" / "x", {"t": [{"score": 1}]}) and
         write_harness(f / "two" / "y", {"t": [{"score": 1}]}).parent, "several runs"),
    ],
)  # fmt: skip
def test_bad_logs_are_named_in_one_line(tmp_path, make, says):
    with pytest.raises(InputError, match=says) as caught:
        read_scored([str(make(tmp_path))])
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_logs_of_two_programs_are_not_compared(tmp_path):
    inspect = write_inspect(tmp_path / "a.eval", inspect_log(rows(["C"])))
    with pytest.raises(InputError, match="two programs"):
        read_scored([str(inspect), str(write_harness(tmp_path / "b", {"t": [{"score": 1}]}))])


def test_the_command_says_which_is_better_and_gates(tmp_path, monkeypatch, capsys):
    from pippin.app import cli

    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "home"))
    wrong = inspect_log(rows(["C"] * 10 + ["I"] * 30), model="mockllm/a")
    right = inspect_log(rows(["C"] * 30 + ["I"] * 10), model="mockllm/b\x1b[2J")
    paths = [str(write_inspect(tmp_path / f"{n}.eval", log)) for n, log in enumerate((wrong, right))]
    assert cli.run(["logs", *paths, "--gate", "delta_low > 0 and p_holm < 0.01"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mockllm/b") and "less mockllm/a: +0.500 [" in said.splitlines()[0]
    assert said.splitlines()[0].endswith(": better") and "\x1b" not in said
    assert cli.run(["logs", *paths, "--baseline", paths[1], "--gate", "delta_low > 0"]) == 4
    capsys.readouterr()
    for gate, given in (("delta_lo > 0", paths), ("delta_low >", paths), ("delta > 0", paths[:1])):
        assert cli.run(["logs", *given, "--gate", gate]) == 2
    capsys.readouterr()
    assert cli.run(["logs", *paths, "--json", "-"]) == 0
    row = json.loads(capsys.readouterr().out)
    [contrast] = row["contrasts"]
    assert contrast["mcnemar"]["only_a"] == 20 and contrast["delta"]["clusters"] == 40


def test_what_was_asked_otherwise_is_said(tmp_path):
    one = inspect_log(rows(["C", "I", "C"]))
    two = inspect_log(rows(["C", "C", "C"]), model="mockllm/b")
    one["plan"] = {"steps": [{"solver": "generate"}], "config": {"temperature": 0.0}}
    two["plan"] = {"steps": [{"solver": "chain_of_thought"}, {"solver": "generate"}], "config": {"temperature": 0.0}}
    two["eval"]["model_generate_config"] = {"temperature": 0.7, "max_connections": 3}
    paths = [str(write_inspect(tmp_path / f"{n}.eval", log)) for n, log in enumerate((one, two))]
    assert compare_scored(read_scored(paths)).notes == (
        'mockllm/b: solvers is [["chain_of_thought", {}], ["generate", {}]], where mockllm/a has [["generate", {}]]',
        "mockllm/b: temperature is 0.7, where mockllm/a has 0.0",
    )


def test_worked_examples_and_templates_of_the_harness_are_said(tmp_path):
    folders = [write_harness(tmp_path / name, {"t": [{"score": 1}, {"score": 0}]}, model=name) for name in ("a", "b")]
    for folder, shots, template in zip(folders, (0, 5), (None, "{{ x }}"), strict=True):
        file = folder / f"results_{TIME}.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps({**told, "n-shot": {"t": shots}, "versions": {"t": 1}, "chat_template": template}))
    assert compare_scored(read_scored([str(folder) for folder in folders])).notes == (
        "b: chat template is used, where a has not used",
        "b: t: worked examples is 5, where a has 0",
    )


def test_two_first_scores_are_not_compared(tmp_path):
    logs = [inspect_log(rows(["C"], name=name), model=name) for name in ("match", "includes")]
    paths = [str(write_inspect(tmp_path / f"{n}.eval", log)) for n, log in enumerate(logs)]
    with pytest.raises(InputError, match=r"not the same.*--metric"):
        compare_scored(read_scored(paths))
