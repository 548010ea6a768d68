"""The command line in this process, with a store of its own; and small files."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for app_rows.py

from pippin.app import cli

ECHO = '''
def echo(request):
    """Says what it was told; fails on the word "fail"."""
    text = request.messages[-1].content
    if "fail" in text:
        raise ValueError("asked to fail")
    return f"You said: {text}"


def first(request):
    """A judge that always names the response shown first."""
    return "(a)"
'''


class Told:
    """Exit code, standard output and standard error of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def pippin(tmp_path, monkeypatch, capsys):
    """``pippin("list", "methods")`` runs a command in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPPIN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PIPPIN_DEBUG", raising=False)

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        code = cli.run([str(a) for a in arguments])
        return Told(code, *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path):
    """``files("a.jsonl", rows)`` writes rows and gives the path's name."""

    def write(name: str, rows) -> str:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        Path(tmp_path, name).write_text(text, encoding="utf-8")
        return name

    write("s.py", ECHO)
    return write
