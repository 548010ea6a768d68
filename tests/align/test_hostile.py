"""Bad data, rewards and numbers: one clear line, or an outcome that the state counts. Never an invented result."""

import json
import shutil

import numpy as np
import pytest
import torch

from pippin.align import loop, sources
from pippin.align.run import align, load_run
from pippin.core import catalog
from pippin.core.errors import Diverged, InputError
from pippin.core.types import Choice, Group, Outcome, Prompt, Response, Score, assistant, user
from pippin.feedback.collapse import Rule, collapse

METHODS = catalog.names("methods")
TRAINED = [m for m in METHODS if catalog.load("methods", m).terms]
SAMPLING = [m for m in TRAINED if catalog.load("methods", m).reads == "prompts"]
OFFLINE = [m for m in TRAINED if m not in SAMPLING]
PAIRED = [m for m in OFFLINE if catalog.load("methods", m).reads == "preferences"]
SCORED = [m for m in SAMPLING if m not in ("context_distillation", "ilf")]
BY_RATING = {"feedme": {"mode": "binary_pairs"}, "conditional": {"classes": "binary"}}


def train(bench, **more):
    return loop.train(bench.method, bench.context, bench.networks, **more)


def weights_are_finite(bench):
    return all(p.isfinite().all() for m in bench.networks.trained().values() for p in m.parameters())


def one_line(error):
    text = str(error.value)
    return "\n" not in text and len(text) < 2000 and "Traceback" not in text


def with_data(bench, groups, ties="drop"):
    """The bench on these groups in place of its own data."""
    bench.context.data = groups
    if bench.method.reads == "preferences":
        bench.context.preferences = [collapse(g.judgements, g.responses, Rule(ties=ties)).preferences for g in groups]
    return bench


def pair(prompt, chosen, rejected, stop="end"):
    """Two responses, which of them was chosen, and a rating of each."""
    a, b = (
        Response(prompt.id, assistant(t), by="crowd", sample=k, stop=stop) for k, t in enumerate((chosen, rejected))
    )
    said = (
        Choice(prompt.id, a.id, b.id, Outcome.FIRST, by="test"),
        Score(prompt.id, a.id, 2.0, "test"),
        Score(prompt.id, b.id, 1.0, "test"),
    )
    return Group(prompt, (a, b), said)


def rows(name, texts, stop="end"):
    """Data of the kind that an offline method reads, one row for each (prompt, chosen, rejected)."""
    out = []
    for prompt, chosen, rejected in texts:
        asked = Prompt(user(prompt))
        if catalog.load("methods", name).reads == "demonstrations":
            out.append(Group(asked, (Response(asked.id, assistant(chosen), by="crowd", stop=stop),)))
        else:
            out.append(pair(asked, chosen, rejected, stop))
    return out


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", TRAINED)
def test_a_weight_that_is_no_number_is_a_divergence_that_steps_nowhere(name, make_bench):
    bench = make_bench(name, max_steps=2)
    trained = next(iter(bench.networks.trained().values()))
    parameter = next(p for p in trained.parameters() if p.requires_grad and p.ndim > 1)
    steps = 1 if bench.method.reads == "prompts" else 0  # a policy of NaN draws nothing
    before = None

    def broken(line):
        with torch.no_grad():
            parameter.fill_(float("nan"))

    if steps:
        with pytest.raises((Diverged, InputError)) as stopped:
            train(bench, log=broken)
    else:
        broken(None)
        before = {k: v.clone() for k, v in trained.state_dict().items()}
        with pytest.raises(Diverged, match="not finite at step 1") as stopped:
            train(bench)
        assert all(torch.equal(v.nan_to_num(), before[k].nan_to_num()) for k, v in trained.state_dict().items())
    assert one_line(stopped)
    assert bench.context.ledger.steps == steps


def test_an_infinite_gradient_is_a_divergence(make_bench):
    bench = make_bench("sft")
    parameter = next(p for p in bench.networks.policy.model.parameters() if p.requires_grad)
    parameter.register_hook(lambda grad: torch.full_like(grad, float("inf")))
    with pytest.raises(Diverged, match="the gradient is not finite at step 1"):
        train(bench)
    assert weights_are_finite(bench)


