"""The study's schema for editors: it takes what the study takes, and refuses what the study refuses."""

import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # for studies.py

from studies import varied

from pippin.align.method import Training
from pippin.compare.demo import STUDY
from pippin.compare.schema import study_schema
from pippin.core import catalog

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(json.dumps(study_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


NEW = STUDY.with_name("templates") / "study.yaml"


@pytest.mark.parametrize("file", [STUDY, NEW, Path(__file__).parents[2] / "studies" / "methods.yaml"])
def test_real_studies_fit(validator, file):
    from pippin.core.config import read_yaml

    assert [error.message for error in validator.iter_errors(read_yaml(file)[0])] == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"quesion": "?"}, []),
        ({"seeds": "many"}, ["seeds"]),
        ({"axes": {"method": ["dop"]}}, ["axes", "method"]),
        ({"settings": {"dpo": {"betta": 0.1}}}, ["settings", "dpo"]),
        ({"settings": {"dpo": {"beta": "strong"}}}, ["settings", "dpo", "beta"]),
        ({"settings": {"dpo": {"loss_type": "sigmod"}}}, ["settings", "dpo", "loss_type"]),
        ({"stages": {"sft": {"model": "base"}}}, ["stages", "sft"]),
        ({"tuning": {"trails": 3}}, ["tuning"]),
        ({"external": [{"path": "x"}]}, ["external", 0]),
    ],
)
def test_mistakes_are_marked_where_they_stand(validator, change, place):
    errors = list(validator.iter_errors(varied(**change)))
    assert [list(error.absolute_path)[: len(place)] for error in errors] == [place]


def test_an_axis_may_stand_for_a_setting(validator):
    assert validator.is_valid(varied(settings={"dpo": {"beta": "$beta"}}, axes={"beta": [0.1, 0.5]}))


def test_every_setting_of_every_method_has_its_help():
    definitions = study_schema()["$defs"]
    for name in catalog.names("methods"):
        keys = definitions[f"method.{name}"]["properties"]
        own = {f.name for f in fields(catalog.load("methods", name).config)} | {f.name for f in fields(Training)}
        assert own <= set(keys) and all(keys[key]["description"] for key in keys)
    assert definitions["method.sft"]["properties"]["learning_rate"]["default"] == 2e-5


def test_the_schema_is_yaml_too():
    assert yaml.safe_load(json.dumps(study_schema()))["title"] == "A study of Pippin"
