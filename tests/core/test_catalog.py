import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pippin.core import catalog
from pippin.core.errors import InputError, MissingExtra, UnknownName

ROOT = Path(catalog.__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No files of earlier tests, and none remembered afterwards."""
    monkeypatch.setattr(catalog, "_user_files", {})
    catalog._leaves.cache_clear()
    yield
    catalog._leaves.cache_clear()


@pytest.fixture
def leaf(tmp_path):
    def leaf(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return leaf


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package of other people, with entry points."""

    def package(points: str, **modules: str) -> None:
        site = tmp_path / "site"
        info = site / "other-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        (site / "other_pkg").mkdir()
        (site / "other_pkg" / "__init__.py").write_text("raise RuntimeError('listing imports nothing')\n")
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(site))

    return package


def test_every_leaf_of_pippin_is_listed_with_a_summary():
    for kind in catalog.kind_names():
        found = catalog.entries(kind)
        assert [entry.name for entry in found] == sorted(catalog.names(kind))
        for entry in found:
            assert entry.summary, entry.path
            assert "\n" not in entry.summary
            assert Path(entry.path).is_file()


def test_methods_are_found_by_file_name():
    assert {"sft", "dpo", "ppo"} <= set(catalog.names("methods"))
    (dpo,) = [entry for entry in catalog.entries("methods") if entry.name == "dpo"]
    assert Path(dpo.path).parts[-3:] == ("align", "methods", "dpo.py")


def test_listing_imports_nothing():
    code = (
        "import sys; from pippin.core import catalog\n"
        "for kind in catalog.kind_names(): catalog.entries(kind)\n"
        "print(sorted(m for m in sys.modules if m.startswith('pippin.') and not m.startswith('pippin.core')),"
        " {'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] set()"


def test_unknown_names_and_kinds():
    with pytest.raises(UnknownName, match=r"no method named 'dpoo'\. Did you mean 'dpo'"):
        catalog.load("methods", "dpoo")
    with pytest.raises(UnknownName, match=r"no kind of leaf named 'method'\. Did you mean 'methods'"):
        catalog.names("method")


def test_a_users_file(leaf):
    path = leaf(
        '"""Mine, simply.\n\nMore.\nSource: A Paper (2023),\n  section 2\nRest.\n"""\nREADER = ["x"]\nBENCHMARK = 3\n'
    )
    assert catalog.use_file(path) == ["readers/mine", "benchmarks/mine"]
    (entry,) = [entry for entry in catalog.entries("readers") if entry.name == "mine"]
    assert entry == catalog.Entry("mine", "Mine, simply.", "A Paper (2023), section 2", str(path))
    assert catalog.load("readers", "mine") == ["x"]
    assert catalog.load("benchmarks", "mine") == 3
    assert catalog.use_file(path) == ["readers/mine", "benchmarks/mine"]  # twice is once
    assert catalog.load("readers", "mine") is catalog.load("readers", "mine")


@pytest.mark.parametrize(
    "text",
    [
        "JUDGE: object = print",
        "def JUDGE(rest, options): ...",
        "class JUDGE: ...",
        "from builtins import print as JUDGE",
    ],
)
def test_every_way_to_define_a_leaf(leaf, text):
    assert catalog.use_file(leaf(text)) == ["judges/mine"]
    assert callable(catalog.load("judges", "mine"))


def test_a_users_file_may_hold_dataclasses(leaf):
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    catalog.use_file(leaf(f"{head}@dataclass\nclass A:\n    x: int\nMETHOD = A(1)\n"))
    assert catalog.load("methods", "mine").x == 1


def test_a_family(leaf):
    text = (
        'FAMILY = {"one": "The first", "two": "The second"}\nREADER = {"one": 1, "two": 2}\nBENCHMARK = {"two": 22}\n'
    )
    assert catalog.use_file(leaf(text)) == ["readers/one", "readers/two", "benchmarks/two"]
    assert [e.summary for e in catalog.entries("readers") if e.name in ("one", "two")] == ["The first", "The second"]
    assert [catalog.load("readers", name) for name in ("one", "two")] == [1, 2]
    assert catalog.load("benchmarks", "two") == 22


def test_a_family_must_hold_what_it_names(leaf):
    catalog.use_file(leaf('FAMILY = {"one": "", "two": ""}\nREADER = {"one": 1}\n'))
    with pytest.raises(InputError, match=r"mine\.py: READER has no 'two', which FAMILY names"):
        catalog.load("readers", "two")


@pytest.mark.parametrize("family", ["dict(a='x')", "{'a': 1}", "['a']", "{[]: 'x'}"])
def test_a_family_is_written_out(leaf, family):
    with pytest.raises(InputError, match=r"mine\.py:2: FAMILY is not written out"):
        catalog.use_file(leaf(f"READER = {{}}\nFAMILY = {family}\n"))
    assert "mine" not in catalog.names("readers")  # nothing is left of it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"mine\.py: defines no leaf \(expected READER or RECIPE"),
        ("READER = (", r"mine\.py:1: not Python: "),
        ("READER = '\0'", r"mine\.py(:1)?: not Python: "),
    ],
)
def test_a_file_that_is_no_leaf(leaf, text, message):
    with pytest.raises(InputError, match=message):
        catalog.use_file(leaf(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"gone\.py: cannot be read: No such file"):
        catalog.use_file(tmp_path / "gone.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("READER = 1\n\nprint(1 / 0)", r"mine\.py:3: fails when it is run: ZeroDivisionError: division by zero"),
        ("import not_there_at_all\nREADER = 1", r"mine needs not_there_at_all, which is not installed"),
        ("from pippin.nowhere import x\nREADER = 1", r"mine needs pippin\.nowhere"),
        ("READER = 1\ndel READER", r"mine\.py: readers/mine defines no READER"),
    ],
)
def test_a_file_that_fails(leaf, text, message):
    catalog.use_file(leaf(text))
    for _ in range(2):  # a failed import is not remembered as a success
        with pytest.raises(InputError, match=message):
            catalog.load("readers", "mine")


