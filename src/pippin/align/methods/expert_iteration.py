"""Expert iteration: sample several, keep the best by the reward, fine-tune on them, repeat.

Source: Anthony et al. 2017 (arXiv 1705.08439); RAFT, Dong et al. 2023 (arXiv 2304.06767); Llama 2 rejection sampling
(arXiv 2307.09288), section 3.2.3

Each round: ``num_generations`` draws for each of ``prompts_per_round`` prompts from the current policy, those without
an end token dropped, the argmax of the reward kept (first of equals), SFT on the kept. A round starts from the current
weights, or from the first ones (``from_base``); with ``bag`` it also trains on what earlier rounds kept."""

from __future__ import annotations

from dataclasses import dataclass

from pippin.align import layouts, sources
from pippin.align.method import Method, Term
from pippin.align.methods.sft import loss
from pippin.core.config import setting


@dataclass(frozen=True)
class Config:
    """Expert iteration's own fields."""

    num_rounds: int = setting(2, "rounds of sampling and fine-tuning")
    prompts_per_round: int = setting(512, "prompts drawn for a round")
    num_generations: int = setting(16, "responses drawn for a prompt; the best is kept")
    max_completion_length: int = setting(64, "tokens of a response at most")
    temperature: float = setting(1.0, "of the draws")
    from_base: bool = setting(False, "each round starts again from the first weights (Llama 2)")
    bag: bool = setting(False, "train on the best of all rounds so far (Llama 2 after V3)")


def draw(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's prompts with their responses."""
    config = context.config
    groups = sources.draw_prompts(context, config.prompts_per_round)
    return sources.sample(context, groups, config.num_generations, config.max_completion_length, config.temperature)


def collect(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """This round's best, and with ``bag`` those of earlier rounds, which the state keeps."""
    if not context.config.bag:
        return groups
    kept = context.state.setdefault("bag", [])
    kept += [[group.prompt.id, list(group.prompt_ids), list(group.responses[0])] for group in groups]
    by_id = {p.id: p for p in context.prompts}
    return [sources.LoopGroup(by_id[i], ids, (response,), ("",), (True,)) for i, ids, response in kept]


METHOD = Method(
    config=Config,
    reads="prompts",
    pipeline=(draw, sources.drop_unended, sources.score, sources.best, collect),
    layout=layouts.rows,
    terms=(Term("nll", loss, "token"),),
    rounds=lambda config: config.num_rounds,
    restart=lambda config: config.from_base,
    score="mean",
    defaults={"learning_rate": 2e-5},
)
