"""Methods that learn from given data: what their papers say of special cases, what layouts make of judgements."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from pippin.align import layouts, loop, sources, terms
from pippin.align.methods import chain_of_hindsight, conditional, kto, slic
from pippin.align.shapes import Batch, Tensors, collate
from pippin.core.errors import InputError
from pippin.core.types import (
    Choice,
    Group,
    Message,
    Outcome,
    Prompt,
    Response,
    Sampling,
    Score,
    assistant,
    user,
)
from pippin.feedback.collapse import Rule, collapse
from pippin.lm.hf import load_policy

ASKED = ["list three animals", "list two fruits", "sort fig ant bear", "copy red blue"]
ANSWERS = ["ant , bear , cat", "fig , lemon", "ant bear fig , hat", "red"]


def group(k, texts, judge=(), reference=None):
    """The k-th prompt with these answers; ``judge`` makes judgements from the responses."""
    prompt = Prompt(user(ASKED[k % len(ASKED)] + (" " + ANSWERS[k // len(ASKED)] if k >= len(ASKED) else "")),
                    reference=reference)  # fmt: skip
    responses = tuple(Response(prompt.id, assistant(t), by="crowd", sample=i, stop="end") for i, t in enumerate(texts))
    return Group(prompt, responses, tuple(judge(prompt, responses)) if judge else ())


def first_wins(prompt, responses, **more):
    return [Choice(prompt.id, responses[0].id, responses[1].id, Outcome.FIRST, "test", **more)]


def scores(*values, by="test", criterion="overall"):
    def judge(prompt, responses):
        given = zip(responses, values, strict=True)
        return [Score(prompt.id, r.id, float(v), by, criterion) for r, v in given if v is not None]

    return judge


def pairs():
    return [group(k, (ANSWERS[k], ANSWERS[(k + 1) % 4]), first_wins) for k in range(4)]


def of(make_bench, name, groups, **settings):
    """A bench of this method on these groups."""
    bench = make_bench(name, **settings)
    bench.context.data = groups
    if bench.method.reads == "preferences":
        bench.context.preferences = [
            collapse(g.judgements, g.responses, Rule(ties="half", probabilities="stated")).preferences for g in groups
        ]
    return bench


def pull(bench):
    """Loss and flat gradient over all groups as one batch."""
    pool = loop._prepare(bench.method, bench.context, bench.networks, None)
    active = [t for t in bench.method.terms if t.active(bench.context.config)]
    training = replace(bench.context.training, per_device_train_batch_size=len(pool.groups))
    loss, metrics, _ = loop.accumulate(
        active, bench.networks, pool, pool.groups, bench.context.config, training, bench.method.couple
    )
    named = [p for m in bench.networks.trained().values() for p in m.parameters()]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in named])
    return loss, flat, {k: torch.cat(v) for k, v in metrics.items()}


def move(bench):
    """The policy, a little away from its reference."""
    with torch.no_grad():
        for p in bench.networks.policy.model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * p.abs().mean()


def same(one, two):
    assert one[0] == pytest.approx(two[0], abs=1e-5)
    torch.testing.assert_close(one[1], two[1], atol=1e-5, rtol=1e-4)
    assert one[1].abs().max() > 1e-4


def batch_of(bench):
    return loop._prepare(bench.method, bench.context, bench.networks, None).batch


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------ what is read


def test_reading_attaches_what_was_said(make_bench):
    sampled = Response("", assistant("no"), by="model", sample=9, sampling=Sampling())
    full = group(0, ANSWERS[:3], scores(1, 3, 2))
    part = group(1, ANSWERS[:3], lambda p, r: [*scores(1, None, 2)(p, r), *scores(1, 0, None, criterion="label")(p, r)])
    two = group(2, ANSWERS[:2], lambda p, r: [*scores(1, 2, by="a")(p, r), *scores(5, 6, by="b")(p, r),
                                              *scores(9, None, by="c")(p, r)])  # fmt: skip
    told = group(3, ANSWERS[:2], lambda p, r: first_wins(p, r, strength=-2.0))
    shown = replace(group(4, ANSWERS[:1]), judgements=())
    shown = replace(shown, responses=(*shown.responses, replace(sampled, prompt_id=shown.prompt.id)))
    bench = of(make_bench, "reward_model", [full, part, two, told, shown])
    read = sources.read(bench.context, [])
    np.testing.assert_equal(read[0].scores, [1, 3, 2])
    assert read[1].scores is None
    np.testing.assert_equal(read[1].stated["overall"], [1, np.nan, 2])
    np.testing.assert_equal(read[1].stated["label"], [1, 0, np.nan])
    np.testing.assert_equal(read[2].scores, [3, 4])  # the mean of the authors who scored every response
    assert read[3].strengths == (2.0,) and read[3].preferences[0].i == 0
    assert [sorted(g.demonstrations) for g in read] == [[], [], [], [], [0]], "a draw of a policy is no demonstration"
    kept = read[1].keep([2, 0])
    np.testing.assert_equal(kept.stated["overall"], [2, 1])
    assert read[3].keep([0]).strengths == () and read[4].keep([1, 0]).demonstrations == {1}


def test_a_response_of_several_turns_follows_its_own_turns(make_bench):
    prompt = Prompt(user(ASKED[0]))
    turns = (Message("assistant", "ant"), Message("user", "list two fruits"), Message("assistant", "fig , lemon"))
    long, short = Response(prompt.id, turns, sample=0, stop="end"), Response(prompt.id, assistant("cat"), sample=1)
    bench = of(make_bench, "sft", [Group(prompt, (long, short))])
    chat = bench.context.policy.chat
    rows = batch_of(bench).examples
    for row, (before, text) in zip(rows, [((*prompt.messages, *turns[:2]), "fig , lemon"), (prompt.messages, "cat")],
                                   strict=True):  # fmt: skip
        ids, mask = chat.example(before, text)
        assert (list(row.ids), list(row.mask)) == (ids, mask)
    [alone] = sources.read(of(make_bench, "sft", [Group(prompt, (long,))]).context, [])
    assert alone.prompt_ids == chat.prompt_ids(prompt.messages) and sum(alone.masks[0]) == 4
    bench = of(make_bench, "sft", [Group(prompt, (long, short))], assistant_only_loss=True)
    rows = batch_of(bench).examples
    assert (list(rows[0].ids), list(rows[0].mask)) == chat.conversation((*prompt.messages, *turns))
    assert sum(rows[0].mask) == 6, "ant, its end, fig , lemon, and its end"


def test_sft_trains_on_what_it_is_told(make_bench):
    talk = Prompt((*user("list two fruits"), *assistant("fig"), *user("copy red blue")))
    data = [Group(talk, (Response(talk.id, assistant("red blue"), stop="end"),))]
    masks = {}
    for name in ("", "assistant_only_loss", "train_on_prompt"):
        row = batch_of(of(make_bench, "sft", data, **({name: True} if name else {}))).examples[0]
        masks[name] = row.mask
        assert row.mask[0] == 0
    assert sum(masks[""]) == 3 and sum(masks["assistant_only_loss"]) == 5
    assert sum(masks["train_on_prompt"]) == len(masks["train_on_prompt"]) - 1
    with pytest.raises(InputError, match="every token"):
        make_bench("sft", train_on_prompt=True, assistant_only_loss=True)


def test_sft_reductions_are_what_cross_entropy_gives(make_bench):
    data = [group(k, ANSWERS[k : k + 1]) for k in range(4)]
    bench = of(make_bench, "sft", data)
    batch = batch_of(bench)
    x = collate(batch, 0)
    with torch.no_grad():
        logits = bench.networks.policy.model(x.ids_N_T, attention_mask=x.attention_N_T).logits[:, :-1]
    target = x.ids_N_T[:, 1:].masked_fill(~x.mask_N_T[:, 1:], -100)
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none", ignore_index=-100)
    length = x.mask_N_T.sum(-1)
    expected = {
        "token": nll.sum() / length.sum(),
        "seq_sum": nll.sum(-1).mean(),
        "seq_mean": (nll.sum(-1) / length).mean(),
    }
    assert len(set(length.tolist())) > 1
    for reduction, value in expected.items():
        assert pull(of(make_bench, "sft", data, reduction=reduction))[0] == pytest.approx(float(value), abs=1e-5)


# ------------------------------------------------------------------ pairs


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"loss_type": "robust", "label_smoothing": 0.1}, math.log(2)),
        ({"loss_type": "hinge"}, 1.0),
        ({"loss_type": "ipo", "beta": 0.5}, 1.0),
        ({"loss_type": "ipo", "beta": 0.25, "ipo_average": True}, 4.0),
    ],
)
def test_the_first_loss_of_each_dpo_type(settings, first, make_bench):
    loss, grad, metrics = pull(of(make_bench, "dpo", pairs(), **settings))
    assert loss == pytest.approx(first, abs=1e-5) and grad.abs().max() > 0
    assert metrics["rewards/margins"].abs().max() < 1e-5


def test_each_dpo_type_is_its_function_of_the_margin(make_bench):
    log = torch.nn.functional.logsigmoid
    types = {
        "sigmoid": lambda x: -0.9 * log(x) - 0.1 * log(-x),
        "robust": lambda x: (-0.9 * log(x) + 0.1 * log(-x)) / 0.8,
        "hinge": lambda x: (1 - x).clamp(min=0),
        "ipo": lambda x: (x / 0.4 - 1 / 0.8) ** 2,
    }
    for kind, function in types.items():
        smoothing = 0.1 if kind in ("sigmoid", "robust") else 0.0
        bench = of(make_bench, "dpo", pairs(), loss_type=kind, beta=0.4, label_smoothing=smoothing)
        move(bench)
        loss, _, said = pull(bench)
        assert said["rewards/margins"].abs().min() > 1e-3
        assert loss == pytest.approx(function(said["rewards/margins"]).mean().item(), abs=1e-4), kind


def test_dpo_with_likelihood_is_dpo_and_sft_on_the_chosen(make_bench):
    both = pull(of(make_bench, "dpo", pairs(), rpo_alpha=0.5))
    alone = pull(of(make_bench, "dpo", pairs()))
    fitted = pull(of(make_bench, "sft", [replace(g, responses=g.responses[:1]) for g in pairs()]))
    same(both, (alone[0] + 0.5 * fitted[0], alone[1] + 0.5 * fitted[1]))


def test_settings_of_another_loss_type_are_refused(make_bench):
    for settings in ({"loss_type": "ipo", "label_smoothing": 0.1}, {"ipo_average": True}, {"label_smoothing": 0.5}):
        with pytest.raises(InputError):
            make_bench("dpo", **settings)


def test_hinges_scale_into_each_other_and_end_at_the_margin():
    gap, one = t(-3.0, 0.0, 4.0, 9.9, 10.0, 12.0).requires_grad_(True), torch.ones(6, dtype=torch.float64)
    beta = 0.1
    torch.testing.assert_close(terms.hinge(beta * gap, one), beta * terms.hinge(gap, one, 1 / beta))
    (slope,) = torch.autograd.grad(terms.hinge(gap, one, 10.0).sum(), gap)
    assert slope.tolist() == [-1, -1, -1, -1, 0, 0]
    assert terms.hinge(t(0.0), t(1.0), 0.0).item() == 0


def test_slic_without_its_rank_term_is_sft_on_the_chosen(make_bench):
    chosen = [replace(g, responses=g.responses[:1]) for g in pairs()]
    fitted = pull(of(make_bench, "sft", chosen, reduction="seq_sum"))
    same(pull(of(make_bench, "slic", pairs(), delta=-1e6, reg_coef=1.0)), fitted)


def test_slic_is_held_to_demonstrations_and_references_where_there_are_some(make_bench):
    data = pairs()
    data[1] = group(1, (ANSWERS[1], ANSWERS[2]), first_wins, reference="lemon , fig")
    data[2] = group(2, (*ANSWERS[2:4], "ant bear"), first_wins)  # a third one that nobody judged
    batch = batch_of(of(make_bench, "slic", data))
    chat = load_policy("world/base").chat
    targets = {chat.decode([i for i, m in zip(e.ids, e.mask, strict=True) if m]): e.value["target"]
               for e in batch.examples if e.value["target"]}  # fmt: skip
    assert targets == {ANSWERS[0]: 1, "lemon , fig": 1, "ant bear": 1, ANSWERS[3]: 1}
    only = batch_of(of(make_bench, "slic", data, target="chosen"))
    assert [e.value["target"] for e in only.examples] == [1, 0] * 4 and len(batch.examples) == 10
    assert {t.name for t in slic.TERMS} == {"rank", "target"}


def test_log_odds_at_every_size():
    mean = t(-1e-5, -0.01, -0.5, -0.6931, -0.7, -3.0, -40.0)
    expected = [x - math.log(-math.expm1(x)) for x in mean.tolist()]
    np.testing.assert_allclose(terms.log_odds(mean), expected, rtol=1e-9)
    certain = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(terms.log_odds(certain).sum(), certain)
    assert torch.isfinite(slope).all()


def test_orpo_is_sft_plus_the_odds_ratio(make_bench):
    chosen = [replace(g, responses=g.responses[:1]) for g in pairs()]
    same(pull(of(make_bench, "orpo", pairs(), beta=0.0)), pull(of(make_bench, "sft", chosen, reduction="seq_mean")))
    loss, _, said = pull(of(make_bench, "orpo", pairs(), beta=0.5))
    odds = torch.nn.functional.logsigmoid(said["log_odds_chosen"]).mean()
    per_row = pull(of(make_bench, "sft", chosen, reduction="seq_mean"))[0]
    assert loss == pytest.approx(per_row - 0.5 * odds.item(), abs=1e-5)


CONTRASTIVE = [
    ("dpo", {}), ("dpo", {"loss_type": "robust", "label_smoothing": 0.1}), ("dpo", {"loss_type": "ipo"}),
    ("dpo", {"loss_type": "hinge"}), ("simpo", {}), ("cpo", {"cpo_alpha": 0.0}),
    ("cpo", {"cpo_alpha": 0.0, "loss_type": "hinge"}), ("slic", {"reg_coef": 0.0}), ("kto", {}),
    ("pro", {"sft_weight": 0.0}), ("reward_model", {}), ("reward_model", {"loss_type": "best_of_k"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), CONTRASTIVE)
def test_equal_responses_teach_nothing(name, settings, make_bench):
    _, grad, _ = pull(of(make_bench, name, [group(k, (ANSWERS[k],) * 2, first_wins) for k in range(3)], **settings))
    assert grad.abs().max() < 3e-5


# ------------------------------------------------------------------ lists


def test_rrhf_by_hand_and_where_the_order_already_agrees():
    reward, p = t(1.0, 0.2, 0.8), t(-0.8, -0.5, -0.9).requires_grad_(True)
    ordered = torch.tensor([[i, j] for i in range(3) for j in range(3) if reward[i] > reward[j]])
    loss = terms.rrhf(p, ordered).sum()
    assert loss.item() == pytest.approx(0.70)
    (slope,) = torch.autograd.grad(loss, p)
    assert slope.tolist() == [-1, 2, -1], "through violated pairs only"
    assert terms.rrhf(reward, ordered).sum() == 0


def test_rrhf_on_single_responses_is_sft_and_reads_rewards_for_their_order(make_bench):
    single = [group(k, ANSWERS[k : k + 1], scores(k)) for k in range(4)]
    same(pull(of(make_bench, "rrhf", single)), pull(of(make_bench, "sft", single, reduction="seq_sum")))
    lists = [group(k, ANSWERS[:3], scores(*v)) for k, v in enumerate([(3, 1, 2), (1, 1, 2), (5, 4, -1)])]
    curved = [group(k, ANSWERS[:3], scores(*(math.exp(x) for x in v))) for k, v in
              enumerate([(3, 1, 2), (1, 1, 2), (5, 4, -1)])]  # fmt: skip
    same(pull(of(make_bench, "rrhf", lists)), pull(of(make_bench, "rrhf", curved)))


def test_rrhf_as_published_divides_by_the_padded_length(make_bench):
    data = [group(0, ANSWERS[:2], scores(1, 0)), group(1, ANSWERS[2:4], scores(0, 1))]
    paper, compat = of(make_bench, "rrhf", data), of(make_bench, "rrhf", data, repo_compat=True)
    said = pull(paper)[2]
    loss, _, told = pull(compat)
    rows = batch_of(paper).examples
    padded = [max(len(e.ids) for e in rows if e.group == g) for g in (0, 1)]
    for key in ("rewards/chosen", "rewards/rejected"):
        torch.testing.assert_close(told[key], said[key.replace("rewards", "logps")] / torch.tensor(padded))
    expected = (told["rewards/rejected"] - told["rewards/chosen"]).clamp(min=0) - told["rewards/chosen"]
    assert loss == pytest.approx(expected.mean().item(), abs=1e-5)


def test_pro_identities():
    score, reward = t(-0.8, -1.4, -0.3, -0.9), t(2.0, 1.0, 0.5, -1.0)
    two = terms.pro(score[:2], terms.temperatures(reward[:2]))
    gap = (score[0] - score[1]) * (reward[0] - reward[1])
    torch.testing.assert_close(two[0], -torch.nn.functional.logsigmoid(gap))
    torch.testing.assert_close(
        terms.pro(score, terms.temperatures(reward)), terms.pro(score, terms.temperatures(reward + 7))
    )
    plackett_luce = sum(torch.logsumexp(score[k:], 0) - score[k] for k in range(3))
    torch.testing.assert_close(terms.pro(score, torch.ones(4, 4, dtype=torch.float64)).sum(), plackett_luce)
    leaf = score.clone().requires_grad_(True)
    flat = terms.pro(leaf, terms.temperatures(torch.full((4,), 3.0, dtype=torch.float64)))
    assert len(flat) == 3 and flat.sum().item() == pytest.approx(math.log(math.factorial(4)))
    assert torch.autograd.grad(flat.sum(), leaf)[0].abs().max() == 0


def test_pro_scales_its_rewards_and_weighs_likelihood_by_the_list(make_bench):
    data = [group(k, ANSWERS[:3], scores(*v)) for k, v in enumerate([(3, 1, 2), (1, 6, 2)])]
    tenfold = [group(k, ANSWERS[:3], scores(*(10 * x for x in v))) for k, v in enumerate([(3, 1, 2), (1, 6, 2)])]
    settings = {"standardise": True, "sft_weight": 0.05}
    same(pull(of(make_bench, "pro", data, **settings)), pull(of(make_bench, "pro", tenfold, **settings)))
    with_nll, without = (pull(of(make_bench, "pro", data, sft_weight=w)) for w in (0.05, 0.0))
    best = [replace(g, responses=(g.responses[k],)) for g, k in zip(data, (0, 1), strict=True)]
    fitted = pull(of(make_bench, "sft", best, reduction="seq_sum"))
    assert with_nll[0] - without[0] == pytest.approx(0.05 * 4 * fitted[0], abs=1e-5)
    cut = pull(of(make_bench, "pro", data, sft_weight=0.0, max_temperature=1e-6))
    assert cut[0] == pytest.approx(math.log(6), abs=1e-4)


def test_lists_are_ranked_by_score_or_by_comparisons_won_and_ties_form_no_pair(make_bench):
    def choices(prompt, r):
        return [*first_wins(prompt, r), Choice(prompt.id, r[1].id, r[2].id, Outcome.TIE, "test")]

    data = [
        group(0, ANSWERS[:3], scores(1, 2, 1)),
        group(1, ANSWERS, choices),  # 1 of 1, ½ of 2, ½ of 1, never compared
        group(2, ANSWERS[:2], lambda p, r: [*scores(1, None)(p, r)]),  # of the second nothing is known
    ]
    bench = of(make_bench, "rrhf", data)
    batch = batch_of(bench)
    assert [e.value["score"] for e in batch.examples] == [1, 2, 1, 1, 0.25, 0.5]
    assert [e.value["best"] for e in batch.examples] == [0, 1, 0, 1, 0, 0]
    assert sorted(map(tuple, batch.pairs.tolist())) == [(1, 0), (1, 2), (3, 4), (3, 5), (5, 4)]
    assert bench.context.state["unscored_groups"] == 1
    tied = [group(k, ANSWERS[:3], scores(2, 2, 1)) for k in range(4)]
    turned = [replace(g, responses=g.responses[::-1]) for g in tied]
    bests = [
        {tuple(e.ids) for e in batch_of(of(make_bench, "rrhf", d)).examples if e.value["best"]} for d in (tied, turned)
    ]
    assert bests[0] == bests[1] and len(bests[0]) == 4, "equal bests are told apart by what they say"


# ------------------------------------------------------------------ single responses


def labelled():
    """Labels without pairs."""
    return [group(k, ANSWERS[k : k + 1], scores(k % 2, criterion="label")) for k in range(4)]


def test_the_first_kto_loss_is_one_half_of_each_class_weight(make_bench):
    for data in (labelled(), pairs()):
        loss, grad, said = pull(of(make_bench, "kto", data, desirable_weight=1.5, undesirable_weight=0.7))
        assert loss == pytest.approx(0.5 * (1.5 + 0.7) / 2, abs=1e-5) and grad.abs().max() > 0
        assert said["kl"].tolist() == pytest.approx([0], abs=1e-4)
    with pytest.raises(InputError, match="labelled"):
        batch_of(of(make_bench, "kto", [group(0, ANSWERS[:1])]))


def test_kto_compares_with_the_response_to_the_prompt_before(make_bench):
    bench = of(make_bench, "kto", labelled())
    batch = batch_of(bench)
    chat = bench.context.policy.chat
    strange = [e for e in batch.examples if "mismatched" in e.value]
    expected = [chat.example(user(ASKED[k]), ANSWERS[k - 1]) for k in range(4)]
    assert [(list(e.ids), list(e.mask)) for e in strange] == expected and {e.weight for e in strange} == {0.0}
    assert [e.value["desirable"] for e in batch.examples if e.weight] == [0, 1, 0, 1]


def test_the_reference_point_of_kto_is_measured_under_the_current_policy(make_bench):
    bench = of(make_bench, "kto", labelled())
    batch = batch_of(bench)
    move(bench)
    prompts, answers = [user(ASKED[k]) for k in range(4)], [ANSWERS[k - 1] for k in range(4)]

    def totals(policy):
        return np.array([said.total for said in policy.logprobs(prompts, answers)])

    gain = (totals(bench.networks.policy) - totals(bench.networks.reference)).mean()
    z = bench.method.couple(bench.networks, batch, bench.context.config)["z"]
    assert z == pytest.approx(max(0.0, gain), abs=1e-4) and abs(gain) > 1e-3
    bench.networks.policy, bench.networks.reference = bench.networks.reference, bench.networks.policy
    other = bench.method.couple(bench.networks, batch, bench.context.config)["z"]
    assert other == pytest.approx(max(0.0, -gain), abs=1e-4) and 0.0 in (z, other), "never below zero"
    assert kto.couple(bench.networks, Batch(()), bench.context.config) == {"z": 0.0}


def test_kto_counts_a_response_as_often_as_it_stands_in_a_pair():
    p = [replace(first, i=i, j=j, probability=q) for first in [_preference()] for i, j, q in
         ((0, 1, 1.0), (0, 2, 0.9), (2, 1, 1.0), (1, 3, 0.5))]  # fmt: skip
    made = sources.LoopGroup(Prompt(user("a")), (), ((1,),) * 4, ("",) * 4, (True,) * 4, preferences=tuple(p))
    assert list(kto.labels(made)) == [(0, 1.0, 2.0), (1, 0.0, 2.0), (2, 0.0, 1.0), (2, 1.0, 1.0)]


def _preference():
    said = group(0, ANSWERS[:2], first_wins)
    return collapse(said.judgements, said.responses).preferences[0]


# ------------------------------------------------------------------ selected and marked


def test_feedme_on_pairs_is_sft_on_the_chosen_is_hindsight_without_markers(make_bench):
    chosen = [replace(g, responses=g.responses[:1], judgements=()) for g in pairs()]
    fitted = pull(of(make_bench, "sft", chosen, reduction="seq_mean"))
    same(pull(of(make_bench, "feedme", pairs(), mode="binary_pairs", reduction="seq_mean")), fitted)
    same(pull(of(make_bench, "chain_of_hindsight", pairs(), templates=("p",), positive_marker="")), fitted)


def kept(bench):
    chat = bench.context.policy.chat
    return [chat.decode([i for i, m in zip(e.ids, e.mask, strict=True) if m]) for e in batch_of(bench).examples]


def test_feedme_keeps_what_is_rated_high_enough_and_every_demonstration(make_bench):
    data = [
        group(0, ANSWERS[:3], scores(7, 6, 7)),
        group(1, ANSWERS[:3], scores(5, None, 6)),  # the second is a demonstration
        group(2, ANSWERS[3:]),
    ]
    assert kept(of(make_bench, "feedme", data)) == [ANSWERS[0], ANSWERS[2], ANSWERS[1], ANSWERS[3]]
    assert kept(of(make_bench, "feedme", data, threshold=6.0)) == [*ANSWERS[:3], ANSWERS[2], ANSWERS[1], ANSWERS[3]]
    best = of(make_bench, "feedme", [data[0], data[2]], mode="topk_per_prompt", top_k=2)
    assert Counter(kept(best)) == Counter([ANSWERS[0], ANSWERS[2], ANSWERS[3]])
    rows = batch_of(of(make_bench, "feedme", data, demonstration_share=0.8)).examples
    assert sum(e.weight for e in rows) == pytest.approx(4)
    assert [e.weight for e in rows] == pytest.approx([0.4, 0.4, 1.6, 1.6])
    with pytest.raises(InputError, match="rating"):
        batch_of(of(make_bench, "feedme", pairs()))


def targets(example):
    return [i for i, m in zip(example.ids, example.mask, strict=True) if m]


def test_hindsight_trains_both_answers_and_no_marker(make_bench):
    bench = of(make_bench, "chain_of_hindsight", pairs())
    chat = bench.context.policy.chat
    rows = batch_of(bench).examples
    good, bad = (
        [chat.tokenizer.get_vocab()[w] for w in marker.split()] for marker in ("great answer :", "no answer :")
    )
    assert len(rows) == 16
    for k in range(4):
        p, n, pn, np_ = rows[4 * k : 4 * k + 4]
        w, l = targets(p), targets(n)
        assert chat.decode(w) == ANSWERS[k] and chat.decode(l) == ANSWERS[(k + 1) % 4]
        assert targets(pn) == w + l and targets(np_) == l + w and Counter(targets(pn)) == Counter(targets(np_))
        opening = chat.prompt_ids(user(ASKED[k]))
        assert list(pn.ids) == [*opening, *good, *w, *bad, *l] and list(np_.ids) == [*opening, *bad, *l, *good, *w]
    assert bench.method.decoding(bench.context.config, {}) == {"prefix": "great answer :"}
    with pytest.raises(InputError, match="same tokens"):
        batch_of(of(make_bench, "chain_of_hindsight", pairs(), negative_marker="great answer :"))


def test_hindsight_has_its_demonstrations_in_a_stream_with_their_own_weight(make_bench):
    data = [*pairs(), *(group(k, ANSWERS[k - 4 : k - 3]) for k in range(4, 8))]
    bench = of(make_bench, "chain_of_hindsight", data)
    batch = batch_of(bench)
    assert Counter(e.stream for e in batch.examples) == {"": 16, chain_of_hindsight.STREAM: 4}
    plain = pull(of(make_bench, "chain_of_hindsight", pairs()))
    fitted = pull(of(make_bench, "sft", data[4:], reduction="seq_mean"))
    same(pull(of(make_bench, "chain_of_hindsight", data)), (plain[0] + 0.01 * fitted[0], plain[1] + 0.01 * fitted[1]))


# ------------------------------------------------------------------ conditional


def rated():
    return [group(k, ANSWERS[:3], scores(*v)) for k, v in enumerate([(1, 4, 3), (2, 5, 4), (0, 3, 1), (6, 1, 5)])]


def everything(make_bench, tokens, groups):
    """SFT on all responses of a policy that has these tokens."""
    policy = load_policy("world/base")
    policy.add_tokens(tokens)
    return pull(of(make_bench, "sft", groups, policy=policy))


def test_conditional_training_without_tokens_is_sft(make_bench):
    tokens = ("<|aligned|>", "<|misaligned|>")
    same(pull(of(make_bench, "conditional", rated(), drop_token_fraction=1.0)), everything(make_bench, tokens, rated()))


def test_control_tokens_stand_before_the_response_untrained_in_their_shares(make_bench):
    data = [group(k % 16, ANSWERS[:3], scores(*v)) for k in range(16) for v in [(1, 4, 3)]]
    bench = of(make_bench, "conditional", data, threshold=3.0, drop_token_fraction=0.25, max_length=96)
    good, bad = (bench.context.control[w] for w in ("<|aligned|>", "<|misaligned|>"))
    opening = bench.context.policy.chat.prompt_ids(user("copy"))[-1]
    found = Counter()
    for e in batch_of(bench).examples:
        before = e.ids[e.mask.index(1) - 1]
        assert not {good, bad} & set(targets(e)) and before in (good, bad, opening)
        assert before == opening or (before == good) == (e.value["score"] >= 3)
        found[{good: "good", bad: "bad"}.get(before, "none")] += 1
    total = sum(found.values())
    assert total == 48
    for name, share in (("good", 0.5), ("bad", 0.25), ("none", 0.25)):
        assert abs(found[name] / total - share) < 3 * math.sqrt(share * (1 - share) / total)
    again = batch_of(of(make_bench, "conditional", data[::-1], threshold=3.0, drop_token_fraction=0.25, max_length=96))
    assert Counter(tuple(e.ids) for e in again.examples) == Counter(tuple(e.ids) for e in batch_of(bench).examples)
    recipe = bench.method.decoding(bench.context.config, {})
    assert recipe == {"prefix": "<|aligned|>", "banned": ("<|aligned|>", "<|misaligned|>")}


def test_the_control_token_decides_after_training(make_bench):
    data = [group(k, (ANSWERS[3], ANSWERS[0]), scores(1, 0)) for k in range(8)]
    bench = of(make_bench, "conditional", data, learning_rate=3e-3, num_train_epochs=12, drop_token_fraction=0.0)
    loop.train(bench.method, bench.context, bench.networks)
    policy, prompts = bench.networks.policy, [g.prompt.messages for g in data]
    total = {}
    for token in ("<|aligned|>", "<|misaligned|>"):
        policy.decoding = replace(policy.decoding, prefix=token)
        total[token] = np.mean([said.total for said in policy.logprobs(prompts, [ANSWERS[3]] * 8)])
    assert total["<|aligned|>"] > total["<|misaligned|>"] + 1


def test_classes_come_from_scores_or_from_pairs(make_bench):
    bench = of(make_bench, "conditional", pairs(), classes="binary", objective="rwr")
    read = sources.read(bench.context, [])
    assert [(n, k, good) for n, k, good, _, _ in conditional.classified(read, bench.context.config)] == [
        (n, k, 1.0 - k) for n in range(4) for k in (0, 1)
    ]
    with pytest.raises(InputError, match="no response has a class"):
        batch_of(of(make_bench, "conditional", pairs()))


def test_filtering_keeps_the_good_and_weights_of_equal_rewards_are_one_number(make_bench):
    good = []
    for g in rated():
        told = {s.response: s.value for s in g.judgements if isinstance(s, Score) and s.value is not None}
        good.append(replace(g, responses=tuple(r for r in g.responses if told[r.id] >= 3)))
    good = [g for g in good if g.responses]
    same(
        pull(of(make_bench, "conditional", rated(), objective="filtering", threshold=3.0)),
        everything(make_bench, (), good),
    )
    equal = [group(k, ANSWERS[:3], scores(2, 2, 2)) for k in range(4)]
    plain = everything(make_bench, (), equal)
    weight = math.exp(2 / 4)
    weighted = pull(of(make_bench, "conditional", equal, objective="rwr", awr_beta=4.0))
    same(weighted, (weight * plain[0], weight * plain[1]))
    # a critic starts at V = 0: the weights are rwr's, and the value error is the mean square of the scores
    loss = pull(of(make_bench, "conditional", equal, objective="awr", awr_beta=4.0, awr_alpha=0.5))[0]
    assert loss == pytest.approx(0.5 * weight * plain[0] + 0.5 * 4, abs=1e-4)
    bench = of(make_bench, "conditional", equal, objective="awr", awr_alpha=1.0)
    pull(bench)
    assert all(p.grad is None or not p.grad.any() for p in bench.networks.critic.parameters()), "no way to cheat"
    assert not bench.context.control


def test_unlikelihood_lowers_what_is_bad():
    logp = t(-0.5, -2.0).log_softmax(0)[None].repeat(2, 1).requires_grad_(True)
    loss = terms.unlikelihood(logp, t(1.0, 0.0), 0.7)
    torch.testing.assert_close(loss[0], -logp[0])
    torch.testing.assert_close(loss[1], -0.7 * torch.log(1 - logp[1].exp()))
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    assert (slope[0] < 0).all() and (slope[1] > 0).all()
    assert terms.advantage_weight(t(1e4), 1.0).item() == pytest.approx(1000)


# ------------------------------------------------------------------ reward models


def reward_of(make_bench, data, **settings):
    return pull(of(make_bench, "reward_model", data, **settings))


def test_a_margin_asks_for_more_where_the_preference_is_strong(make_bench):
    strong = [
        group(k, (ANSWERS[k], ANSWERS[(k + 1) % 4]), lambda p, r: first_wins(p, r, strength=3.0)) for k in range(4)
    ]
    same(reward_of(make_bench, pairs(), margin_scale=1.0), reward_of(make_bench, pairs()))
    loss, _, said = reward_of(make_bench, strong, margin_scale=0.5)
    expected = -torch.nn.functional.logsigmoid(said["rewards/margins"] - 1.5)
    assert loss == pytest.approx(expected.mean().item(), abs=1e-5)
    with pytest.raises(InputError, match="belong to pairs"):
        make_bench("reward_model", loss_type="regression", margin_scale=1.0)


def test_the_best_of_two_is_bradley_terry_and_equal_bests_share():
    score = t(0.3, -1.0, 2.0)
    torch.testing.assert_close(
        terms.best_of_k(score[:2], t(1.0, 0.0)), -torch.nn.functional.logsigmoid(score[0] - score[1])
    )
    torch.testing.assert_close(terms.best_of_k(score, t(5.0, 5.0, 1.0)), -score.log_softmax(0)[:2].mean())
    assert terms.best_of_k(score[:1], t(1.0)).item() == 0


def test_regression_and_best_of_k_read_scores(make_bench):
    data = [group(0, ANSWERS[:3], scores(1, 3, 2)), group(1, ANSWERS[:3], scores(1, None, 4))]
    bench = of(make_bench, "reward_model", data, loss_type="regression")
    rows = batch_of(bench).examples
    assert [e.value["score"] for e in rows] == [1, 3, 2, 1, 4], "a response without a number is no row"
    loss, grad, _ = pull(bench)
    raw = bench.networks.head.score(*_tensors(rows), "last").detach().numpy()
    assert loss == pytest.approx(float(np.mean((raw - [1, 3, 2, 1, 4]) ** 2)), abs=1e-4) and grad.abs().max() > 0
    bench = of(make_bench, "reward_model", data[:1], loss_type="best_of_k")
    loss, _, _ = pull(bench)
    raw = bench.networks.head.score(*_tensors(batch_of(bench).examples), "last").detach()
    assert loss == pytest.approx(-raw.log_softmax(0)[1].item(), abs=1e-5)


def _tensors(rows):
    x: Tensors = collate(Batch(tuple(rows)), 0)
    return x.ids_N_T, x.attention_N_T, x.mask_N_T


def test_ties_choose_nothing(make_bench):
    tied = group(0, ANSWERS[:2], lambda p, r: [Choice(p.id, r[0].id, r[1].id, Outcome.TIE, "test")])
    bench = of(make_bench, "dpo", [tied])
    [read] = sources.read(bench.context, [])
    assert layouts.wins(read).tolist() == [0, 0] and read.preferences[0].probability == 0.5
    assert [e.value["chosen"] for e in batch_of(bench).examples] == [0, 0]
