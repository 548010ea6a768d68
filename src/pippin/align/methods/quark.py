"""Quark: a pool of samples cut into quantiles of reward, each with its token; the policy is asked for the best.

Source: Lu et al. 2022 (arXiv 2205.13636), algorithm 1; ``best_only`` and ``clear_pool``: AlpacaFarm, Dubois et al. 2023
  (arXiv 2305.14387)

Round 0 samples the policy as it was, later rounds the current one after the best token; all samples join a pool that is
never emptied. The whole pool is sorted by reward and cut into Q equal bins (what is left over goes to the worst); an
example is [prompt, token of its bin, response]. L = token mean of -lp_t + β KL(π_θ(.|token) || π_ref) - η H(π_θ), exact
over the vocabulary without the new tokens; the reference sees no token. The recipe is the best token as prefix, all of
them banned. The paper puts the token before the prompt; here it opens the response. ``target_kl`` and
``target_entropy`` let β and η follow sums per response as in Ziegler et al. 2019. AlpacaFarm's form trains on the best
bin alone, without tokens, on a fresh pool each round: rejection sampling with a KL penalty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pippin.align import sources, terms
from pippin.align.method import Method, Outputs, State, Term
from pippin.align.shapes import Batch, Example, Tensors
from pippin.core.config import setting
from pippin.core.types import digest


@dataclass(frozen=True)
class Config:
    """Quark's own fields."""

    num_rounds: int = setting(20, "rounds of sampling and training; the first samples the policy as it was")
    prompts_per_round: int = setting(512, "prompts of a round")
    num_generations: int = setting(1, "responses drawn for a prompt")
    max_completion_length: int = setting(64, "tokens of a response at most")
    num_quantiles: int = setting(5, "Q, bins of the pool, each with a token")
    beta: float = setting(0.05, "β of the KL to the reference")
    entropy_coef: float = setting(0.06, "η of the entropy bonus")
    target_kl: float = setting(0.0, "KL per response that β follows; 0: β stays (paper's option: 3)")
    target_entropy: float = setting(0.0, "entropy per response that η follows; 0: η stays (paper's option: 40)")
    horizon: int = setting(2500, "samples over which the controllers act")
    examples_per_round: int = setting(0, "examples drawn from the pool for a round; 0: all of it")
    per_prompt_center: bool = setting(False, "sort by reward less the mean of the prompt's, so that ease counts less")
    best_only: bool = setting(False, "train on the best bin alone, without tokens (AlpacaFarm)")
    clear_pool: bool = setting(False, "empty the pool before each round (AlpacaFarm)")


def tokens(config: Any) -> tuple[str, ...]:
    """A token for each bin, the best first."""
    return () if config.best_only else tuple(f"<|quantile_{k + 1}|>" for k in range(config.num_quantiles))


