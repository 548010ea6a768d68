"""``--plan``: what is said before a study is run."""

import pytest

from pippin.compare import calibration
from pippin.compare.calibration import Rates

STUDY = """\
question: Does it matter where answers are cut?
base: world/base
prompts: {test: "world/heldout?n=12&seed=0"}
evaluation: {max_tokens: 12}
axes: {method: {base: {use: base}, cut: {use: base, max_tokens: 3}}}
judge: gold
baseline: base
"""
RATES = Rates(parameters=378_432, start=60.0, load=0.02, row=1e-4, run=0.05, step=0.01, trained=1e-4, forward=2e-5,
              pass_=2e-3, drawn=3e-5, scored=4e-5, compared=1e-4, interval=0.05, length=15.0)  # fmt: skip


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    monkeypatch.setattr(calibration, "calibrated", lambda store, larger=False: (RATES, None))


def test_a_plan_says_what_it_takes_and_what_it_can_see(pippin, files):
    files("study.yaml", STUDY)
    told = pippin("compare", "study.yaml", "--plan", "--workers", 1)
    assert told.code == 0 and "8 of 8 cells to run" in told.out
    assert "CPU minutes" in told.out and "minutes with one process" in told.out
    assert "With 12 prompts and one seed a difference of" in told.out and "frozen" not in told.out
    made = pippin("compare", "study.yaml", "--plan", "--workers", 2, "--json", "-").json
    assert made["estimate"]["cells"] == {"to_run": 8, "stored": 0}
    cpu = made["estimate"]["cpu_seconds"]
    assert cpu["low"] < 120 < cpu["planned"] < cpu["high"]  # two workers are started, a minute each
    assert made["detectable"]["basis"] == "assumed" and made["frozen"] is None and made["design"] is None


def test_a_frozen_plan_is_named_and_what_changed_since(pippin, files):
    files("study.yaml", STUDY)
    assert "frozen: " in pippin("compare", "study.yaml", "--plan", "--freeze").out
    files("study.yaml", STUDY.replace("n=12", "n=14"))
    told = pippin("compare", "study.yaml", "--plan")
    assert told.code == 0 and "changed since: prompts.test" in told.out
    frozen = pippin("compare", "study.yaml", "--plan", "--json", "-").json["frozen"]
    assert frozen["data_seen_before"] is False
    assert {change["field"] for change in frozen["changed"]} == {"prompts.test", "prompts.test.hash"}


def test_a_judge_without_a_known_price_has_no_price(pippin, files):
    files("study.yaml", STUDY.replace("judge: gold", "judge: openai/nobody-knows"))
    told = pippin("compare", "study.yaml", "--plan")
    assert "not known" in told.out and "no price is known of openai/nobody-knows" in told.out
    priced = "judge: openai/nobody-knows?input=1000&output=1000"
    files("study.yaml", STUDY.replace("judge: gold", priced))
    assert "$" in pippin("compare", "study.yaml", "--plan").out


def test_a_fraction_of_the_points_says_what_it_cannot_tell_apart(pippin, files):
    axes = "axes: {method: {plain: {use: base}}, max_tokens: [3, 12], decoding: {cold: {temperature: 0.0}, warm: {}}}\n"
    study = STUDY.replace("axes: {method: {base: {use: base}, cut: {use: base, max_tokens: 3}}}\n", axes)
    files("study.yaml", study.replace("baseline: base", "baseline: plain/12/cold") + "design: one_factor\n")
    made = pippin("compare", "study.yaml", "--plan", "--json", "-").json
    assert {arm["name"] for arm in made["arms"]} == {"plain/12/cold", "plain/3/cold", "plain/12/warm"}
    assert made["design"]["points"] == 3 and "max_tokens 12, decoding cold" in made["design"]["sentence"]
