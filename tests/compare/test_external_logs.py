"""Logs of other evaluations: their answers and recorded scores as they stand in the files, and two logs compared."""

import json

import numpy as np
import pytest

from pippin.compare.outside import read_external
from pippin.compare.recorded import no_judge
from pippin.compare.two import compare_two
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Message

from .external_files import (
    GREETINGS,
    choices,
    failed,
    generation,
    inspect_eval,
    inspect_log,
    likelihood,
    lm_eval,
    sample,
)

# ---------------------------------------------------------------------- logs of inspect_ai


@pytest.mark.parametrize("form", ["json", "stored", "deflated", "zstandard"])
def test_a_log_of_inspect_is_read_in_every_packing(tmp_path, form):
    log = inspect_log(GREETINGS)
    if form == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps(log, indent=2))
    else:
        path = inspect_eval(tmp_path / "log.eval", log, {"stored": 0, "deflated": 8, "zstandard": 93}[form])
    made = read_external(str(path))
    said = {(a.prompt.text, a.response.sample): a for a in made.answers}
    assert set(said) == {("Say hello.", 0), ("Say bye.", 0), ("Say hello.", 1)}
    first = said["Say hello.", 0]
    assert first.scores == {"includes": 1.0, "judge/tone": 3.0, "judge/wit": 0.5}
    assert said["Say bye.", 0].scores == {"includes": 0.0, "judge/tone": None, "judge/wit": 0.0}
    assert (first.response.text, first.response.by, first.response.stop) == ("hello there", "mock/model", "end")
    assert first.response.context == (Message("system", "You help."), Message("user", "Say hello."))
    assert first.response.sampling is not None and first.response.sampling.temperature == 0.5
    assert first.prompt.reference == "hello" and first.prompt.source == "inspect_ai/greet"
    assert made.notes == ("1 of 4 samples failed, the first by: timed out",)
    assert made.manifest["decoding.max_tokens"] == 33 and made.manifest["library.inspect_ai"] == "0.3.285"


def test_choices_and_parts_and_attachments_of_a_sample(tmp_path):
    several = sample("m", "ANSWER: B", {"choice": "C"}, asked="2+2?\nA) 3\nB) 4", choices=["3", "4"]) | {
        "input": "2+2?"
    }
    parts = [{"type": "text", "text": "see"}, {"type": "image", "image": "x"}]
    turns = [{"role": "system", "content": "attachment://abc"}, {"role": "user", "content": parts}]
    odd = sample("p", [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "fine"}], {"s": "neither"},
                 asked=turns, attachments={"abc": "Be kind."})  # fmt: skip
    made = read_external(str(inspect_eval(tmp_path / "log.eval", inspect_log([several, odd], "cancelled"))))
    assert made.answers[0].prompt.text == "2+2?\nA) 3\nB) 4"
    assert made.answers[1].prompt.messages == (Message("system", "Be kind."), Message("user", "see"))
    assert made.answers[1].response.text == "fine" and made.answers[1].scores == {"s": None}
    assert made.notes[0] == "the status of greet is cancelled"
    assert "1 scores that are neither grades nor numbers" in made.notes


def test_logs_that_hold_no_answers_say_what_to_do(tmp_path):
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(inspect_log([]) | {"samples": None}))
    with pytest.raises(InputError, match="without samples"):
        read_external(str(empty))
    with pytest.raises(InputError, match=r"no sample of this log has an answer.*timed out"):
        read_external(str(inspect_eval(tmp_path / "all.eval", inspect_log([failed("a", "timed out")]))))
    (tmp_path / "cut.eval").write_bytes((tmp_path / "all.eval").read_bytes()[:100])
    with pytest.raises(InputError, match=r"cut\.eval"):
        read_external(str(tmp_path / "cut.eval"))
    folder = lm_eval(tmp_path / "lm", {"gen": [generation(0, "yes", 1.0)]})
    next(folder.glob("samples*")).unlink()
    with pytest.raises(InputError, match="--log_samples"):
        read_external(str(folder))


# ---------------------------------------------------------------------- logs of lm-eval


def test_a_log_of_lm_eval_gives_answers_and_scores(tmp_path):
    tasks = {
        "gen": [generation(0, "yes", 1.0), generation(1, "maybe", 0.0)],
        "mc": [choices(0, [-3.0, -1.0, -2.0], 1.0), choices(1, [-1.0, -2.0, -3.0], 0.0)],
        "lam": [likelihood(0, -18.5)],
    }
    made = read_external(str(lm_eval(tmp_path / "lm", tasks)))
    said = {a.key.partition("/hash")[0]: a for a in made.answers}
    assert [said[k].response.text for k in ("gen/0", "gen/1", "mc/0", "mc/1")] == ["yes", "maybe", "b", "a"]
    assert said["lam/0"].response.messages == ()
    assert said["gen/0"].scores == {"exact_match": 1.0, "gen/exact_match": 1.0}
    assert said["lam/0"].scores["lam/perplexity"] == -18.5 and "word_perplexity" not in made.metrics
    assert made.lower == {"ter", "lam/ter"}  # perplexity is recorded as a log-likelihood, of which more is better
    same = [a for a in made.answers if a.prompt.text == "Q: is 0 even?\nA:"]
    assert [a.response.sample for a in same] == [0, 1] and len({a.response.id for a in same}) == 2
    assert made.manifest["answers.model"] == "org/model" and made.manifest["answers.chat template"] is False
    assert "1 rows that score a given text, and have no answer" in made.notes