def rollout(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts with their responses, asked for the best once the tokens mean something."""
    config = context.config
    best = () if config.best_only or context.round == 0 else (context.control[tokens(config)[0]],)
    groups = sources.draw_prompts(context, config.prompts_per_round)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length, prefix=best)


def collect(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Add the round's samples to the pool in the state: round, prompt, response and score of each."""
    if context.config.clear_pool:
        context.state["pool"] = []
    pool = context.state.setdefault("pool", [])
    for g in groups:
        pool += [
            [context.round, g.prompt.id, list(g.prompt_ids), list(ids), float(s)]
            for ids, s in zip(g.responses, g.rewards, strict=True)
        ]
    context.state["figures"] = {
        "objective/scores": float(np.mean([g.rewards for g in groups])),
        "completions/mean_length": float(np.mean([len(r) for g in groups for r in g.responses])),
        "completions/clipped_ratio": 1 - float(np.mean([e for g in groups for e in g.ended])),
        "pool/size": float(len(pool)),
    }
    return groups


def quantiles(scores_N: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row, 0 the best ``[N]``: N/Q of them in each, what is left over in the worst. Equal scores at an
    edge are parted by their place, the earlier in the better bin."""
    size = max(1, len(scores_N) // bins)
    place = np.empty(len(scores_N), dtype=np.int64)
    place[np.argsort(-scores_N, kind="stable")] = np.arange(len(scores_N))
    return np.minimum(place // size, bins - 1)


def centred(scores_N: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Each score less the mean of its prompt's scores ``[N]``."""
    index = np.unique(prompts, return_inverse=True)[1]
    return scores_N - (np.bincount(index, scores_N) / np.bincount(index))[index]


def layout(groups: Sequence[sources.LoopGroup], config: Any, context: sources.Context) -> Batch:
    """Examples of the whole pool, or as many as a round trains on, each after the token of its bin."""
    pool = context.state["pool"]
    scores = np.array([row[4] for row in pool])
    bins = quantiles(centred(scores, [row[1] for row in pool]) if config.per_prompt_center else scores,
                     config.num_quantiles)  # fmt: skip
    for k in range(config.num_quantiles):
        if (bins == k).any():
            context.state["figures"][f"pool/score_{k + 1}"] = float(scores[bins == k].mean())
    rows = np.flatnonzero(bins == 0) if config.best_only else np.arange(len(pool))
    if 0 < config.examples_per_round < len(rows):
        rng = np.random.default_rng(int(digest([context.seed, "pool", context.round]), 16))
        rows = np.sort(rng.choice(rows, config.examples_per_round, replace=False))
    ids_of = [(context.control[token],) for token in tokens(config)] or [()]
    examples = []
    for number, row in enumerate(rows.tolist()):
        born, _, prompt, response, _ = pool[row]
        ahead = [*prompt, *ids_of[0 if config.best_only else bins[row]]]
        new = float(born == context.round)
        examples.append(
            Example([*ahead, *response], [0] * len(ahead) + [1] * len(response), number, value={"new": new})
        )
    return Batch(tuple(examples))


def shape(batch: Batch, config: Any, state: State) -> Batch:
    """The coefficients of this round on every example; what the controllers follow, over the new samples."""
    beta = state.setdefault("kl_coef", config.beta)
    eta = state.setdefault("entropy_coef", config.entropy_coef)
    figures = {"objective/kl_coef": beta, "objective/entropy_coef": eta}
    new = [e for e in batch.examples if e.value["new"] and "logp_old" in e.token]
    if new:
        figures["objective/kl"] = float(np.mean([(e.token["logp_old"] - e.token["logp_ref"]).sum() for e in new]))
        figures["objective/entropy"] = float(np.mean([-e.token["logp_old"].sum() for e in new]))
        figures["controlled"] = float(len(new))
    state["figures"] = {**state["figures"], **figures}
    coefficients = {"kl_coef": beta, "entropy_coef": eta}
    return replace(batch, examples=tuple(replace(e, value={**e.value, **coefficients}) for e in batch.examples))


def loss(outputs: Outputs, batch: Tensors, config: Any):
    """-lp + β KL - η H of each response token ``[N, T]``."""
    nll, mask = terms.nll(outputs.logp_N_T), batch.mask_N_T
    beta_N, eta_N = batch.value["kl_coef"], batch.value["entropy_coef"]
    loss = nll + beta_N[:, None] * outputs.kl_N_T - eta_N[:, None] * outputs.entropy_N_T
    return loss, {"nll": nll[mask], "kl": outputs.kl_N_T[mask], "entropy": outputs.entropy_N_T[mask]}


def control(state: State, figures: Mapping[str, float], config: Any) -> State:
    """β ← β (1 + n/horizon · clip(KL / target - 1, ±0.2)), and η the other way round: it grows while entropy is low."""
    out = dict(state)
    share = figures.get("controlled", 0.0) / config.horizon
    if config.target_kl > 0 and share:
        error = float(np.clip(figures["objective/kl"] / config.target_kl - 1, -0.2, 0.2))
        out["kl_coef"] = state["kl_coef"] * (1 + share * error)
    if config.target_entropy > 0 and share:
        error = float(np.clip(figures["objective/entropy"] / config.target_entropy - 1, -0.2, 0.2))
        out["entropy_coef"] = state["entropy_coef"] * (1 - share * error)
    return out


def follows(config: Any) -> bool:
    """Whether a controller needs to know where the policy is."""
    return config.target_kl > 0 or config.target_entropy > 0


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(rollout, sources.score, collect),
    parts=lambda config: frozenset({"reference"}),
    layout=layout,
    annotate=lambda config: ("logp_old", "logp_ref") if follows(config) else (),
    tokens=tokens,
    shape=shape,
    terms=(Term("quark", loss, "token", frozenset({"logps", "kl", "entropy"})),),
    update=control,
    rounds=lambda config: config.num_rounds,
    decoding=lambda config, state: {} if config.best_only else {"prefix": tokens(config)[0], "banned": tokens(config)},
    score="mean",
    defaults={"learning_rate": 1e-5, "adam_epsilon": 1e-5},
)
