import math

import pytest
import yaml

from pippin.core.config import read_yaml
from pippin.core.errors import InputError


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes):
        path = tmp_path / "f.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(path)

    return read


# The examples of section 10.3.2 of the YAML 1.2.2 specification, and what YAML 1.1 makes of other things.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E3", 1000.0), ("-2E+05", -2e5), ("12e03", 12000.0), ("0.", 0.0), ("-0.0", 0.0), (".5", 0.5),
        ("+12.3", 12.3), (".inf", math.inf), ("-.INF", -math.inf), ("0o7", 7), ("0x3A", 58), ("-19", -19), ("010", 10),
        ("1_000", "1_000"), ("12:30", "12:30"), ("12:30:45.5", "12:30:45.5"), ("0b11", "0b11"),
        ("true", True), ("True", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("2024-01-31", "2024-01-31"), ("=", "="),
        ('"1e-5"', "1e-5"), ("'true'", "true"), ("1e", "1e"), ("e5", "e5"), (".", "."), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(read, text, value):
    found = read(f"key: {text}")[0]["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number(read):
    assert math.isnan(read("key: .nan")[0]["key"])


def test_keys_are_words_too(read):
    assert read("no: 1\nyes: 2\non: 3")[0] == {"no": 1, "yes": 2, "on": 3}


def test_pyyaml_alone_would_read_them_otherwise():
    """What this loader is for; should PyYAML ever change, it can go."""
    assert yaml.safe_load("[1e-5, no, 12:30, 010]") == ["1e-5", False, 750, 8]


def test_lines(read):
    text = "# a comment\nquestion: |\n  one\n  two\n\nstages:\n  - name: a\n    seeds: [0,\n       1]\n  - b\nlast: 1\n"
    value, lines = read(text)
    assert value["stages"] == [{"name": "a", "seeds": [0, 1]}, "b"]
    assert lines == {
        "question": 2, "stages": 6, "stages.0": 7, "stages.0.name": 7, "stages.0.seeds": 8, "stages.0.seeds.0": 8,
        "stages.0.seeds.1": 9, "stages.1": 10, "last": 11,
    }  # fmt: skip


def test_json_is_yaml(read):
    assert read('{"a": [1, 2.5, true, null, "\\u00e9"]}')[0] == {"a": [1, 2.5, True, None, "é"]}


def test_merge_keys_and_aliases(read):
    value, _ = read("base: &b {x: 1, y: 2}\nmine: {<<: *b, x: 3}\nsame: *b")
    assert value["mine"] == {"x": 3, "y": 2}
    assert value["same"] == value["base"]


def test_nested_aliases_cost_what_they_weigh(read):
    levels = "\n".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 40))
    value, lines = read(f"k0: &k0 [x]\n{levels}")
    assert len(value) == 40
    assert len(lines) == 1 + 1 + 39 * 10


def test_empty_and_marked_files(read):
    assert read("") == ({}, {})
    assert read("# nothing") == ({}, {})
    assert read(b"\xef\xbb\xbfa: 1")[0] == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "f.yaml:5: the key 'c' is given twice (found line 3). Keep one of them"),
        ("a: 1\na: 1", "f.yaml:2: the key 'a' is given twice"),
        ("a: [{b: 1, b: 2}]", "f.yaml:1: the key 'b' is given twice"),
        ("a: 1\n  b: 2", "f.yaml:2: not YAML: mapping values are not allowed here"),
        ("a: [1,\nb: 2", "f.yaml:2: not YAML: expected ',' or ']'"),
        ("\ta: 1", "f.yaml:1: not YAML: found character '\\t' that cannot start any token"),
        ("- a\n- b", "f.yaml: not a mapping (found ['a', 'b'], expected lines of `key: value`)"),
        ("just text", "f.yaml: not a mapping (found just text"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not YAML: but found another document"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: not YAML: could not determine a constructor"),
        ("a: *nowhere", "f.yaml:1: not YAML: found undefined alias 'nowhere'"),
        ("a: 1\nb: &x [*x]", "f.yaml:2: an alias refers to what holds it"),
        ("? [1, 2]\n: 3", "f.yaml:1: a key is no single word"),
        ("a: \x07", "f.yaml: not YAML: "),
        (b"a: \xff", "f.yaml: not UTF-8 (found byte 3). Save it as UTF-8"),
    ],
)
def test_errors_name_the_line(read, tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read: No such file or directory"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
