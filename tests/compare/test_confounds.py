"""Confounds: whatever is planted is named, each by its field and nothing beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pippin.compare import confounds, fields
from pippin.compare.analyse import analyse
from pippin.compare.cells import Cell
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.core.run import write_json
from pippin.core.store import Store
from pippin.world import BASE

from .made_cells import Shelf, fill, named, other_tokenizer
from .studies import BATCH, SMALL, run_here, varied, write

Json = dict[str, Any]
SAMPLED = {**BATCH, "model": "$sft", "reward": "rule/longer", "max_steps": 2}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "home" / "store.db") as opened:
        yield opened


@pytest.fixture
def shelf():
    return Shelf()


def ipo(setting: Json, **changes: Any) -> Json:
    """SMALL with one more setting for one of its two arms."""
    return varied(settings={**SMALL["settings"], "ipo_like": {"beta": 0.5, **setting}}, **changes)


# ---------------------------------------------------------------------- planted in the study's file


def rows(path: Path, order: list[int], texts: str = "row {}") -> str:
    lines = [{"prompt": texts.format(k), "chosen": f"yes {k}", "rejected": f"no {k}"} for k in order]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def prompts(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return str(path)


def of_order(tmp: Path) -> Json:
    files = [rows(tmp / "a.jsonl", [0, 1, 2, 3]), rows(tmp / "b.jsonl", [3, 1, 0, 2])]
    return varied(settings={**SMALL["settings"], "dpo": {**SMALL["settings"]["dpo"], "data": files[0]},
                            "ipo_like": {"data": files[1]}})  # fmt: skip


def of_template(tmp: Path) -> Json:
    (tmp / "own.jinja").write_text("{{ messages[-1].content }}")
    return ipo({"template": str(tmp / "own.jinja")})


def of_leaks(**sets: str) -> Callable[[Path], Json]:
    return lambda tmp: varied(prompts=sets)


def of_normalised_leak(tmp: Path) -> Json:
    path = tmp / "own.jsonl"
    row = {"prompt": "name  A fruit ", "chosen": "a", "rejected": "b"}
    path.write_text(json.dumps(row) + "\n")
    test = prompts(tmp / "test.jsonl", ["Name a fruit", "Name a tree"])
    settings = {**SMALL["settings"], "dpo": {**SMALL["settings"]["dpo"], "data": str(path)}}
    return varied(settings=settings, prompts={"test": test})


def of_sft(**setting: Any) -> Callable[[Path], Json]:
    axes = {"method": {"sft": {"use": "$sft"}, "more": {"method": "sft"}, "own": {"method": "sft"}}}
    more = {**BATCH, "model": "$sft", "data": "world/demonstrations?n=32"}
    return lambda tmp: {**SMALL, "axes": axes, "settings": {"sft": more, "own": setting}}


def sampling(one: Json, other: Json, method: str = "rloo", **changes: Any) -> Callable[[Path], Json]:
    axes = {"method": {"sft": {"use": "$sft"}, "one": {"method": method}, "other": {"method": method}}}
    settings = {"sft": BATCH, method: SAMPLED, "one": one, "other": other}
    return lambda tmp: {**SMALL, "axes": axes, "settings": settings, **changes}


def labelled(judge: str) -> Callable[[Path], Json]:
    return lambda tmp: varied(judge=judge, stages={"feedback": {**SMALL["stages"]["feedback"], "judge": judge}})


def of_copied_reward(tmp: Path) -> Json:
    for name in ("reward", "copy"):
        (tmp / name).mkdir()
        (tmp / name / "model.safetensors").write_bytes(b"the same weights")
    reward = {"reward": f"rm/{tmp / 'reward'}"}
    return sampling(reward, reward, judge=f"rm/{tmp / 'copy'}")(tmp)


def of_tokenizer(tmp: Path) -> Json:
    axes = {"method": {"base": {"use": "base"}, "more": {"method": "sft"}, "own": {"method": "sft"}}}
    settings = {"sft": {**BATCH, "data": "world/demonstrations?n=32"}}
    settings["own"] = {"model": other_tokenizer(BASE, tmp / "other")}
    return {**SMALL, "axes": axes, "settings": settings, "baseline": "base"}


def outside(**said: Any) -> Callable[[Path], Json]:
    return lambda tmp: varied(external=[{"path": "world/sft", "name": "theirs", "method": "dpo", **said}])


def selected(tmp: Path) -> Json:
    axes = {"method": {"sft": {"use": "$sft"}, "best": {"method": "best_of_n"}}}
    best = {"model": "$sft", "reward": "rule/shorter", "candidates": [2, 4]}
    return {**SMALL, "axes": axes, "settings": {"sft": BATCH, "best": best}, "judge": "rule/longer"}


def two_starts(tmp: Path) -> Json:
    axes = {"method": {"sft": {"use": "$sft"}, "dpo": {"method": "dpo"}, "rloo": {"method": "rloo"}}}
    settings = {"sft": BATCH, "dpo": SMALL["settings"]["dpo"], "rloo": {**SAMPLED, "model": "base"}}
    return {**SMALL, "axes": axes, "settings": settings}


IN_FILE: dict[str, tuple[set[str], Callable[[Path], Json]]] = {
    "truncation": ({"truncation"}, lambda tmp: ipo({"max_length": 40})),
    "template": ({"template"}, of_template),
    "test prompts": ({"prompts.test"}, lambda tmp: ipo({"prompts_test": "world/heldout?n=16&seed=4"})),
    "length of answers": ({"decoding.max_tokens"}, lambda tmp: ipo({"max_tokens": 12})),
    "temperature": ({"decoding.temperature"}, lambda tmp: ipo({"decoding": {"temperature": 0.5}})),
    "top p": ({"decoding.top_p"}, lambda tmp: ipo({"decoding": {"top_p": 0.9}})),
    "answers a prompt": ({"decoding.n"}, lambda tmp: ipo({"decoding": {"n": 4}})),
    "precision": ({"precision"}, lambda tmp: ipo({"bf16": True})),
    "data": ({"data (preferences)"}, lambda tmp: ipo({"data": "$feedback2"}, stages={
        "feedback2": {**SMALL["stages"]["feedback"], "n": 2}})),
    "data order": ({"data order (preferences)"}, of_order),
    "start": ({"start (preferences)"}, lambda tmp: ipo({"model": "base"})),
    "start of what samples": ({"start (prompts)"}, two_starts),
    "base": ({"base", "start (preferences)"}, lambda tmp: ipo({"model": "world/sft"})),
    "tokenizer": ({"tokenizer"}, of_tokenizer),
    "masking": ({"masking"}, of_sft(train_on_prompt=True)),
    "demonstrations": ({"data (demonstrations)"}, of_sft(data="world/demonstrations?n=40")),
    "reward": ({"reward"}, sampling({}, {"reward": "rule/shorter"})),
    "training prompts": ({"prompts.train"}, sampling({}, {"prompts": "world/train?n=10"})),
    "judge": ({"judge"}, lambda tmp: ipo({"judge": "rule/shorter"}, judge="rule/longer")),
    "unequal trials": ({"tuning"}, outside(tuning={"trials": 20})),
    "tuned on test prompts": ({"tuning"}, outside(tuning={"trials": 20, "on": "test"})),
    "external truncation": ({"truncation"}, outside(truncation="keep start, 80 tokens")),
    "external data": ({"data (preferences)"}, outside(data="another set")),
    "external packing": ({"packing"}, outside(packing=True)),
    "external libraries": ({"library.torch"}, outside(**{"library.torch": "1.0"})),
    "external base": ({"base"}, outside(base="hf/another/model")),
    "train in test": ({"leaked prompts"}, of_leaks(test="world/train?n=12&seed=0")),
    "dev in test": ({"leaked prompts"}, of_leaks(test="world/dev?n=6&seed=0")),
    "train in dev": ({"leaked prompts"}, of_leaks(dev="world/train?n=6&seed=0")),
    "test in rows of data": ({"leaked prompts"}, of_normalised_leak),
    "judge rewarded": ({"judge in training"}, sampling({}, {}, judge="rule/longer")),
    "judge rewarded, a copy": ({"judge in training"}, of_copied_reward),
    "judge labelled": ({"judge in training"}, labelled("rule/longer")),
    "judge selected": ({"judge in training"}, selected),
    "judge of the family": ({"judge's family"}, lambda tmp: varied(judge="world/sft:vanilla")),
    "not matched": ({"match: steps"}, lambda tmp: varied(match={"steps": 50})),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_FILE)
def test_what_a_study_hides_is_named_and_nothing_else(kind, shelf, tmp_path):
    expected, study = IN_FILE[kind]
    said = study(tmp_path)
    assert named(said, tmp_path, shelf) == expected
    before = {c["field"] for c in confounds.ahead(plan(read_study(write(tmp_path, said))), Shelf())}
    assert before == expected - {"match: steps"}, "before anything is run"


# ---------------------------------------------------------------------- planted in what cells noted


def noted(kind: str, label: str, **change: Any) -> Callable[[Cell, Json], None]:
    """Another fact in the manifest of the cells of a kind whose label starts so."""

    def plant(cell: Cell, result: Json) -> None:
        if cell.kind == kind and cell.label.startswith(label):
            for key, value in change.items():
                old = result["manifest"].get(key)
                result["manifest"][key] = {**old, **value} if isinstance(old, dict) else value

    return plant


def unsaid(cell: Cell, result: Json) -> None:
    if cell.kind == "judge" and cell.label.startswith("ipo_like"):
        result["values"] = {p: [None] * len(v) for p, v in result["values"].items()}


def served(ipo_like: list[str], others: list[str]) -> Callable[[Cell, Json], None]:
    def plant(cell: Cell, result: Json) -> None:
        if cell.kind == "judge":
            mine = ipo_like if cell.label.startswith("ipo_like") else others
            result["manifest"]["judge.served"] = [["openai/judge", *name.split("#")] for name in mine]

    return plant


IN_CELLS: dict[str, tuple[set[str], Callable[[Cell, Json], None]]] = {
    "library of training": ({"library.transformers"}, noted("train", "ipo", **{"library.transformers": "3.0"})),
    "library of answers": ({"library.torch of answers"}, noted("respond", "ipo", library={"torch": "1.0"})),
    "library of verdicts": ({"library.numpy of verdicts"}, noted("judge", "ipo", library={"numpy": "1.0"})),
    "precision of answers": ({"precision of answers"}, noted("respond", "ipo", **{"precision of answers": "bfloat16"})),
    "device": ({"device of answers"}, noted("respond", "ipo", **{"device of answers": "cuda"})),
    "prefix": ({"decoding.prefix"}, noted("respond", "ipo", recipe={"prefix": "Sure:"})),
    "banned tokens": ({"decoding.banned"}, noted("respond", "ipo", recipe={"banned": ["no"]})),
    "best of n": ({"decoding.best_of"}, noted("respond", "ipo", recipe={"best_of": 8})),
    "collapse": ({"collapse"}, noted("train", "ipo", collapse="ties are dropped")),
    "judge version": ({"judge.config"}, noted("judge", "ipo", **{"judge.config": "as it was last week"})),
    "snapshot": ({"judge.served"}, served(["judge-2025#x"], ["judge-2024#x"])),
    "snapshots mixed": ({"judge.served"}, served(["judge-2025#x", "judge-2024#x"], ["judge-2025#x", "judge-2024#x"])),
    "local judge changed": ({"judge.served"}, served(["#weights1"], ["#weights2"])),
    "backend changed": ({"judge.served"}, served(["judge#x"], ["judge#y"])),
    "missing verdicts": ({"missing answers"}, unsaid),
    "data labelled by the judge": ({"judge in training"}, noted("train", "ipo", **{"labelled by": ["gold"]})),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_CELLS)
def test_what_cells_differ_in_is_named_and_nothing_else(kind, shelf, tmp_path):
    expected, plant = IN_CELLS[kind]
    assert named(SMALL, tmp_path, shelf, plant) == expected


@pytest.mark.parametrize("plant", [
    served(["judge#x", "judge#y"], ["judge#x", "judge#y"]),  # a server with two backends
    served(["judge#x", "judge#y"], ["judge#x"]),
    noted("train", "ipo", **{"library.aiohttp": "0.1"}),  # moves bytes
])  # fmt: skip
def test_what_tells_no_arm_from_another_is_not_named(plant, shelf, tmp_path):
    assert named(SMALL, tmp_path, shelf, plant) == set()


def test_an_arm_that_lost_a_seed_is_named(store, tmp_path):
    def plant(cell: Cell, result: Json) -> None:
        if cell.label == "ipo_like (seed 1)":
            result.clear()
            result["diverged"] = "the loss is not finite"

    made = plan(read_study(write(tmp_path, varied(seeds=[0, 1, 2]))))
    fill(made, store, plant)
    found = analyse(made, store, "pippin compare study.yaml")["confounds"]
    assert [c["field"] for c in found] == ["seeds"]
    assert found[0]["arms"]["ipo_like"] == "0, 2" and found[0]["arms"]["dpo"] == "0, 1, 2"
    assert "lower the learning rate" in found[0]["mend"]


def test_several_confounds_are_all_named(shelf, tmp_path):
    study = ipo({"max_length": 40, "bf16": True, "max_tokens": 12}, match={"steps": 50})
    plant = noted("judge", "ipo", **{"judge.config": "other"})
    expected = {"truncation", "precision", "decoding.max_tokens", "match: steps", "judge.config"}
    assert named(study, tmp_path, shelf, plant) == expected


ACROSS: dict[str, tuple[str, Json]] = {  # what one arm hides in a study that declares something else
    "truncation": ("truncation", {"max_length": 33}),
    "template": ("template", {"template": "TEMPLATE"}),
    "length of answers": ("decoding.max_tokens", {"max_tokens": 11}),
    "data": ("data (preferences)", {"data": "$other"}),
    "start": ("start (preferences)", {"model": "base"}),
    "test prompts": ("prompts.test", {"prompts_test": "world/heldout?n=8&seed=77"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACROSS)
@pytest.mark.parametrize("axes", [
    {"source": {"few": "world/demonstrations?n=24", "many": "world/demonstrations?n=32"}},
    {"base": {"small": "world/base", "tuned": "world/sft"}},
    {"decoding": {"cold": {"temperature": 0.3, "n": 1}, "hot": {"temperature": 1.2}}},
    {"labeller": ["simulated/world", "rule/first"]},
    {"judge": ["rule/shorter", "rule/length?target=5"]},
    {"recipe": {"short": {"bf16": True}, "long": {}}},
    {"learning_rate": [0.001, 0.01]},
])  # fmt: skip
def test_what_one_arm_hides_is_named_whatever_else_is_declared(axes, kind, shelf, tmp_path):
    field, hidden = ACROSS[kind]
    (tmp_path / "own.jinja").write_text("{{ messages[-1].content }}")
    hidden = {k: str(tmp_path / "own.jinja") if v == "TEMPLATE" else v for k, v in hidden.items()}
    labels = {axis: [*map(str, values)] for axis, values in axes.items()}
    study = {
        **SMALL,
        "axes": {**axes, "method": ["dpo", "kto"]},
        "stages": {
            "sft": {"method": "sft", "data": "$source" if "source" in axes else "world/demonstrations?n=32"},
            "feedback": {"respond": "$sft", "n": 3, "judge": "$labeller" if "labeller" in axes else "rule/first"},
            "other": {"respond": "$sft", "n": 2, "judge": "rule/first"},
        },
        "settings": {
            "sft": BATCH,
            **{m: {"model": "$sft", "data": "$feedback"} for m in ("dpo", "kto")},
            f"{next(iter(labels.values()))[1]}/kto": hidden,
        },
        "baseline": f"{next(iter(labels.values()))[0]}/dpo",
    }
    assert named(study, tmp_path, shelf) == {field}


@pytest.mark.parametrize("kind", ["data", "template", "test prompts", "start"])
def test_a_copy_under_another_name_is_the_same_thing(kind, shelf, tmp_path):
    files = [rows(tmp_path / name, [0, 1, 2]) for name in ("a.jsonl", "b.jsonl")]
    for name in ("a.jinja", "b.jinja"):
        (tmp_path / name).write_text("{{ messages[-1].content }}")
    tests = [prompts(tmp_path / name, ["Name a fruit", "Name a tree"]) for name in ("c.jsonl", "d.jsonl")]
    shutil.copytree(BASE, tmp_path / "copy")
    both = {
        "data": ({"data": files[0]}, {"data": files[1]}),
        "template": ({"template": str(tmp_path / "a.jinja")}, {"template": str(tmp_path / "b.jinja")}),
        "test prompts": ({"prompts_test": tests[0]}, {"prompts_test": tests[1]}),
        "start": ({"model": "base"}, {"model": str(tmp_path / "copy")}),
    }[kind]
    dpo = {**SMALL["settings"]["dpo"], **both[0]}
    study = {**SMALL, "axes": {"method": {"dpo": {"method": "dpo"}, "own": {"method": "dpo"}}}, "baseline": "dpo",
             "settings": {"sft": BATCH, "dpo": dpo, "own": both[1]}}  # fmt: skip
    assert named(study, tmp_path, shelf) == set()


def test_every_kind_that_is_listed_is_planted_somewhere():
    planted = set().union(*(expected for expected, _ in [*IN_FILE.values(), *IN_CELLS.values()]), {"seeds"})
    listed = {f.name for f in fields.FIELDS}
    reached = {fields.field_of(name).name for name in planted}
    alike = {name for name in listed if name.endswith(("(demonstrations)", "(prompts)"))}
    rest = listed - reached - alike
    assert rest == {"prompts.dev", "prompts.train order", "feedback", "post-processing"}, rest
    assert len(IN_FILE) + len(IN_CELLS) > 45


def test_a_trained_baseline_that_was_not_tuned_is_named(shelf, tmp_path):
    axes = {"method": {"dpo": {"method": "dpo"}, "ipo_like": {"method": "dpo"}}}
    search = {"search": {"learning_rate": [1e-4, 1e-3]}}
    made = read_study(write(tmp_path, varied(axes=axes, baseline="dpo", tuning=search) | {"axes": axes}))
    tried = replace(made, chosen={"ipo_like": {"learning_rate": 1e-3}})
    both = replace(made, chosen={"dpo": {"learning_rate": 1e-4}, "ipo_like": {"learning_rate": 1e-3}})
    for study, expected in ((tried, {"tuning"}), (both, set())):
        planned = plan(study)
        fill(planned, shelf)
        assert {c["field"] for c in confounds.of_plan(planned, shelf)[0]} == expected


# ---------------------------------------------------------------------- the same, really trained


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("real") / "store.db") as opened:
        yield opened


def with_prefix(tmp: Path) -> Json:
    """One arm starts from the same weights, whose recipe puts words into every answer."""
    shutil.copytree(BASE, tmp / "prefixed")
    write_json(tmp / "prefixed" / "pippin.json", {"decoding": {"prefix": "the "}})
    axes = {"method": {"base": {"use": "base"}, "one": {"method": "sft"}, "own": {"method": "sft"}}}
    one = {**BATCH, "data": "world/demonstrations?n=32", "max_steps": 1}
    return {**SMALL, "axes": axes, "baseline": "base",
            "settings": {"sft": one, "own": {"model": str(tmp / "prefixed")}}}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "study"),
    [("tokenizer", of_tokenizer), ("data order (preferences)", of_order), ("decoding.prefix", with_prefix)],
)
def test_what_is_planted_in_files_is_named_when_arms_are_really_trained(field, study, real, tmp_path):
    assert [c["field"] for c in run_here(write(tmp_path, study(tmp_path)), real)["confounds"]] == [field]
