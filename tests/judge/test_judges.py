"""Every kind of judge, and how its name is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from judge_pairs import pair, pairs

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Choice, Group, Outcome, Prompt, Response, Score, assistant, user
from pippin.data.files import write_judgements
from pippin.judge.ask import Pair
from pippin.judge.resolve import is_path, members, resolve, split_strategy
from pippin.lm.scripted import Scripted

FIRST, SECOND, TIE = Outcome.FIRST, Outcome.SECOND, Outcome.TIE


def outcomes(spec: str, *shown: Pair, **options: object) -> list[Outcome]:
    return [c.outcome for c in resolve(spec, **options).compare(shown)]  # type: ignore[arg-type]


def world_pair(first: str = "blue , red", second: str = "red , blue") -> Pair:
    prompt = Prompt(user("sort from a to z : red , blue"), source="world")
    return Pair(prompt, Response(prompt.id, assistant(first)), Response(prompt.id, assistant(second)))


# ---------------------------------------------------------------- rules


def test_rules() -> None:
    long, equal = pair("?", "long", "no"), pair("?", "ab", "cd")
    assert outcomes("rule/longer", long, equal) == [FIRST, SECOND, TIE, TIE]
    assert outcomes("rule/shorter", long, equal) == [SECOND, FIRST, TIE, TIE]
    assert outcomes("rule/first", long) == [FIRST, FIRST]
    assert [s.value for s in resolve("rule/shorter").score([(long.prompt, long.first)])] == [-4.0]
    [choice, _] = resolve("rule/longer").compare([long])
    assert choice.strength == 2.0 and choice.by == "rule/longer"
    with pytest.raises(InputError, match="gives no numbers"):
        resolve("rule/first").score([(long.prompt, long.first)])


def test_length_is_all_that_one_rule_sees() -> None:
    rule = resolve("rule/length?target=4")
    texts = {"": 0.0, "a": 0.25, "a b\nc": 0.75, "a b c d": 1.0, "a b c d e": 0.75, "a " * 8: 0.0, "a " * 16: -2.0}
    prompt = Prompt(user("?"))
    said = rule.score([(prompt, Response(prompt.id, assistant(text))) for text in texts])
    assert [s.value for s in said] == list(texts.values())  # 1 - |words / target - 1|
    assert rule.info.name == "rule/length?target=4" == said[0].by
    near, far = pair("?", "three words here", "one two three four five six"), pair("?", "a b c", "a b c d e")
    assert outcomes("rule/length?target=4", near, far) == [FIRST, SECOND, TIE, TIE]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("rule/longr", "Did you mean 'longer'"),
        ("rul/longer", "no judge named 'rul'. Did you mean 'rule'"),
        ("glod", "Did you mean 'gold'"),
        ("nothing/like/it", "no model named"),
        (" ", "no judge is named"),
        ("rule/longer?x=1", "takes no settings"),
        ("rule/length", "target"),
        ("rule/length?target=0", "one word or more"),
        ("rule/length?target=long", "target: wrong type"),
        ("rule/length?targt=4", "Did you mean 'target'"),
        ("simulated/world?sharpnes=1", "Did you mean 'sharpness'"),
        ("simulated/world?sharpness=x", "sharpness: wrong type"),
        ("simulated/alpaca", "no simulated annotator named"),
        ("rm/nowhere", "no such reward model"),
        ("implicit/nowhere", "no such policy"),
        ("python/nowhere.py:f", "no such file"),
        ("python/nowhere.py", "expected python/FILE.py:function"),
        ("recorded/nowhere.jsonl", "no such file"),
    ],
)
def test_a_wrong_name_is_one_helpful_line(spec: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(spec)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_strategy_is_one_only_if_it_is_named_so() -> None:
    assert split_strategy("openai/llama3:8b") == ("openai/llama3:8b", "", {})
    assert split_strategy("openai/llama3:8b:vanilla") == ("openai/llama3:8b", "vanilla", {})
    assert split_strategy("openai/v2@http://host:8000/v1") == ("openai/v2@http://host:8000/v1", "", {})
    assert split_strategy("m:vanilla?thinking=9&run=1") == ("m", "vanilla", {"thinking": "9", "run": "1"})
    with pytest.raises(UnknownName, match="Did you mean 'metrics_reference'"):
        split_strategy("openai/gpt-4o:metric_reference")
    model = Scripted(["(a)"] * 9, "m:8b")
    judge = resolve("m:8b:vanilla_norules", models={"m:8b": model})
    assert judge.info.name == "m:8b:vanilla_norules" and judge.info.models == {"judge": "m:8b"}
    assert resolve("m:8b", models={"m:8b": model}).info.name == "m:8b:vanilla"
    assert resolve("m:8b:vanilla", models={"m:8b": model}, strategy="vanilla_norules").info.name.endswith("norules")
    with pytest.raises(UnknownName, match="Did you mean 'vanilla'"):
        resolve("m:8b", models={"m:8b": model}, strategy="vanila")


def test_panels() -> None:
    assert members("a + b:vanilla") == ["a:vanilla", "b:vanilla"]
    assert is_path("./a+b") and not is_path("a+b")
    long = pair("?", "long", "no")
    assert outcomes("rule/longer+rule/first+rule/longer", long) == [FIRST, SECOND]
    assert outcomes("rule/longer+rule/shorter", long) == [TIE, TIE]
    judge = resolve("rule/longer+rule/first")
    said = judge.compare([long])
    assert [c.outcome for c in said] == [FIRST, TIE] and [c.p_first for c in said] == [1.0, 0.5]
    assert len(said[0].parents) == 2 and judge.info.name == "rule/longer+rule/first"


def test_a_judge_s_file_says_the_rest(tmp_path: Path) -> None:
    long, file = pair("?", "long", "no"), tmp_path / "jury.yaml"
    file.write_text("panel: [rule/longer, rule/first, rule/shorter]\nweights: [1, 1, 3]\n")
    assert outcomes(str(file), long) == [SECOND, FIRST]
    assert resolve(str(file)).compare([long])[0].p_first == pytest.approx(0.4)
    models = {name: Scripted(lambda r, name=name: f"{name} {r.key.role}" if r.key.role != "judge" else "(a)", name)
              for name in ("big", "small")}  # fmt: skip
    file.write_text("model: small\nstrategy: metrics_reference\nmodels: {reference: big}\nsettings: {thinking: 7}\n")
    judge = resolve(str(file), models=models)
    assert {c.outcome for c in judge.compare([long], orders=["first"])} == {FIRST}
    assert (models["small"].asked, models["big"].asked) == (2, 1)
    assert judge.info.models == {"judge": "small", "reference": "big"} and judge.info.name.endswith("?thinking=7")
    for text, said in (("model: a\npanel: [b]", "not both"), ("panel: [rule/first]\nweights: [0]", "above 0"),
                       ("modle: a", "Did you mean 'model'")):  # fmt: skip
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            resolve(str(file))


def test_a_silent_member_is_left_out() -> None:
    models = {name: Scripted(lambda _, name=name: name, name) for name in ("(a)", "hm")}
    assert {c.outcome for c in resolve("(a)+hm", models=models).compare([pair()])} == {FIRST}
    assert {c.outcome for c in resolve("hm+hm", models=models).compare([pair()])} == {Outcome.UNPARSED}


# ---------------------------------------------------------------- gold and the world


def test_gold_is_the_benchmark_s_label() -> None:
    shown = pair()
    label = Choice(shown.prompt.id, shown.first.id, shown.second.id, SECOND, "gold")
    group = Group(shown.prompt, (shown.first, shown.second), (label, Choice(*_ids(shown), FIRST, "somebody")))
    assert outcomes("gold", shown, groups=[group]) == [SECOND, FIRST]
    assert outcomes("gold", shown) == [Outcome.ABSTAINED] * 2


def _ids(shown: Pair) -> tuple[str, str, str]:
    return shown.prompt.id, shown.first.id, shown.second.id


def test_gold_is_the_verifier_in_the_world() -> None:
    from pippin.world.tasks import prompts

    prompt = prompts("dev", 1, 0)[0]
    wrong = Response(prompt.id, assistant("!!"))
    [score] = resolve("gold").score([(prompt, wrong)])
    assert score.value == 0.0 and score.scale == (0.0, 1.0)
    from pippin.world.people import answer
    from pippin.world.tasks import parse, stream

    right = Response(prompt.id, assistant(answer(parse(prompt.text), stream(0, "t", prompt.id))))
    assert outcomes("gold", Pair(prompt, wrong, right)) == [SECOND, FIRST]


def test_simulated_annotators_are_drawn_by_seed_and_pair() -> None:
    from pippin.world.people import adversarial_pairs

    shown = []
    for p in adversarial_pairs(300, 0):
        one, two = (Response(p.prompt.id, assistant(text)) for text in (p.first, p.second))
        shown.append(Pair(p.prompt, one, two))
    judge = resolve("simulated/world?sharpness=3", seed=5)
    said = judge.compare(shown)
    assert judge.compare(shown[::-1])[::2] == said[::2][::-1]  # the order of the batch changes nothing
    assert resolve("simulated/world?sharpness=3&seed=5").compare(shown[:20]) != resolve(
        "simulated/world?sharpness=3&seed=6"
    ).compare(shown[:20])
    # Calibrated: the share of FIRST is the mean of the stated probabilities, within four standard errors.
    expected = sum(c.p_first or 0.0 for c in said) / len(said)
    got = sum(c.outcome is FIRST for c in said) / len(said)
    error = math.sqrt(sum((c.p_first or 0) * (1 - (c.p_first or 0)) for c in said)) / len(said)
    assert abs(got - expected) < 4 * error
    sharp = resolve("simulated/world?sharpness=1000").compare(shown)
    truth = resolve("gold").compare(shown)
    assert [c.outcome for c in sharp] == [c.outcome for c in truth]
    with pytest.raises(InputError, match="only prompts of the world"):
        judge.compare([pair()])


# ---------------------------------------------------------------- functions, recordings, models that score


def test_a_python_function(tmp_path: Path) -> None:
    file = tmp_path / "reward.py"
    file.write_text(
        "def words(prompts, completions, **kw):\n    return [len(c.split()) for c in completions]\n"
        "def turns(prompts, completions, **kw):\n    return [len(c[-1]['role']) for c in completions]\n"
        "def odd(prompts, completions, **kw):\n    return [None] + ['x'] * (len(completions) - 1)\n"
        "def few(prompts, completions, **kw):\n    return [1]\n"
    )
    shown = pair("?", "one two", "one")
    assert outcomes(f"python/{file}:words", shown) == [FIRST, SECOND]
    assert outcomes(f"python/{file}:turns?conversational=true", shown) == [TIE, TIE]
    assert [s.outcome for s in resolve(f"python/{file}:odd").score([(shown.prompt, shown.first)])] == [
        Outcome.ABSTAINED
    ]
    for name, said in (("odd", "something else than a number"), ("few", "wrong number of values"), ("word", "'words'")):
        with pytest.raises(InputError, match=said):
            resolve(f"python/{file}:{name}").compare([shown])


def test_recordings(tmp_path: Path) -> None:
    one, two = pairs(2)
    path = tmp_path / "said.jsonl"
    mine = [Choice(*_ids(one), FIRST, "me"), Score(two.prompt.id, two.first.id, 3.0, "me")]
    write_judgements(path, mine)
    judge = resolve(f"recorded/{path}")
    assert judge.info.name == "me"
    assert [c.outcome for c in judge.compare([one, two])] == [FIRST] + [Outcome.ABSTAINED] * 3  # never counted twice
    assert [s.value for s in judge.score([(two.prompt, two.first), (one.prompt, one.first)])] == [3.0, None]
    write_judgements(path, [*mine, Choice(*_ids(one), SECOND, "you")])
    with pytest.raises(InputError, match=r"several authors.*\?by=NAME"):
        resolve(f"recorded/{path}")
    assert outcomes(f"recorded/{path}?by=you", one) == [SECOND, Outcome.ABSTAINED]
    with pytest.raises(UnknownName, match="Did you mean 'you'"):
        resolve(f"recorded/{path}?by=yo")


def test_scores_that_are_missing_abstain(tmp_path: Path) -> None:
    file = tmp_path / "reward.py"
    file.write_text("def f(prompts, completions, **kw):\n    return [None, 1.0]\n")
    assert outcomes(f"python/{file}:f", pair()) == [Outcome.ABSTAINED] * 2


def test_each_response_is_scored_once(tmp_path: Path) -> None:
    file = tmp_path / "count.py"
    file.write_text("def f(prompts, completions, **kw):\n    return [float(len(completions))] * len(completions)\n")
    first = pair("?", "a", "b")
    second = Pair(first.prompt, first.first, Response(first.prompt.id, assistant("c")))
    choices = resolve(f"python/{file}:f").compare([first, second])
    assert {c.outcome for c in choices} == {TIE}
    assert resolve(f"python/{file}:f").score([(first.prompt, first.first)])[0].value == 1.0


def test_implicit_reward_is_the_scaled_log_ratio(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from pippin.lm.hf import load_policy
    from pippin.world import BASE

    if not (BASE / "config.json").is_file():
        pytest.skip("the world's base model is not built")
    trained = load_policy("world/base")
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.mul_(1.01)
    folder = tmp_path / "run"
    trained.save(folder)
    with pytest.raises(InputError, match=r"implicit/PATH\?reference=MODEL"):
        resolve(f"implicit/{folder}")
    (folder / "pippin_run.json").write_text(json.dumps({"manifest": {"model": "world/base"}}))
    shown = world_pair()
    judge = resolve(f"implicit/{folder}?beta=0.5")
    rows = [(shown.prompt, shown.first), (shown.prompt, shown.second)]
    base = load_policy("world/base")
    expected = [
        0.5 * (trained.logprobs([p.messages], [r.text])[0].total - base.logprobs([p.messages], [r.text])[0].total)
        for p, r in rows
    ]
    assert [s.value for s in judge.score(rows)] == pytest.approx(expected, abs=1e-4)
    assert judge.info.models["reference"] == "world/base"


def test_reward_models_are_loaded_from_their_folder(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pippin.lm.hf import load_policy
    from pippin.lm.reward import Gauge, RewardModel
    from pippin.world import BASE

    if not (BASE / "config.json").is_file():
        pytest.skip("the world's base model is not built")
    reference, policy = load_policy("world/base"), load_policy("world/base")
    import torch

    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.01)
    model = RewardModel("logratio", policy, reference=reference, beta=2.0, gauge=Gauge(1.0, 2.0, 8, "p"))
    model.save(tmp_path / "rm")
    shown = world_pair()
    rows = [(shown.prompt, shown.first), (shown.prompt, shown.second)]
    scores = [s.value for s in resolve(f"rm/{tmp_path / 'rm'}").score(rows)]
    assert scores == pytest.approx(model.score([p.messages for p, _ in rows], [r.text for _, r in rows]), abs=1e-5)
    assert outcomes(f"rm/{tmp_path / 'rm'}", shown)[0] is (FIRST if (scores[0] or 0) > (scores[1] or 0) else SECOND)
