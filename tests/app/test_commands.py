"""respond, chat, judge, meta, compare and store as a user runs them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from app_rows import responses, rows_of

ROOT = Path(__file__).resolve().parents[2]
PLACES = (Path(os.environ.get("PIPPIN_SHARED", "")), ROOT.parent / "shared")
SHARED = next((p for p in PLACES if (p / "data" / "llmbar" / "recordings").is_dir()), None)
pytestmark = pytest.mark.usefixtures("files")  # every test here may use s.py

LABELLED = [
    {"prompt": f"q{n}", "chosen": "right " * (3 if n < 8 else 1), "rejected": "wrong wrong", "by": "gold"}
    for n in range(12)
]


def test_respond_writes_rows_and_resumes(pippin, files, tmp_path):
    files("p.jsonl", [{"prompt": f"question {n}"} for n in range(4)] + [{"prompt": "fail"}])
    told = pippin(
        "respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl", "--n", 2, "--seed", 3, "--json", "o.json"
    )
    assert told.code == 3
    assert "2 of 10 failed (ValueError: asked to fail)" in told.err
    rows = rows_of(tmp_path / "r.jsonl")
    assert [row["sample"] for row in rows] == [0, 1] * 4
    first = rows[0]
    assert first["prompt"] == [{"role": "user", "content": "question 0"}]
    assert first["completion"] == [{"role": "assistant", "content": "You said: question 0"}]
    assert (first["model"], first["stop"]) == ("scripted/s.py:echo", "end")
    assert {"prompt_id", "sample", "stop", "model"} <= set(first)
    assert json.loads((tmp_path / "o.json").read_text())["failed"] == 2


def test_respond_where_all_fail_writes_no_file(pippin, files, tmp_path):
    files("p.jsonl", [{"prompt": "fail"}])
    assert pippin("respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl").code == 3
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("out", ["r.txt", "p.jsonl/r.jsonl"])
def test_respond_refuses_an_out_that_cannot_be_written_before_asking(pippin, files, out):
    files("p.jsonl", [{"prompt": "q"}])
    told = pippin("respond", "scripted/s.py:echo", "p.jsonl", "--out", out)
    assert told.code == 2
    assert pippin("store", "--json", "-").json == {"path": pippin("store", "--json", "-").json["path"]}


def test_respond_takes_a_model_of_the_world_and_the_same_command_gives_the_same_bytes(pippin, tmp_path):
    arguments = ("respond", "world/base", "world/heldout?n=3", "--max-tokens", 12, "--seed", 5)
    assert pippin(*arguments, "--out", "a.jsonl").code == 0
    assert pippin(*arguments, "--out", "b.jsonl").code == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert {row["source"] for row in rows_of(tmp_path / "a.jsonl")} == {"world"}


def test_chat_from_a_pipe(pippin, files, monkeypatch):
    lines = "Hello\n\n/reset\nHow are you?\n/dance\nfail\nred \x1b[31m\n/quit\nnever read\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    told = pippin("chat", "scripted/s.py:echo", "--system", "Be kind.", "--json", "c.json")
    assert told.code == 0
    assert told.out.splitlines()[:2] == ["You said: Hello", "You said: How are you?"]
    assert "\x1b" not in told.out
    assert "no command /dance" in told.err
    assert "asked to fail" in told.err


def test_chat_keeps_the_conversation_and_forgets_it_on_reset(pippin, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n/reset\ntwo\nthree"))
    told = pippin("chat", "scripted/s.py:echo", "--json", "-")
    said = [m["content"] for m in told.json["messages"]]
    assert said == ["two", "You said: two", "three", "You said: three"]


def test_judge_of_two_files_in_both_orders(pippin, files, tmp_path):
    files("a.jsonl", responses({"p1": "short", "p2": "the longer one", "only here": "x"}, "a"))
    files("b.jsonl", responses({"p2": "brief", "p1": "a longer one"}, "b"))
    told = pippin(
        "judge", "rule/longer", "a.jsonl", "b.jsonl", "--out", "j.jsonl", "--groups", "g.jsonl", "--json", "-"
    )
    assert told.code == 0
    rows = rows_of(tmp_path / "j.jsonl")
    assert [row["outcome"] for row in rows] == ["second", "first", "first", "second"]
    assert (rows[0]["first"], rows[0]["second"]) == (rows[1]["second"], rows[1]["first"])
    assert told.json["outcomes"] == {"first": 2, "second": 2}
    assert (told.json["missing"], told.json["pairs"]) == (0, 2)
    assert [len(row["judgements"]) for row in rows_of(tmp_path / "g.jsonl")] == [2, 2]


def test_judge_of_one_order_gives_one_label_a_pair(pippin, files, tmp_path):
    files("r.jsonl", [{"prompt": p, "completion": text} for p in ("p", "q") for text in ("a", "bb", "ccc")])
    told = pippin("judge", "rule/longer", "r.jsonl", "--pairs", "--orders", "one", "--out", "j.jsonl", "--groups",
                  "g.jsonl", "--json", "-")  # fmt: skip
    assert told.code == 0 and told.json["pairs"] == 6 and told.json["same_in_both_orders"] is None
    assert [row["outcome"] for row in rows_of(tmp_path / "j.jsonl")] == ["second"] * 6
    assert [len(row["judgements"]) for row in rows_of(tmp_path / "g.jsonl")] == [3, 3]
    assert pippin("judge", "rule/longer", "r.jsonl", "--orders", "three", "--out", "k.jsonl").code == 2


def test_judge_of_pairs_counts_what_is_missing(pippin, files, tmp_path):
    files("s2.py", "def judge(request):\n    return '(a)' if 'q1\\n' in request.messages[-1].content else 'hm'\n")
    files("pairs.jsonl", LABELLED[:3])
    told = pippin("judge", "scripted/s2.py:judge", "pairs.jsonl", "--out", "j.jsonl", "--json", "-")
    assert told.code == 0
    assert told.json["outcomes"] == {"first": 2, "unparsed": 4}
    assert told.json["missing"] == 4
    assert told.json["first_shown"]["value"] == 1
    assert "missing: 4" in told.err


def test_judge_scores_single_responses_and_compares_samples_on_request(pippin, files, tmp_path):
    files("r.jsonl", [{"prompt": "p", "completion": text} for text in ("a", "bb", "ccc")])
    assert pippin("judge", "rule/longer", "r.jsonl", "--out", "s.jsonl").code == 0
    assert [row["value"] for row in rows_of(tmp_path / "s.jsonl")] == [1, 2, 3]
    assert pippin("judge", "rule/longer", "r.jsonl", "--pairs", "--out", "j.jsonl").code == 0
    assert len(rows_of(tmp_path / "j.jsonl")) == 6  # three pairs in both orders
    # a judge that gives no numbers compares the samples of a prompt, and has nothing to do with single ones
    assert pippin("judge", "rule/first", "r.jsonl", "--out", "f.jsonl").code == 0
    files("one.jsonl", [{"prompt": "p", "completion": "a"}])
    assert pippin("judge", "rule/first", "one.jsonl", "--out", "n.jsonl").code == 2
    assert not (tmp_path / "n.jsonl").exists()


def test_judge_knows_gold_labels(pippin, files, tmp_path):
    files("pairs.jsonl", LABELLED)
    pippin("judge", "gold", "pairs.jsonl", "--out", "j.jsonl")
    assert [row["outcome"] for row in rows_of(tmp_path / "j.jsonl")] == ["first", "second"] * 12


def test_judge_that_fails_is_resumed_by_the_same_command(pippin, files, tmp_path):
    files("s3.py", "import os\ndef judge(request):\n    return '(a)' if os.path.exists('up') else {}['down']\n")
    files("pairs.jsonl", LABELLED[:2])
    arguments = ("judge", "scripted/s3.py:judge", "pairs.jsonl", "--out", "j.jsonl")
    told = pippin(*arguments)
    assert told.code == 3
    assert "4 of 4 failed; the same command asks them again" in told.err
    (tmp_path / "up").touch()
    assert pippin(*arguments).code == 0
    assert {row["outcome"] for row in rows_of(tmp_path / "j.jsonl")} == {"first"}


def test_meta_of_a_file_of_ones_own(pippin, files):
    files("bench.jsonl", LABELLED)
    told = pippin("meta", "bench.jsonl", "rule/longer", "scripted/s.py:first", "--json", "-")
    assert told.code == 0
    cells = {cell["llm"]: cell for cell in told.json["cells"]}
    longer, first = cells["rule/longer"], cells["scripted/s.py:first"]
    assert (longer["n"], longer["accuracy_pct"]) == (12, pytest.approx(100 * 8 / 12))
    assert longer["accuracy"]["low"] < 8 / 12 < longer["accuracy"]["high"]
    assert (first["accuracy_pct"], first["agreement_pct"]) == (50, 0)
    assert first["consistency"]["split"]["value"] == 1
    assert {row["llm"] for row in told.json["baselines"]} == {
        "rule/first",
        "rule/shorter",
    }  # longer is among the judges
    assert "rule/longer" in told.err


@pytest.mark.skipif(SHARED is None, reason="PIPPIN_SHARED names no folder with the recorded LLMBar evaluators")
def test_meta_of_recorded_evaluators_gives_the_published_numbers(pippin):
    data = SHARED / "data" / "llmbar"
    told = pippin("meta", "llmbar", "--recordings", data, "--parser", "llmbar", "--set", "Manual", "--json", "-")
    assert told.code == 0, told.err
    published = json.loads((data / "expected.json").read_text())["Manual"]
    cells = [cell for cell in told.json["cells"] if cell["strategy"] in ("Vanilla", "Vanilla_NoRules")]
    assert len(cells) == 10
    for cell in cells:
        expected = published[cell["llm"]][cell["strategy"]]
        assert {key: cell[key] for key in expected} == pytest.approx(expected), cell["llm"]
        assert cell["accuracy"]["low"] <= cell["accuracy"]["value"] <= cell["accuracy"]["high"]
    assert "GPT-4:Vanilla" in told.err and "rule/shorter" in told.err


def test_compare_of_two_files_says_the_decision_first(pippin, files, tmp_path):
    files("a.jsonl", responses({f"p{n}": "x" for n in range(15)}))
    files("b.jsonl", responses({f"p{n}": "xx" for n in range(15)}))
    told = pippin(
        "compare", "a.jsonl", "b.jsonl", "--judge", "rule/longer", "--gate", "delta_low > 0", "--json", "o.json"
    )
    assert told.code == 0
    assert told.out.splitlines()[0].startswith("V2 is better: +1.000 [")
    row = json.loads((tmp_path / "o.json").read_text())
    assert row["decision"] == told.out.splitlines()[0]
    assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    assert (row["n"], row["missing"], row["gate_met"]) == (15, 0, True)


def test_a_gate_that_does_not_hold_is_code_4_with_the_result_written(pippin, files, tmp_path):
    files("a.jsonl", responses({f"p{n}": "x" for n in range(15)}))
    files("b.jsonl", responses({f"p{n}": "xx" for n in range(15)}))
    told = pippin(
        "compare", "b.jsonl", "a.jsonl", "--judge", "rule/longer", "--gate", "delta_low > 0", "--json", "o.json"
    )
    assert told.code == 4
    assert "the gate does not hold: delta_low > 0 (delta = -1" in told.err
    assert told.out.startswith("V2 is worse")
    assert json.loads((tmp_path / "o.json").read_text())["gate_met"] is False


def test_compare_takes_a_folder_without_its_dot_slash(pippin, files):
    files("p.jsonl", [{"prompt": "q"}])
    told = pippin("compare", "home", "scripted/s.py:echo", "--judge", "rule/longer", "--prompts", "p.jsonl")
    assert told.code == 2
    assert "no model named 'home'" in told.err  # there is no such folder
    pippin("respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl")  # makes it
    told = pippin("compare", "home", "scripted/s.py:echo", "--judge", "rule/longer", "--prompts", "p.jsonl")
    assert "./home: not a model" in told.err


def test_store_size_export_and_clean(pippin, files, tmp_path):
    assert "nothing stored yet" in pippin("store").out
    files("p.jsonl", [{"prompt": "q"}, {"prompt": "fail"}])
    pippin("respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl")
    size = pippin("store", "size", "--json", "-").json
    assert (size["calls"], size["failed_calls"]) == (2, 1)
    told = pippin("store", "export", "--out", "kept", "--json", "-")
    assert told.json["calls"] == 2
    texts = {row.get("text", "") for row in rows_of(tmp_path / "kept" / "calls.jsonl")}
    assert texts == {"You said: q", ""}
    assert pippin("store", "clean", "--failures", "--json", "-").json["failed_calls"] == 1
    assert pippin("store", "size", "--json", "-").json["calls"] == 1


def test_an_exported_store_replays_without_the_model(pippin, files, tmp_path):
    files("p.jsonl", [{"prompt": "q"}])
    pippin("respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl")
    pippin("store", "export", "--out", "kept")
    assert pippin("respond", "replay/kept/calls.jsonl", "p.jsonl", "--out", "again.jsonl").code == 0
    assert rows_of(tmp_path / "again.jsonl")[0]["completion"] == rows_of(tmp_path / "r.jsonl")[0]["completion"]


STUDY = """\
question: Does it matter where answers are cut?
base: world/base
prompts: {test: "world/heldout?n=12&seed=0"}
evaluation: {max_tokens: 12}
axes: {method: {base: {use: base}, cut: {use: base, max_tokens: 3}}}
judge: gold
baseline: base
gate: "delta_low > 0"
"""


def test_a_study_is_planned_run_and_gated(pippin, files, tmp_path):
    files("study.yaml", STUDY)
    told = pippin("compare", "study.yaml", "--plan", "--json", "-")
    assert told.code == 0
    assert {arm["name"] for arm in told.json["arms"]} == {"base", "cut"}
    assert not any(cell["stored"] for cell in told.json["cells"])
    told = pippin("compare", "study.yaml", "--out", "d", "--workers", 1, "--json", "o.json")
    assert told.code == 4  # cutting answers does not make them better
    assert "the gate does not hold for cut" in told.err
    written = json.loads((tmp_path / "d" / "results.json").read_text())
    assert {arm["name"] for arm in written["arms"]} == {"base", "cut"}
    assert written["confounds"] == []  # the axis declares what differs
    assert "Confounds: none" in told.out
    assert str(tmp_path / "d" / "report.html") in told.out
    assert json.loads((tmp_path / "o.json").read_text())["gate_met"] is False
    assert all(cell["stored"] for cell in pippin("compare", "study.yaml", "--plan", "--json", "-").json["cells"])


SLOW = """\
import os, time