def test_filters_repeats_and_the_older_form_of_arguments(tmp_path):
    twice = [generation(0, "so 4", 0.0, filter=f, exact_match=x) for f, x in (("strict", 0.0), ("loose", 1.0))]
    made = read_external(str(lm_eval(tmp_path / "one", {"gen": twice})))
    assert len(made.answers) == 1 and made.answers[0].scores == {"exact_match,strict": 0.0, "exact_match,loose": 1.0}
    old = generation(0, "", 1.0, arguments=[["Q", {"until": []}]], resps=[["a", "b"]])
    made = read_external(str(lm_eval(tmp_path / "two", {"gen": [old]})))
    assert [(a.response.text, a.response.sample, dict(a.scores)) for a in made.answers] == [
        ("a", 0, {"exact_match": 1.0}), ("b", 1, {}),
    ]  # fmt: skip
    chat = json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    sent = generation(0, "x", 1.0, arguments={"gen_args_0": {"arg_0": [chat], "arg_1": {}}})
    made = read_external(str(lm_eval(tmp_path / "three", {"gen": [sent]})))
    assert made.answers[0].prompt.messages == (Message("system", "s"), Message("user", "u"))


@pytest.mark.parametrize("broken", [{"arguments": {}}, {"resps": None}, {"arguments": {"a": {"b": 1}}}, {"resps": []}])
def test_a_broken_row_is_named(tmp_path, broken):
    folder = lm_eval(tmp_path / "lm", {"gen": [generation(0, "a", 1.0), generation(1, "b", 1.0) | broken]})
    with pytest.raises(InputError, match=r"gen, doc_id 1"):
        read_external(str(folder))


# ---------------------------------------------------------------------- two logs


@pytest.fixture
def logs(tmp_path):
    """Two logs of the same 12 rows, the second in another order, asked with an example in front."""
    right_1, right_2 = [k % 3 == 0 for k in range(12)], [k % 2 == 0 for k in range(12)]
    one = [generation(k, f"a{k}", float(r), ter=k, metrics=["exact_match", "ter"]) for k, r in enumerate(right_1)]
    two = [
        generation(k, f"b{k}", float(r), ter=k / 2, metrics=["exact_match", "ter"], context="Q: is 7 even?\nA: no\n\n")
        for k, r in enumerate(right_2)
    ]
    two = [two[k] for k in (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7)]  # row 6 is not there
    names = [lm_eval(tmp_path / name, {"gen": rows}) for name, rows in (("one", one), ("two", two))]
    kept = [k for k in range(12) if k != 6]
    return names, np.array(right_1, float)[kept], np.array(right_2, float)[kept]


def test_recorded_scores_are_compared_row_by_row(logs):
    (one, two), right_1, right_2 = logs
    made = compare_two(str(one), str(two), judge="recorded/exact_match")
    assert (made.pairs, made.metric, made.judge.name) == (11, "score", "recorded/exact_match")
    assert made.delta.value == pytest.approx((right_2 - right_1).mean())
    assert made.delta.low < made.delta.value < made.delta.high
    words = " ".join(made.cautions)
    assert "1 answers are to rows that only one log has" in words and "11 of 11 rows were asked in other words" in words


def test_less_is_better_where_the_log_says_so(logs):
    (one, two), _, _ = logs
    made = compare_two(str(one), str(two), judge="recorded/ter")
    rows = np.array([k for k in range(12) if k != 6])
    assert made.delta.value == pytest.approx((rows - rows / 2).mean()) and made.sign == 1
    assert "less is better" in made.judge.name


def test_another_judge_reads_the_texts_of_the_same_rows(logs):
    (one, two), _, _ = logs
    made = compare_two(str(one), str(two), judge="rule/first")
    assert made.pairs == 11 and all(p.text.startswith("Q: is ") for p in made.v2.prompts)
    assert {r.text[1:] for _, r in made.v1.rows} == {r.text[1:] for _, r in made.v2.rows}


def test_recorded_scores_need_two_logs_that_have_them(logs, tmp_path):
    (one, two), _, _ = logs
    with pytest.raises(UnknownName, match=r"exact_match"):
        compare_two(str(one), str(two), judge="recorded/exact_mach")
    with pytest.raises(InputError, match="compares the scores of two logs"):
        compare_two(str(one), "world/base", judge="recorded/exact_match")
    plain = tmp_path / "answers.jsonl"
    plain.write_text(json.dumps({"prompt": "Q: is 0 even?\nA:", "completion": "hello"}) + "\n")
    with pytest.raises(UnknownName):
        compare_two(str(one), str(plain), judge="recorded/exact_match")
    made = compare_two(str(one), str(plain), judge="rule/longer")  # a log against a file, by prompt
    assert made.pairs == 1 and made.delta.value == 1.0
    with pytest.raises(InputError, match="no such file"):
        compare_two(str(plain), str(plain), judge="recorded/nothing.jsonl")


def test_without_a_judge_the_recorded_metrics_are_offered(logs):
    (one, two), _, _ = logs
    assert "recorded/METRIC, METRIC one of exact_match, ter" in str(no_judge(str(one), str(two)))
    assert "rule/longer" in str(no_judge(str(one), "world/base"))


def test_a_missing_score_stays_missing(tmp_path):
    logs = [
        inspect_eval(tmp_path / f"{name}.eval", inspect_log([sample(k, f"{name} {k}", {"s": v}) for k, v in told]))
        for name, told in (("one", [("a", 1), ("b", 0), ("c", 2)]), ("two", [("a", 3), ("b", None), ("c", 5)]))
    ]
    made = compare_two(*map(str, logs), judge="recorded/s")
    assert made.delta.value == pytest.approx(2.5) and made.missing == 1 and made.pairs == 3


def test_a_model_answers_the_prompts_of_a_log(logs):
    (one, _), _, _ = logs
    made = compare_two(str(one), "world/base", judge="rule/longer", limit=3)
    assert made.pairs == 3 and made.v2.sampling is not None
