"""The frame of the command line: help, exit codes, one line per error, JSON apart from words."""

import json
import subprocess
import sys

import pytest

from pippin.app import cli
from pippin.core.errors import GateNotMet, PippinError

HEAVY = ("torch", "transformers", "numpy", "scipy", "pyarrow", "aiohttp", "sqlalchemy", "pydantic")
COMMANDS = ("demo", "list", "respond", "chat", "judge", "meta", "align", "compare", "store", "doctor")


def test_help_loads_nothing_heavy_and_is_quick():
    script = (
        "import sys, time; from pippin.app import cli; code = cli.run(['--help']);"
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules], time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, rest = done.stderr.split(" ", 1)
    loaded, seconds = rest.rsplit(" ", 1)
    print(f"--help took {float(seconds):.3f} s of CPU")
    assert (code, loaded) == ("0", "[]")
    assert float(seconds) < 1.0  # generous: the machine may be busy; the target is 0.3
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_python_m_pippin_is_pippin():
    done = subprocess.run([sys.executable, "-m", "pippin", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pippin ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(pippin, name):
    told = pippin(name, "--help")
    assert told.code == 0
    assert "--json FILE" in told.out


def test_no_command_shows_the_help(pippin):
    told = pippin()
    assert told.code == 0
    assert "Commands:" in told.out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["judge", "--ot", "x"], "Did you mean --out?"),
        (["list", "methds"], "Did you mean 'methods'?"),
        (["respond", "a", "b"], "--out"),
        (["store", "seize"], "Did you mean 'size'?"),
        (["store", "export"], "--out DIR"),
        (["respond", "a", "b", "--out", "o.jsonl", "--n", "many"], "--n"),
        (["compare", "a.jsonl"], "V1 V2 --judge"),
        (["compare", "a.jsonl", "b.jsonl"], "--judge"),
        (["align", "--beta", "1", "dpo"], "the method comes first"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint_and_code_2(pippin, arguments, hint):
    told = pippin(*arguments)
    assert told.code == 2
    assert told.err.count("\n") == 1
    assert told.err.startswith("error: ")
    assert hint in told.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted, nothing lost; run the same command to go on"),
        (PippinError("the disk is full"), 1, "error: the disk is full"),
        (GateNotMet("no"), 4, "error: no"),
        (ZeroDivisionError("by zero"), 1, "PIPPIN_DEBUG=1"),
        (
            OSError(28, "No space left on device", "/there/store.db"),
            1,
            "error: /there/store.db: No space left on device",
        ),
    ],
)
def test_exit_codes_of_what_can_happen(pippin, monkeypatch, error, code, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("pippin.core.catalog.entries", fail)
    told = pippin("list")
    assert told.code == code
    assert words in told.err
    assert "Traceback" not in told.err


def test_debug_shows_where_it_failed(pippin, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("pippin.core.catalog.entries", fail)
    monkeypatch.setenv("PIPPIN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.run(["list"])


def test_control_characters_of_the_world_outside_do_not_reach_the_terminal(pippin):
    told = pippin("list", "a\x1b[31m\nb")
    assert told.code == 2
    assert "\x1b" not in told.err
    assert told.err.count("\n") == 1


def test_json_on_standard_output_is_alone_there(pippin, tmp_path):
    told = pippin("doctor", "--json", "-")
    assert told.json["versions"]["pippin"]
    assert "what works" in told.err
    pippin("doctor", "--json", tmp_path / "d.json")
    assert set(json.loads((tmp_path / "d.json").read_text())) == set(told.json)


def test_json_into_a_folder_is_refused_before_any_work(pippin, tmp_path):
    (tmp_path / "d").mkdir()
    told = pippin("doctor", "--json", "d")
    assert told.code == 2
    assert told.out == ""


def test_doctor_names_keys_and_never_shows_them(pippin, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://someone:secret@host:8000/v1?token=secret")
    told = pippin("doctor", "--json", "-")
    assert "OPENAI_API_KEY" in told.json["keys"]
    assert "http://host:8000/v1" in told.out
    assert "secret" not in told.out + told.err


def test_list_gives_name_summary_source_path(pippin):
    told = pippin("list", "methods", "--json", "-")
    dpo = next(row for row in told.json if row["name"] == "dpo")
    assert dpo["summary"].startswith("Direct preference optimisation")
    assert "2305.18290" in dpo["source"]
    assert dpo["path"].endswith("align/methods/dpo.py")
    assert (dpo["score"], dpo["reference"], dpo["responses"]) == ("sum", "yes", "offline")
    assert told.err == ""


def test_list_without_a_kind_has_leaves_of_all_kinds(pippin):
    rows = pippin("list", "--json", "-").json
    assert {"readers", "strategies", "judges", "methods", "benchmarks"} <= {row["kind"] for row in rows}
    assert all({"name", "summary", "source", "path"} <= set(row) for row in rows)


def test_list_shows_a_leaf_of_ones_own(pippin, files):
    files("my_judge.py", '"""Everything is equal.\n\nSource: nobody\n"""\n\nJUDGE = None\n')
    script = "import sys; from pippin.app import cli; sys.exit(cli.run(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "list", "judges", "--with", "my_judge.py", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # a process of its own: --with lasts
    mine = next(row for row in json.loads(done.stdout) if row["name"] == "my_judge")
    assert mine["summary"] == "Everything is equal."