def test_a_divergence_keeps_the_last_checkpoint_and_no_papers(make_bench, tmp_path):
    settings = {"learning_rate": 1e9, "max_grad_norm": 0.0, "num_train_epochs": 50, "save_steps": 1, "max_length": 64,
                "per_device_train_batch_size": 2, "watch_prompts": 0, "logging_steps": 1}  # fmt: skip
    data = make_bench("sft").context.data
    with pytest.raises(Diverged, match=r"last checkpoint is kept|max_loss"):
        align("sft", settings, model="world/base", data=data, out=tmp_path / "run")
    [kept] = (tmp_path / "run").glob("checkpoint-*")
    state = json.loads((kept / "state.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert state["progress"]["step"] == lines[-1]["step"] and np.isfinite(lines[-1]["loss"])
    assert not (tmp_path / "run" / "pippin_run.json").exists()


# ---------------------------------------------------------------------- data


@pytest.mark.parametrize("name", OFFLINE)
def test_data_of_which_nothing_fits_is_a_clear_stop(name, make_bench):
    bench = make_bench(name, max_length=2, **BY_RATING.get(name, {}))
    with pytest.raises(InputError) as stopped:
        train(bench)
    assert one_line(stopped)
    assert bench.context.state["dropped_rows"] == sum(len(g.responses) for g in bench.context.data)


@pytest.mark.parametrize("name", OFFLINE)
def test_one_row_empty_and_doubled_and_unended_ones_train(name, make_bench):
    texts = [("list three", "one two three", "no")] * 2 + [("say nothing", "", "much"), ("list", "one two", "")]
    for data in (rows(name, texts), rows(name, texts[:1]), rows(name, texts, stop="length")):
        bench = with_data(make_bench(name, learning_rate=1e-3, **BY_RATING.get(name, {})), data)
        before = bench.networks.policy.weights_digest
        progress = train(bench)
        assert progress.step >= 1 and weights_are_finite(bench)
        assert bench.networks.policy.weights_digest != before
        # an empty text without an end token is nothing to train on
        empty = sum(r.text == "" and r.stop == "length" for g in data for r in g.responses)
        assert bench.context.state.get("dropped_rows", 0) == empty


def test_a_response_without_an_end_token_is_trained_without_one(make_bench):
    ended, cut = (rows("sft", [("list", "one two", "")], stop) for stop in ("end", "length"))
    lengths = [
        len(sources.read(with_data(make_bench("sft"), data).context, [])[0].responses[0]) for data in (ended, cut)
    ]
    assert lengths[0] == lengths[1] + 1


@pytest.mark.parametrize("name", OFFLINE)
def test_prompts_longer_than_the_context_are_cut_and_counted(name, make_bench):
    long = "list " * 600  # the context has 512
    data = rows(name, [(long, "one two", "no"), ("list", "one two three", "no"), ("list two", "one " * 600, "no")])
    bench = with_data(make_bench(name, max_length=4096, **BY_RATING.get(name, {})), data)
    assert bench.context.max_length == 512
    train(bench)
    each = len(data[0].responses)
    assert bench.context.state["dropped_rows"] == each and bench.context.state["cut_rows"] == 1
    assert weights_are_finite(bench)


@pytest.mark.parametrize("name", SAMPLING)
def test_prompts_that_fill_the_context_are_left_out_and_counted(name, make_bench):
    bench = make_bench(name, max_steps=1)
    long = Prompt(user("list " * 600))
    bench.context.prompts = [long, *list(bench.context.prompts)[:5]]
    train(bench)
    assert bench.context.state["dropped_prompts"] >= 1 and weights_are_finite(bench)
    alone = make_bench(name, max_steps=1)
    alone.context.prompts = [long]
    with pytest.raises(InputError, match="no prompt leaves room"):
        train(alone)


@pytest.mark.parametrize("name", PAIRED)
def test_equal_chosen_and_rejected_move_no_margin(name, make_bench):
    """Methods of margins have no gradient from such a pair; methods of likelihood train on the text."""
    data = rows(name, [("list three", "one two", "one two"), ("list two", "one", "one")])
    bench = with_data(make_bench(name, learning_rate=1e-3, max_steps=1, **BY_RATING.get(name, {})), data)
    lines = []
    train(bench, log=lines.append)
    assert weights_are_finite(bench)
    assert all(np.isfinite(v) for line in lines for v in line.values())
    if name in ("dpo", "simpo", "reward_model"):
        assert lines[0]["grad_norm"] == pytest.approx(0, abs=1e-4)


# ---------------------------------------------------------------------- rewards

BAD_REWARDS = {
    "NaN": (lambda p, t: [float("nan")] * len(t), "not finite"),
    "infinity": (lambda p, t: [*[0.0] * (len(t) - 1), float("inf")], "not finite"),
    "None": (lambda p, t: [None, *[0.0] * (len(t) - 1)], "not finite.*None"),
    "text": (lambda p, t: ["good"] * len(t), "something else than numbers"),
    "too few": (lambda p, t: [0.0] * (len(t) - 1), "wrong number of values"),
    "lists": (lambda p, t: [[0.0, 1.0]] * len(t), "something else than numbers"),
}


@pytest.mark.parametrize("what", BAD_REWARDS)
def test_a_reward_that_gives_no_numbers_is_a_clear_stop(what, make_bench):
    reward, said = BAD_REWARDS[what]
    for name in ("rloo", "fine_grained") if what in ("NaN", "too few") else ("rloo",):
        bench = make_bench(name)
        bench.context.scorer = reward
        with pytest.raises(InputError, match=said) as stopped:
            train(bench)
        assert one_line(stopped) and bench.context.ledger.steps == 0


@pytest.mark.parametrize("name", [*SCORED, "ilf"])
def test_no_method_that_scores_takes_a_reward_of_nan(name, make_bench):
    bench = make_bench(name, **({"selection": "scorer"} if name == "ilf" else {}))
    bench.context.scorer = BAD_REWARDS["NaN"][0]
    with pytest.raises(InputError, match="not finite"):
        train(bench)


def test_whole_numbers_and_arrays_are_numbers(make_bench):
    context = make_bench("rloo").context
    prompts, texts = list(context.prompts[:3]), ["a", "bb", "ccc"]
    for said in ([1, 2, 3], [1.0, 2.0, 3.0], np.array([1, 2, 3]), [np.float32(k) for k in (1, 2, 3)], (True, 2, 3)):
        context.scorer = lambda prompts, texts, said=said: said
        values = sources.asked(context, prompts, texts)
        assert values.dtype == np.float64 and values.tolist() == [1.0, 2.0, 3.0]
    assert context.ledger.scorer_calls == 15


DECLARED = {
    # no gradient at all: the reward parts nothing, and at the start nothing else pulls
    "online_dpo": "none",
    "rloo": "none",
    "grpo": "none",
    "rso": "none",
    "slic_sample": "none",
    # the KL, the end of the text or the likelihood of samples that nobody preferred still train
    "ppo": "some",
    "fine_grained": "some",
    "quark": "some",
    "expert_iteration": "some",
}


@pytest.mark.parametrize("name", SCORED)
def test_rewards_that_are_all_equal_are_counted(name, make_bench):
    bench = make_bench(name, learning_rate=1e-2, max_steps=1, **({"beta": 0.0} if name in ("rloo", "grpo") else {}))
    bench.context.scorer = lambda prompts, texts: [0.3] * len(texts)
    before = bench.networks.policy.weights_digest
    train(bench)
    state = bench.context.state
    assert weights_are_finite(bench)
    assert state["rounds_of_equal_rewards"] == 1
    if name != "expert_iteration":  # of whose draws only those that ended were scored
        assert (state.get("groups_of_equal_rewards", 0) > 0) == (
            getattr(bench.context.config, "num_generations", 2) > 1
        )
    moved = bench.networks.policy.weights_digest != before
    assert name not in DECLARED or moved == (DECLARED[name] == "some")
    if "pair" in {f.__name__ for f in bench.method.pipeline} or name == "online_dpo":
        assert state["tied_groups"] > 0


GROUPS_OF_ONE = {
    "rloo": {"num_generations": 1},
    "grpo": {"num_generations": 1},
    "online_dpo": {"num_generations": 1},
    "rso": {"num_candidates": 1, "num_samples": 1},
    "slic_sample": {"num_candidates": 1},
}


@pytest.mark.parametrize("name", GROUPS_OF_ONE)
def test_a_group_of_one_has_nothing_to_be_compared_with(name, make_bench):
    bench = make_bench(name, **GROUPS_OF_ONE[name])
    with pytest.raises(InputError) as stopped:
        train(bench)
    assert one_line(stopped) and bench.context.ledger.steps == 0


def test_a_first_round_in_which_nothing_ended_is_a_clear_stop(make_bench):
    bench = make_bench("expert_iteration", max_completion_length=1)
    with pytest.raises(InputError, match="dropped_unended") as stopped:
        train(bench)
    assert one_line(stopped)


def test_a_later_round_of_which_nothing_is_said_is_an_empty_round(make_bench, tmp_path):
    bench, asked = make_bench("ilf", num_rounds=2, save_steps=100), []

    def feedback(prompts, texts):
        asked.append(len(texts))
        return ["too long" if len(asked) == 1 else ""] * len(texts)

    bench.context.feedback = feedback
    train(bench, folder=tmp_path)
    assert bench.context.state["empty_rounds"] == 1 and asked == [8, 8]


@pytest.mark.parametrize("name", [m for m in SAMPLING if m not in ("expert_iteration", "context_distillation", "ilf")])
def test_responses_that_were_all_cut_still_train(name, make_bench):
    bench = make_bench(name, max_completion_length=1, max_steps=1)
    train(bench)
    assert bench.context.ledger.steps == 1 and weights_are_finite(bench)


# ---------------------------------------------------------------------- reward models and functions


def test_a_reward_model_of_another_tokenizer_scores_texts(make_bench, tmp_path):
    """One of the same weights behind a tokenizer whose ids are permuted gives the same numbers for the same texts, and
    the critic does not start from it."""
    data = make_bench("reward_model").context.data
    align("reward_model", {"max_steps": 1, "max_length": 64}, model="world/base", data=data, out=tmp_path / "own")
    other = tmp_path / "other"
    permuted(tmp_path / "own", other)
    ends, scores = [], []
    prompts = make_bench("ppo").context.prompts[:6]
    for place in ("own", "other"):
        run = align(
            "ppo",
            {**make_bench.small["ppo"], "max_steps": 1, "watch_prompts": 0, "logging_steps": 1},
            model="world/base", prompts=prompts, reward=f"rm/{tmp_path / place}", out=tmp_path / f"ppo_{place}",
        )  # fmt: skip
        ends.append(run)
        scores.append(run.state["score_mean"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert "critic_from" not in ends[0].state
    assert load_run(tmp_path / "ppo_other")["state"]["critic_from"].startswith("the policy: the reward model has")


def permuted(source, target):
    """A reward model's folder with two words of its vocabulary exchanged, in tokenizer and weights."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    told = json.loads((target / "tokenizer.json").read_text())
    vocab = told["model"]["vocab"]
    special = {t["content"] for t in told["added_tokens"]}
    a, b = sorted((w for w in vocab if w not in special), key=vocab.__getitem__)[-2:]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (target / "tokenizer.json").write_text(json.dumps(told))
    for file in target.glob("*.safetensors"):
        tensors = load_file(file)
        for name, value in tensors.items():
            if ("embed_tokens" in name or "lm_head" in name) and value.ndim == 2:
                value[[vocab[a], vocab[b]]] = value[[vocab[b], vocab[a]]]
        save_file(tensors, file, metadata={"format": "pt"})


BAD_FUNCTIONS = {
    "raises": ("raise ValueError('no such row')", "ValueError: no such row"),
    "returns nothing": ("return None", "expected"),
    "returns one number": ("return 1.0", "expected"),
    "returns too few": ("return [1.0]", "wrong number"),
    "returns NaN": ("return [float('nan')] * len(completions)", "finite"),
    "returns None for some": ("return [None] + [1.0] * (len(completions) - 1)", "gave no score for 1 of"),
    "takes other arguments": ("pass", "TypeError"),
}


@pytest.mark.parametrize("name", ["rloo", "fine_grained"])
@pytest.mark.parametrize("what", BAD_FUNCTIONS)
def test_a_reward_function_that_fails_is_one_line_with_its_file(what, name, make_bench, tmp_path):
    body, said = BAD_FUNCTIONS[what]
    if name == "fine_grained" and what == "returns None for some":
        said = "neither a finite number nor segments"
    arguments = "x" if what == "takes other arguments" else "prompts, completions, **_"
    (tmp_path / "reward.py").write_text(f"def reward({arguments}):\n    {body}\n")
    with pytest.raises(InputError, match=said) as stopped:
        align(
            name, {**make_bench.small[name], "watch_prompts": 0}, model="world/base", out=tmp_path / "run",
            prompts=make_bench(name).context.prompts[:4], reward=f"python/{tmp_path / 'reward.py'}:reward",
        )  # fmt: skip
    assert one_line(stopped) and "reward.py" in str(stopped.value)