def say(request):
    open("asked", "a").write("x")
    if not os.path.exists("fast") and os.path.getsize("asked") == 4:
        time.sleep(60)
    return "ok"
"""


def test_an_interrupt_loses_nothing(pippin, files, tmp_path):
    files("slow.py", SLOW)
    files("p.jsonl", [{"prompt": f"question {n}"} for n in range(6)])
    arguments = ["respond", "scripted/slow.py:say", "p.jsonl", "--out", "r.jsonl"]
    process = subprocess.Popen([sys.executable, "-m", "pippin", *arguments], stderr=subprocess.PIPE, text=True)
    asked = tmp_path / "asked"
    deadline = time.monotonic() + 60
    while not (asked.exists() and asked.stat().st_size == 4) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == "interrupted, nothing lost; run the same command to go on\n"
    assert not (tmp_path / "r.jsonl").exists()
    (tmp_path / "fast").touch()
    assert pippin(*arguments).code == 0
    assert len(rows_of(tmp_path / "r.jsonl")) == 6
    assert asked.stat().st_size == 4 + 3  # the three answers that had come were in the store


def test_a_person_watching_sees_a_bar_and_a_pipe_does_not(files, tmp_path):
    files("p.jsonl", [{"prompt": f"question {n}"} for n in range(3)])
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "pippin", "respond", "scripted/s.py:echo", "p.jsonl", "--out", "r.jsonl"]
    environment = {**os.environ, "PIPPIN_HOME": str(tmp_path / "home"), "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, env=environment, cwd=tmp_path, check=True)
    os.close(follower)
    seen = os.read(leader, 100_000).decode()
    os.close(leader)
    assert "answers" in seen and "3/3" in seen
    assert done.stdout.decode().splitlines() == ["r.jsonl: 3 responses to 3 prompts"]
    piped = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert piped.stderr == ""


def test_a_new_study_is_whole_and_never_overwrites(pippin, tmp_path):
    file = tmp_path / "mine.yaml"
    made = pippin("compare", "--new", file)
    assert made.code == 0 and "--plan" in made.out
    again = pippin("compare", "--new", file)
    assert again.code == 2 and "there already" in again.err
    planned = json.loads(pippin("compare", file, "--plan", "--json", "-").out)
    assert [arm["name"] for arm in planned["arms"][::2]] == ["sft", "dpo", "simpo"]
    assert [t["settings"]["learning_rate"] for t in planned["trials"]] == [1e-4, 4e-4] * 2
    schema = json.loads(pippin("compare", "--schema").out)
    assert set(yaml.safe_load(file.read_text())) <= set(schema["properties"])
