from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pippin.core.config import Setting, build, describe, read_yaml, setting
from pippin.core.errors import InputError, UnknownName


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Decoding:
    temperature: float = setting(1.0, "Zero is greedy")
    banned: tuple[str, ...] = setting((), "Words never said")


@dataclass(frozen=True)
class Config:
    learning_rate: float = setting(1e-5, "Peak rate")
    steps: int = setting(100, "Optimizer steps")
    bf16: bool = setting(False, "Half precision")
    reduction: Literal["sum", "mean"] = setting("sum", "Of log-probabilities")
    seeds: tuple[int, ...] = setting((0,), "One run each")
    scale: tuple[float, float] = setting((0.0, 1.0), "Lowest and highest")
    kl: float | None = setting(None, "Stop there")
    size: int | Literal["all"] = setting("all", "Rows")
    name: str = setting("", "Name of the run")
    out: Path = setting(Path("out"), "Folder")
    colour: Colour = setting(Colour.RED, "Of the line")
    weights: dict[str, float] = setting({"a": 1.0}, "Per source")
    columns: list[str] = setting(["prompt"], "Read")
    rest: Mapping[str, Any] = setting({}, "Passed on")
    items: Sequence[int] = setting((), "Some")
    decoding: Decoding = field(default_factory=Decoding)
    second: Decoding | None = setting(None, "Another")
    derived: int = field(init=False, default=7)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps must be positive", found=self.steps, expected="1 or more", mend="Give more")
        if self.learning_rate < 0:
            raise ValueError("a rate below 0")


@dataclass(frozen=True)
class Needs:
    model: str = setting(help="Which model")


