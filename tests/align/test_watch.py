"""A run's looks at itself: they change nothing, come back after a resume, and say what was planted."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pippin.align import looking, watch
from pippin.align.run import align, load_run
from pippin.align.settings import Settings
from pippin.align.watch import Look
from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Outcome, Response, assistant
from pippin.feedback.collapse import collapse
from pippin.world import tasks

FEW = {"per_device_train_batch_size": 2, "max_length": 64, "logging_steps": 1, "learning_rate": 1e-3}


def rows(folder):
    return [json.loads(line) for line in (folder / looking.FILE).read_text().splitlines()]


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(looking, "SHARE", 1e6)


@pytest.fixture
def eye(make_bench, tmp_path):
    """A watch over a small method's networks, as the run builds it."""

    def make(name="dpo", first=True, dear=(), **settings):
        bench = make_bench(name, **({"watch_prompts": 6} | settings))
        kept = looking.first_policy(bench.networks) if first else None
        return bench, looking.Watch(bench.context, bench.method, kept, tmp_path, frozenset(dear))

    return make


def shaken(model, size=0.05):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(size * p.std() * torch.randn(p.shape, generator=generator))


@pytest.mark.parametrize(("name", "more"), [("dpo", {}), ("sft", {"use_peft": True}), ("rloo", {"num_rollouts": 2})])
def test_watching_changes_neither_weights_nor_books(name, more, make_bench, tmp_path, often):
    bench = make_bench(name)
    settings = {**make_bench.small.get(name, {}), **FEW, **more}
    given = {"data": bench.context.data, "prompts": bench.context.prompts, "reward": "rule/shorter"}
    runs = [
        align(name, {**settings, "watch_prompts": n}, model="world/base", out=tmp_path / str(n), **given)
        for n in (0, 4)
    ]
    weights = "adapter_model.safetensors" if more.get("use_peft") else "model.safetensors"
    off, on = ((run.folder / weights).read_bytes() for run in runs)
    assert on == off
    assert (
        runs[0].metrics == runs[1].metrics and runs[0].state == runs[1].state and runs[0].manifest == runs[1].manifest
    )
    books = [{k: v for k, v in run.ledger.to_row().items() if k not in ("wall_clock", "peak_memory")} for run in runs]
    assert books[0] == books[1]
    assert "watch" not in load_run(runs[0].folder) and not (runs[0].folder / looking.FILE).exists()
    said = load_run(runs[1].folder)["watch"]
    assert said == runs[1].watch and len(said["looks"]) > 2
    assert said["on"] == "training prompts" and said["cost"]["tokens"] > 0
    first, last = said["looks"][0], said["looks"][-1]
    assert (first["step"], last["step"]) == (0, runs[1].ledger.steps)
    assert first["kl"]["value"] == 0 < last["kl"]["value"]
    assert first["proxy"]["low"] <= first["proxy"]["value"] <= first["proxy"]["high"]


def test_a_cut_run_has_the_looks_of_a_whole_one(make_bench, tmp_path, often):
    data = make_bench("sft").context.data
    settings = {**FEW, "save_steps": 2, "watch_prompts": 4, "per_device_train_batch_size": 1}

    class Killed(Exception):
        pass

    def report(line):
        if line["step"] == 5:
            raise Killed

    whole = align("sft", settings, model="world/base", data=data, reward="rule/longer", out=tmp_path / "whole")
    given = {"model": "world/base", "data": data, "reward": "rule/longer", "out": tmp_path / "cut"}
    with pytest.raises(Killed):
        align("sft", settings, **given, report=report)
    assert [row["step"] for row in rows(tmp_path / "cut")] == [0, 1, 2, 3]
    cut = align("sft", settings, **given)
    assert [row["step"] for row in rows(tmp_path / "whole")] == [0, 1, 2, 3, 5, 8]
    assert (tmp_path / "cut" / looking.FILE).read_bytes() == (tmp_path / "whole" / looking.FILE).read_bytes()
    for run in (whole, cut):
        run.watch["cost"].pop("seconds")
    assert cut.watch == whole.watch


def test_looks_stay_within_their_share_of_the_tokens(eye):
    bench, seen = eye("sft", watch_prompts=2)
    trained = {}
    for step in range(200):
        trained[step] = bench.context.ledger.gradient_tokens
        seen.observe(step)
        bench.context.ledger.add(gradient_tokens=300)
    spent, steps = np.cumsum([look.tokens for look in seen.looks]), [look.step for look in seen.looks]
    assert steps[0] == 0 and len(steps) > 4
    for total, look in list(zip(spent, seen.looks, strict=True))[1:]:
        assert total + look.tokens <= 1.5 * looking.SHARE * trained[look.step]  # looks are not equally long
    assert all(b >= looking.GROWTH * a for a, b in pairwise(steps))