def test_optional_libraries_are_asked_for_by_their_extra(leaf, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
    catalog.use_file(leaf("import gguf\nREADER = 1"))
    with pytest.raises(MissingExtra, match=r"readers/mine needs gguf, .* pip install 'pippin\[gguf\]'"):
        catalog.load("readers", "mine")


def test_extras_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for library, extra in catalog.EXTRAS.items():
        assert any(need.replace("-", "_").startswith(library) for need in extras[extra])


def test_two_leaves_of_one_name(leaf):
    catalog.use_file(leaf("READER = 1"))
    with pytest.raises(InputError, match=r"two readers are named 'mine' .*Rename one of them"):
        catalog.use_file(leaf("READER = 2", "elsewhere/mine.py"))
    with pytest.raises(InputError, match="two methods are named 'dpo'"):
        catalog.use_file(leaf("METHOD = 2", "dpo.py"))
    assert catalog.load("readers", "mine") == 1


def test_entry_points(package):
    package(
        "[pippin.readers]\ntheirs = other_reader\nobject = other_reader:THING.real\n"
        "[pippin.methods]\nhidden = other_pkg.deep.method\n",
        other_reader='"""Theirs."""\nREADER = 1\nBENCHMARK = 2\nTHING = 3\n',
    )
    listed = {entry.name: entry for entry in catalog.entries("readers")}
    assert listed["theirs"].summary == "Theirs."
    assert listed["theirs"].path.endswith("other_reader.py")
    assert (catalog.load("readers", "theirs"), catalog.load("readers", "object")) == (1, 3)
    assert catalog.load("benchmarks", "theirs") == 2
    assert "hidden" in catalog.names("methods")
    with pytest.raises(InputError, match="fails when it is run: RuntimeError: listing imports nothing"):
        catalog.load("methods", "hidden")
    assert importlib.metadata.version("other") == "1.0"


def test_entry_points_cannot_take_a_name(package):
    package("[pippin.methods]\ndpo = other_method\n", other_method="METHOD = 1\n")
    with pytest.raises(InputError, match="two methods are named 'dpo'"):
        catalog.names("methods")