@pytest.mark.parametrize(
    ("key", "given", "made"),
    [
        ("learning_rate", "1e-5", 1e-5), ("learning_rate", 1, 1.0), ("learning_rate", ".5", 0.5),
        ("learning_rate", "inf", float("inf")),
        ("steps", "12", 12), ("steps", 1000.0, 1000), ("steps", "1e3", 1000),
        ("bf16", "true", True), ("bf16", "False", False), ("bf16", True, True),
        ("reduction", "mean", "mean"),
        ("seeds", "0,1, 2", (0, 1, 2)), ("seeds", [3], (3,)), ("seeds", "", ()), ("seeds", "4", (4,)),
        ("scale", "1,5", (1.0, 5.0)), ("scale", [0, 1], (0.0, 1.0)),
        ("kl", None, None), ("kl", "none", None), ("kl", "null", None), ("kl", "0.5", 0.5),
        ("size", "all", "all"), ("size", "7", 7), ("size", 7, 7),
        ("name", "1e-5", "1e-5"), ("name", "true", "true"), ("out", "a/b", Path("a/b")),
        ("colour", "blue", Colour.BLUE), ("colour", Colour.BLUE, Colour.BLUE),
        ("weights", {"b": 2}, {"b": 2.0}), ("columns", "a,b", ["a", "b"]), ("rest", {"x": {"y": 1}}, {"x": {"y": 1}}),
        ("items", [1, 2], [1, 2]),
        ("decoding", {"temperature": 0}, Decoding(0.0)), ("decoding", Decoding(0.5), Decoding(0.5)),
        ("decoding.temperature", "0.5", Decoding(0.5)), ("decoding.banned", "a,b", Decoding(banned=("a", "b"))),
        ("second", {"banned": ["x"]}, Decoding(banned=("x",))), ("second.temperature", "0", Decoding(0.0)),
    ],
)  # fmt: skip
def test_values(key, given, made):
    found = getattr(build(Config, {key: given}), key.split(".")[0])
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("learning_rate", "fast", "f.yaml: learning_rate: wrong type (found fast, expected number)"),
        ("learning_rate", True, "f.yaml: learning_rate: wrong type (found True, expected number)"),
        ("learning_rate", float("nan"), "f.yaml: learning_rate: wrong type (found nan, expected number)"),
        ("steps", 1.5, "f.yaml: steps: wrong type (found 1.5, expected whole number)"),
        ("steps", "inf", "f.yaml: steps: wrong type (found inf, expected whole number)"),
        ("bf16", "yes", "f.yaml: bf16: wrong type (found yes, expected true or false)"),
        ("bf16", 1, "f.yaml: bf16: wrong type (found 1, expected true or false)"),
        ("reduction", "maen", "f.yaml: reduction: no value named 'maen'. Did you mean 'mean'?"),
        ("reduction", 3, "f.yaml: reduction: not one of the allowed values (found 3, expected sum or mean)"),
        ("seeds", [0, "x"], "f.yaml: seeds.1: wrong type (found x, expected whole number)"),
        ("seeds", 3, "f.yaml: seeds: wrong type (found 3, expected list of whole number)"),
        ("scale", [1], "f.yaml: scale: wrong type (found [1], expected list of 2: number, number)"),
        ("size", "most", "f.yaml: size: wrong type (found most, expected whole number or 'all')"),
        ("name", 2020, "f.yaml: name: wrong type (found 2020, expected text). Put it in quotes"),
        ("weights", {"b": "x"}, "f.yaml: weights.b: wrong type (found x, expected number)"),
        ("weights", 1, "f.yaml: weights: wrong type (found 1, expected text to number)"),
        ("decoding", 3, "f.yaml: decoding: not a set of keys (found 3, expected temperature, banned)"),
        ("decoding", {"temprature": 1}, "f.yaml: decoding.temprature: no setting named 'temprature'. "
         "Did you mean 'temperature'?"),
        ("decoding.banned", [1], "f.yaml: decoding.banned.0: wrong type (found 1, expected text). Put it in quotes"),
        ("learning_rat", 1, "f.yaml: learning_rat: no setting named 'learning_rat'. Did you mean 'learning_rate'?"),
        ("derived", 1, "f.yaml: derived: no setting named 'derived'."),
        ("steps", 0, "f.yaml: steps must be positive (found 0, expected 1 or more). Give more"),
        ("learning_rate", -1, "f.yaml: a rate below 0"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_the_mend(key, given, message):
    with pytest.raises(InputError) as caught:
        build(Config, {key: given}, "f.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named_with_its_help():
    with pytest.raises(InputError) as caught:
        build(Needs, {}, "f.yaml")
    assert str(caught.value) == "f.yaml: the setting 'model' is missing (expected text). Which model"


def test_a_flag_wins_over_the_file_and_leaves_the_rest_of_it():
    file = {"decoding": {"temperature": 0.5, "banned": ["x"]}, "steps": 3}
    made = build(Config, {**file, "decoding.temperature": "0", "steps": "4"})
    assert (made.decoding, made.steps) == (Decoding(0.0, ("x",)), 4)
    assert file["decoding"] == {"temperature": 0.5, "banned": ["x"]}


def test_defaults_are_not_shared():
    one, other = build(Config, {}), build(Config, {})
    one.weights["b"] = 2.0
    assert other.weights == {"a": 1.0}


def test_errors_give_the_line(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("steps: 3\nstages:\n  reward:\n    decoding:\n      temperature: hot\n    seeds: [0,\n      x]\n")
    mapping, lines = read_yaml(path)
    inner = mapping["stages"]["reward"]
    with pytest.raises(InputError, match=r"f\.yaml:5: stages\.reward\.decoding\.temperature: wrong type"):
        build(Config, {"decoding": inner["decoding"]}, str(path), lines=lines, at="stages.reward")
    with pytest.raises(InputError, match=r"f\.yaml:7: stages\.reward\.seeds\.1: wrong type"):
        build(Config, {"seeds": inner["seeds"]}, str(path), lines=lines, at="stages.reward")
    with pytest.raises(UnknownName, match=r"f\.yaml:2: stages: no setting named 'stages'"):
        build(Config, mapping, str(path), lines=lines)
    with pytest.raises(InputError, match=r"f\.yaml:3: stages\.reward: the setting 'model' is missing"):
        build(Needs, {}, str(path), lines=lines, at="stages.reward")


def test_describe():
    rows = {row.name: row for row in describe(Config)}
    assert list(rows)[:2] == ["learning_rate", "steps"]
    assert rows["learning_rate"] == Setting("learning_rate", "number", 1e-5, "Peak rate", float)
    assert rows["decoding.temperature"] == Setting("decoding.temperature", "number", 1.0, "Zero is greedy", float)
    assert {name: rows[name].type for name in ("bf16", "reduction", "seeds", "kl", "colour", "weights", "rest")} == {
        "bf16": "true or false", "reduction": "'sum' or 'mean'", "seeds": "list of whole number",
        "kl": "number or none", "colour": "'red' or 'blue'", "weights": "text to number", "rest": "text to anything",
    }  # fmt: skip
    assert rows["weights"].default == {"a": 1.0}
    assert "derived" not in rows
    (model,) = describe(Needs)
    assert model.required
    assert model.default is MISSING


@given(
    st.builds(
        Config,
        learning_rate=st.floats(0, allow_infinity=False),
        steps=st.integers(1),
        bf16=st.booleans(),
        reduction=st.sampled_from(["sum", "mean"]),
        seeds=st.lists(st.integers()).map(tuple),
        kl=st.none() | st.floats(allow_nan=False),
        name=st.text(),
        colour=st.sampled_from(Colour),
    )
)
def test_what_is_written_as_flags_reads_back(config):
    flags = {
        "learning_rate": repr(config.learning_rate), "steps": str(config.steps), "bf16": str(config.bf16).lower(),
        "reduction": config.reduction, "seeds": ",".join(map(str, config.seeds)), "kl": str(config.kl).lower(),
        "name": config.name, "colour": config.colour.value,
    }  # fmt: skip
    assert build(Config, flags) == config