def brute_kl(policy, first, group, plain_ids):
    """KL of one response's distributions by the model's own logits, position by position."""
    response = list(group.responses[0])
    sides = []
    for model, ahead in ((policy.model, list(group.prompt_ids)), (first.model, list(plain_ids))):
        logits = model(input_ids=torch.tensor([ahead + response])).logits[0]
        sides.append(logits[len(ahead) - 1 : len(ahead) + len(response) - 1])
    return sides


@pytest.mark.parametrize("name", ["sft", "quark"])
def test_the_kl_is_that_of_the_logits(name, eye):
    bench, seen = eye(name)
    policy = bench.context.policy
    shaken(policy.model)
    groups, _ = looking.draw(bench.context, seen.groups, 2)
    kl, _ = seen._kl(groups)
    control = list(bench.context.control.values())
    for k, group in enumerate(groups):
        plain = policy.chat.prompt_ids(group.prompt.messages)
        assert (len(plain) < len(group.prompt_ids)) == bool(control)  # the first policy reads no control token
        sides = brute_kl(policy, seen.first, group, plain)
        for side in sides:
            side[:, control] = -torch.inf
        a, b = (side.double().log_softmax(-1) for side in sides)
        terms = torch.where(a.exp() > 0, a.exp() * (a - b), torch.zeros(()).double())
        assert kl[k] == pytest.approx(terms.sum().item(), rel=1e-3, abs=1e-5)
        assert kl[k] > 0


def test_draws_are_the_same_at_every_look(eye):
    bench, seen = eye()
    bench.context.round = 0
    one, _ = looking.draw(bench.context, seen.groups, 3)
    bench.context.round = 7
    two, _ = looking.draw(bench.context, seen.groups, 3)
    assert [g.responses for g in one] == [g.responses for g in two]
    assert bench.context.ledger.policy_tokens_sampled == 0 and bench.context.state == {}


def test_development_prompts_come_first_and_all_are_distinct(eye):
    bench, seen = eye()
    assert seen.on == "development prompts"
    assert {g.prompt.id for g in seen.groups} <= {p.id for p in bench.context.development}
    bench.context.development = ()
    bench.context.data = [*bench.context.data, *bench.context.data]
    groups, on, left_out = looking.prompts_of(bench.context, bench.method)
    assert on == "training prompts" and left_out == 0
    assert len({g.prompt.id for g in groups}) == len(groups) == 6


def test_a_dear_judge_is_asked_first_and_last_only(eye, often):
    bench, seen = eye(dear={"gold"})
    calls = []
    bench.context.evaluate = lambda prompts, texts: calls.append(len(texts)) or [float(len(t)) for t in texts]
    for step in range(5):
        seen.observe(step)
        bench.context.ledger.add(gradient_tokens=100)
    assert [look.step for look in seen.looks] == [0, 1, 2, 3]
    assert [look.gold is not None for look in seen.looks] == [True, False, False, False]
    said = seen.finish(3)  # the last look left it out, so it is taken again, whole
    assert calls == [24, 24]
    assert [row["step"] for row in said["looks"]] == [0, 1, 2, 3] == [row["step"] for row in rows(seen.folder)]
    assert said["looks"][-1]["gold"]["n"] == 6


def test_a_judge_without_numbers_is_absent_and_says_why(eye, often):
    bench, seen = eye()

    def refuse(prompts, texts):
        raise InputError("compares two responses and gives no numbers")

    bench.context.scorer, bench.context.evaluate = refuse, None
    seen.observe(0)
    said = seen.finish(1)
    assert "no numbers" in said["absent"]["proxy"] and "proxy" not in said["looks"][0]
    assert "correlation" not in said and said["change"]["length"]["value"] == 0
    assert not any("proxy" in line for line in watch.lines(said))


def test_without_a_reference_the_kl_is_absent(eye, monkeypatch):
    bench, seen = eye("sft", first=False)
    seen.observe(0)
    said = seen.finish(1)
    assert "kl" not in said["looks"][-1] and "too large" in said["absent"]["kl"]
    assert any(line.startswith("no KL: ") for line in watch.lines(said))
    monkeypatch.setattr(looking, "COPIED", 1000)
    assert looking.first_policy(bench.networks) is None


def test_weights_that_left_the_numbers_are_not_looked_at(eye, often):
    bench, seen = eye("sft")
    seen.observe(0)
    with torch.no_grad():
        next(bench.context.policy.model.parameters()).fill_(float("nan"))
    seen.observe(1)
    said = seen.finish(2)
    assert [row["step"] for row in said["looks"]] == [0]
    assert "no finite probabilities" in said["absent"]["last"]


