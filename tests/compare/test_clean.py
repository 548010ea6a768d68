"""Clean studies, of many shapes, in which no confound may be found: what differs is declared, or a method's own."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pippin.compare import confounds, fields, manifests
from pippin.compare.analyse import analyse
from pippin.compare.cells import Cell
from pippin.compare.plan import plan
from pippin.compare.study import read_study
from pippin.core.store import Store

from .made_cells import MADE, Shelf, fill, named
from .studies import BATCH, SMALL, run_here, write

Json = dict[str, Any]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "home" / "store.db") as opened:
        yield opened


@pytest.fixture
def shelf():
    return Shelf()


READING = {
    "dpo": {"data": "$feedback"}, "kto": {"data": "$feedback"}, "orpo": {"data": "$feedback"},
    "rrhf": {"data": "$feedback"}, "conditional": {"data": "$feedback"}, "rloo": {"reward": "$scorer"},
    "quark": {"reward": "$scorer"}, "expert_iteration": {"reward": "$scorer"}, "best_of_n": {"reward": "$scorer"},
}  # fmt: skip
OTHER_AXES: list[Json] = [
    {}, {},
    {"source": {"few": "world/demonstrations?n=24", "many": "world/demonstrations?n=32"}},
    {"base": {"small": "world/base", "tuned": "world/sft"}},
    {"max_length": [40, 64]},
    {"decoding": {"cold": {"temperature": 0.3, "n": 1}, "hot": {"temperature": 1.2, "max_tokens": 20}}},
    {"labeller": ["simulated/world", "rule/first"]},
    {"scorer": ["rule/longer", "rule/length?target=5"]},
    {"prompts_test": {"one": "world/heldout?n=8&seed=1", "two": "world/heldout?n=8&seed=2"}},
    {"recipe": {"short": {"max_length": 40, "bf16": True}, "long": {"max_length": 80}}},
    {"pool": {"p": "world/train?n=8", "q": "world/train?n=12&seed=5"}},
]  # fmt: skip


def clean_study(k: int) -> Json:
    """A valid study in which nothing differs but what it declares."""
    rng = random.Random(k)
    more = rng.choice(OTHER_AXES)
    judge = rng.choice(["gold", "rule/shorter", "simulated/world"] if "labeller" not in more else ["gold"])
    stages: Json = {
        "sft": {"method": "sft", "data": "$source" if "source" in more else "world/demonstrations?n=32"},
        "feedback": {"respond": "$sft", "n": 3, "judge": "$labeller" if "labeller" in more else "rule/length?target=9",
                     **({"prompts": "$pool"} if "pool" in more else {})},
    }  # fmt: skip
    if rng.random() < 0.3:
        stages["first"] = {"method": "sft", "data": "world/demonstrations?n=40&seed=9"}
        stages["sft"]["model"] = "$first"
    methods = rng.sample(list(READING), rng.randint(1, 4))
    if "max_length" in more or "recipe" in more:
        methods = [m for m in methods if m != "best_of_n"] or ["dpo"]
    plain = {"sft": {"use": "$sft"}, **{m: {"method": m} for m in methods}}
    if rng.random() < 0.3:
        plain["own"] = {"method": "dpo", "max_length": 48, "data": "$feedback"}
        methods.append("dpo")
    settings: Json = {"sft": dict(BATCH)}
    for method in methods:
        reads = {key: value for key, value in READING[method].items() if "scorer" in more or value != "$scorer"}
        reads |= {"reward": "rule/longer"} if "reward" in READING[method] and "scorer" not in more else {}
        pool = {"prompts": "$pool"} if "pool" in more and "reward" in READING[method] else {}
        own = {} if method == "best_of_n" else {"learning_rate": rng.choice([1e-4, 1e-3])}
        settings[method] = {**own, "model": "$sft", **reads, **pool}
    used = {"scorer": any("reward" in READING[m] for m in methods), "pool": True, "labeller": True}
    if not used.get(next(iter(more), ""), True):
        more = {}
    study = {
        **SMALL,
        "prompts": {**SMALL["prompts"], "test": "world/heldout?n=8&seed=3"},
        "stages": stages, "settings": settings, "judge": judge,
        "axes": {**more, "method": plain} if rng.random() < 0.5 else {"method": plain, **more},
        "seeds": list(range(rng.randint(1, 3))),
        "tuning": rng.choice(["published", {"trials": 4, "on": "dev"}]),
        "baseline": "base" if rng.random() < 0.3 and not {"decoding", "prompts_test"} & set(more) else "sft",
        "reference": rng.choice(["", "$sft"]) if not {"source", "base"} & set(more) else "",
    }  # fmt: skip
    if not more and rng.random() < 0.8:
        told = {
            "base": "world/base",
            "tuning": study["tuning"],
            "truncation": "keep start, 1024 tokens",
            "precision": "float32",
        }
        study["external"] = [
            {"path": "world/sft", "name": "theirs", "method": rng.choice([m for m in plain if m != "own"]), **told}
        ]
    return study


@pytest.mark.parametrize("k", range(50))
def test_a_clean_study_has_no_confound(k, shelf, tmp_path):
    study = clean_study(k)
    assert named(study, tmp_path, shelf) == set(), study
    if k % 10 == 0:
        assert confounds.ahead(plan(read_study(write(tmp_path, study))), Shelf()) == [], "before anything is run"


def test_clean_studies_are_of_many_shapes():
    made = [clean_study(k) for k in range(50)]
    assert len({tuple(sorted(s["axes"])) for s in made}) > 8
    assert sum("external" in s for s in made) >= 5 and sum(len(s["seeds"]) > 1 for s in made) > 20
    assert len({method for s in made for method in s["settings"]}) == len(READING) + 1


OWNED = {  # control tokens, prefixes, banned tokens, best of n: the methods' own
    **SMALL,
    "prompts": {**SMALL["prompts"], "test": "world/heldout?n=8&seed=3"},
    "axes": {"method": {"sft": {"use": "$sft"}, "quark": {"method": "quark"}, "best": {"method": "best_of_n"}}},
    "settings": {
        "sft": {**BATCH, "max_steps": 1},
        "quark": {**BATCH, "model": "$sft", "reward": "rule/longer", "num_rounds": 1, "prompts_per_round": 4,
                  "max_completion_length": 8, "max_steps": 1},
        "best": {"model": "$sft", "reward": "rule/longer", "candidates": [2, 4], "max_completion_length": 8},
    },
    "evaluation": {"n": 1, "max_tokens": 8, "greedy": False},
}  # fmt: skip


def test_what_methods_own_is_no_confound_when_they_are_really_trained(store, tmp_path):
    results = run_here(write(tmp_path, OWNED), store)
    assert results["confounds"] == []
    made = plan(read_study(write(tmp_path, OWNED)))
    for cell in made.cells.values():
        real, drawn = store.cell(cell.key)["result"], MADE[cell.kind](cell, made)
        assert set(drawn) == set(real), cell.label
        assert set(drawn.get("manifest", ())) == set(real.get("manifest", ())), cell.label


@pytest.mark.slow
@pytest.mark.parametrize("axes", [
    {"base": {"small": "world/base", "tuned": "world/sft"}},
    {"source": {"few": "world/demonstrations?n=24", "many": "world/demonstrations?n=32"}},
    {"max_length": [40, 64]},
])  # fmt: skip
def test_what_axes_declare_is_no_confound_when_arms_are_really_trained(axes, store, tmp_path):
    stages = {**SMALL["stages"], "sft": {"method": "sft", "data": "$source"}} if "source" in axes else SMALL["stages"]
    study = {**SMALL, "axes": {**axes, **SMALL["axes"]}, "stages": stages, "seeds": [0, 1]}
    assert run_here(write(tmp_path, study), store)["confounds"] == []


@pytest.mark.parametrize("k", [3, 11])
def test_a_clean_study_has_no_confound_in_its_results(k, store, tmp_path):
    made = plan(read_study(write(tmp_path, clean_study(k))))
    fill(made, store)
    results = analyse(made, store, "pippin compare study.yaml")
    assert results["confounds"] == []
    json.dumps(results, allow_nan=False)


def test_every_field_of_a_manifest_is_in_the_list(shelf, tmp_path):
    made = plan(read_study(write(tmp_path, {**OWNED, "settings": {**OWNED["settings"]}})))
    fill(made, shelf)
    read = manifests.reader(shelf)
    for run in made.runs:
        flat = manifests.resolve(run, made, read)
        assert {"base", "tokenizer", "template", "prompts.test", "judge", "tuning"} <= set(flat)
        assert [f for f in flat if not f.startswith("method.") and fields.field_of(f) is None] == []


def test_answers_that_were_cut_are_noted_and_no_confound(shelf, tmp_path):
    def plant(cell: Cell, result: Json) -> None:
        if cell.kind == "respond" and cell.label.startswith("dpo"):
            result["share_without_end"] = 0.4

    made = plan(read_study(write(tmp_path, SMALL)))
    fill(made, shelf, plant)
    assert confounds.of_plan(made, shelf)[0] == []
    assert confounds.notes(made, shelf) == [
        "Answers that did not end within 16 tokens: 40% of dpo (seed 0, temperature 1); 40% of dpo (seed 0, greedy)."
    ]