def test_the_best_round_put_back_is_looked_at_again(make_bench, tmp_path):
    bench = make_bench("rloo")
    settings = {**make_bench.small["rloo"], **FEW, "num_rollouts": 3, "eval_steps": 1, "load_best_model_at_end": True}
    (tmp_path / "judge.py").write_text(
        "calls = []\ndef fall(prompts, completions, **_):\n"
        "    calls.append(1)\n    return [-float(len(calls))] * len(completions)\n"
    )
    run = align("rloo", {**settings, "watch_prompts": 2}, model="world/base", prompts=bench.context.prompts,
                reward="rule/shorter", development=tasks.prompts("dev", 4, 0),
                judge=f"python/{tmp_path / 'judge.py'}:fall", out=tmp_path / "run")  # fmt: skip
    assert run.metrics["best_round"] == 1
    assert run.watch["looks"][-1]["kept"] == "best round" and run.watch["looks"][-1]["step"] == run.ledger.steps


def test_best_of_n_is_looked_at_once(make_bench, tmp_path):
    prompts = tasks.prompts("dev", 20, 0)
    settings = {"candidates": (4,), "max_completion_length": 12, "watch_prompts": 16}
    run = align("best_of_n", settings, model="world/base", reward="rule/longer", judge="gold", development=prompts,
                out=tmp_path / "run")  # fmt: skip
    said = run.watch["looks"]
    assert [row["n"] for row in said] == [1, 2, 4]
    assert [row["kl"]["value"] for row in said] == pytest.approx([np.log(n) - (n - 1) / n for n in (1, 2, 4)], abs=1e-6)
    assert said[0]["proxy"]["value"] < said[1]["proxy"]["value"] < said[2]["proxy"]["value"]
    assert said[0]["length"]["value"] < said[2]["length"]["value"]  # the longest of four
    assert run.watch["cost"]["proxy_calls"] == run.watch["prompts"] * 4 == 64
    assert run.watch["kl"].startswith("bound") and run.ledger.policy_tokens_sampled == 0
    assert "(bound)" in watch.lines(run.watch)[1]


def pairs_of(count):
    """Pairs of a short and a long response; the long one is preferred in three of five."""
    for k, prompt in enumerate(tasks.prompts("train", count, 0)):
        texts = ("one", "one | two | six .")
        short, long = (Response(prompt.id, assistant(t), sample=i, stop="end") for i, t in enumerate(texts))
        outcome = Outcome.SECOND if k % 5 > 1 else Outcome.FIRST
        yield Group(prompt, (short, long), (Choice(prompt.id, short.id, long.id, outcome, by="test"),))


def test_a_reward_model_is_watched_on_its_pairs(tmp_path):
    run = align("reward_model", FEW, model="world/base", data=list(pairs_of(10)), out=tmp_path / "run")
    said = load_run(tmp_path / "run")["watch"]
    assert said == run.watch and (said["pairs"], said["responses"]) == (10, 20)
    assert said["longer_wins"]["labels"]["value"] == pytest.approx(0.6)
    assert "labels 0.60 [" in watch.lines(said)[-1]
    off = align("reward_model", {**FEW, "watch_prompts": 0}, model="world/base", data=list(pairs_of(10)),
                out=tmp_path / "off")  # fmt: skip
    assert off.watch == {}


def test_scores_that_like_length_more_than_labels_do_are_warned_of():
    groups = list(pairs_of(60))
    stated = [collapse(g.judgements, g.responses).preferences for g in groups]
    lengths = [1, 7] * 60
    said = watch.reward_summary([0.1, 0.9] * 60, lengths, groups, stated)
    assert said["longer_wins"]["scores"]["value"] == 1 and said["correlation"]["last"]["value"] == pytest.approx(1)
    assert said["accuracy"]["where the longer is preferred"]["value"] == 1
    assert said["accuracy"]["where the shorter is"]["value"] == 0
    assert watch.lines(said)[-1] == "warning: the scores prefer the longer response more often than the labels do"
    fair = watch.reward_summary([0.1, 0.9, 0.9, 0.1] * 30, lengths, groups, stated)
    assert fair["warnings"] == [] and fair["correlation"]["last"]["value"] == pytest.approx(0)


def planted(kl, proxy, gold, length=None, prompts=60, draws=4, seed=0, noise=0.3):
    """Looks whose means follow these curves, with spread between prompts and draws."""
    rng = np.random.default_rng(seed)
    shape = (prompts, draws)
    ease, out = rng.normal(size=(prompts, 1)), []
    for step, (d, p, g) in enumerate(zip(kl, proxy, gold, strict=True)):
        size = np.full(shape, 40.0) if length is None else length[step] + rng.integers(-10, 11, shape)
        scores = [level + ease + noise * rng.normal(size=shape) for level in (p, g)]
        out.append(Look(step, 100, np.round(size), np.ones(shape, bool), np.full(prompts, d), *scores))
    return out, [f"p{k}" for k in range(prompts)]


def said_of(looks, ids):
    return watch.summary(looks, ids, on="test prompts", kl="planted")


def test_a_fall_of_gold_under_a_rising_proxy_is_said():
    kl = np.array([0, 0.2, 0.5, 1, 2, 4, 8, 16.0])
    d = np.sqrt(kl)
    gold = d * (1.0 - 0.8 * np.log(np.maximum(d, 1e-9)))  # peaks at d = exp(1/0.8 - 1)
    said = said_of(*planted(kl, d, gold * (kl > 0)))
    top = np.exp(1 / 0.8 - 1)
    assert said["fit"]["peak"]["kl"]["value"] == pytest.approx(top**2, rel=0.15) and said["fit"]["peak"]["seen"]
    assert said["best_gold"]["step"] == 4 or said["best_gold"]["step"] == 3
    assert any(
        w.startswith(f"proxy rose and gold fell after KL {said['best_gold']['kl']['value']:.2f}")
        for w in said["warnings"]
    )
    assert said["gap"]["low"] > 0.5
    assert "the fitted curve peaks at KL" in "\n".join(watch.lines(said))


def test_noise_alone_is_no_fall():
    kl = np.linspace(0, 4, 12)
    found = [said_of(*planted(kl, np.linspace(0, 1, 12), np.zeros(12), seed=seed))["warnings"] for seed in range(12)]
    assert sum(bool(w) for w in found) <= 1


def test_a_rise_has_no_peak_inside_what_was_seen():
    kl = np.array([0, 0.5, 1, 2, 4.0])
    said = said_of(*planted(kl, np.sqrt(kl), np.sqrt(kl)))
    assert said["fit"]["peak"] is None and not said["warnings"]
    assert "no peak inside what was seen" in watch.lines(said)[-1]


def test_two_looks_make_no_curve():
    said = said_of(*planted([0, 1.0, 2.0], [0, 1, 2], [0, 1, 1.5]))
    assert "fit" not in said and "too few looks" in said["absent"]["fit"]


def test_a_peak_before_the_first_look_was_not_seen():
    kl = np.array([0, 4.0, 6, 8, 10])
    said = said_of(
        *planted(kl, np.sqrt(kl), np.sqrt(kl) * (1 - 0.8 * np.log(np.maximum(np.sqrt(kl), 1e-9))), noise=0.05)
    )
    assert said["fit"]["peak"] is not None and not said["fit"]["peak"]["seen"]
    assert not any("the fitted curve peaks" in line for line in watch.lines(said))


def test_a_gain_that_is_length_alone_is_said():
    looks, ids = planted([0, 1.0, 2.0], [0, 0, 0], [0, 0, 0], length=[100, 103, 108], noise=0.05)
    looks = [replace(k, proxy=0.5 * np.floor(k.length / 10)) for k in looks]
    said = said_of(looks, ids)
    assert said["length_share"]["bucket"] == 10 and said["correlation"]["first"]["value"] > 0.9
    assert said["length_share"]["share"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert any("length explains 100 % [" in w and w.endswith("of the gain in proxy") for w in said["warnings"])
    fair = [replace(k, proxy=1.0 * k.step + 0.01 * k.length) for k in looks]
    assert not any("length explains" in w for w in said_of(fair, ids)["warnings"])


def test_scores_that_never_vary_leave_reasons_not_numbers():
    looks, ids = planted([0, 1.0, 2.0, 3.0], [0] * 4, [0] * 4)
    said = said_of([replace(k, gold=np.zeros_like(k.gold), proxy=None) for k in looks], ids)
    assert "do not vary" in said["absent"]["fit"] and "no proxy" in said["absent"]["gap"]
    assert said["correlation"]["first"] is None
    json.dumps(said, allow_nan=False)


def test_a_look_comes_back_from_its_row():
    (look, *_), _ = planted([0.1], [1.0], [2.0], prompts=3, draws=2)
    row = look.to_row()
    again = Look.from_row(json.loads(json.dumps(row)))
    assert again.to_row() == row and again.ended.dtype == bool


@pytest.mark.parametrize("count", [-1, 1])
def test_one_prompt_gives_no_interval(count):
    with pytest.raises(InputError, match="watch_prompts"):
        from pippin.core import catalog

        Settings.of("dpo", catalog.load("methods", "dpo"), {"watch_prompts": count})
