"""The slots that a method fills. A method is data: functions in slots, no inheritance, no optimiser, no ``backward``.

========== ==========================================================================================================
slot       what it holds
========== ==========================================================================================================
parts      the networks it needs beside the policy: ``reference`` (frozen), ``critic`` (trained), ``head`` (on it)
asks       what must be given: ``prompts``, ``reward``, ``feedback`` in words, ``data``
pipeline   group transforms, in order: read, sample, score, select ... (no gradient)
layout     groups into examples and index tensors
annotate   what is written on each example before training: ``logp_ref``, ``logp_old``, ``values_old``
tokens     new tokens of the vocabulary, for methods that steer by control tokens
shape      batch-level step over the whole rollout, after annotation: rewards, advantages, whitening
couple     numbers over the whole optimiser batch under the current policy, that its loss needs (KTO's z)
terms      the loss: a weighted sum of pure functions, each with a named reduction, each on a stream of the examples
update     state carried from round to round: controllers, bags, normalisation
========== ==========================================================================================================

Where a method has a ``shape`` step all annotations are computed for the whole rollout; otherwise each is computed on
the micro-batch that first needs it and kept, so that a policy that equals its reference gives exactly the loss at
equality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pippin.align import interventions
from pippin.core.config import setting
from pippin.core.errors import InputError

if TYPE_CHECKING:
    import torch

    from pippin.align.networks import Networks
    from pippin.align.shapes import Batch, Tensors
    from pippin.align.sources import Context, LoopGroup

Reduction = Literal["token", "seq_sum", "seq_mean", "seq", "const", "pair_mean", "group_mean", "group_sum", "group"]
_ABSENT: Any = None  # a term reads only what it has said it needs
State = dict[str, Any]  # plain JSON values: saved with every checkpoint


@dataclass(frozen=True)
class Outputs:
    """What the networks said about one micro-batch. Absent where no term needs it.

    ``entropy_N_T`` is the policy's entropy at each response token, ``kl_N_T`` the exact KL(policy || reference) there,
    both over the whole vocabulary less the method's new tokens, in nats.
    """

    logp_N_T: torch.Tensor = _ABSENT
    values_N_T: torch.Tensor = _ABSENT
    scores_N: torch.Tensor = _ABSENT
    entropy_N_T: torch.Tensor = _ABSENT
    kl_N_T: torch.Tensor = _ABSENT


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    ``loss(outputs, batch, config)`` returns unreduced losses and metrics. Their shape follows the reduction:

    ============ ======== =========================================================================================
    reduction    shape    the loss is
    ============ ======== =========================================================================================
    token        [N, T]   the mean over all response tokens
    seq_sum      [N, T]   the mean over rows of the sum over tokens
    seq_mean     [N, T]   the mean over rows of the mean over tokens
    const        [N, T]   the sum over rows and tokens, over rows times ``constant`` tokens
    seq          [N]      the mean over rows
    pair_mean    [P]      the mean over pairs
    group_mean   [P]      the mean over groups of the mean over their pairs
    group_sum    [P]      the mean over groups of the sum over their pairs
    group        [G]      the mean over groups
    ============ ======== =========================================================================================

    Rows count by their weight; with ``rows`` by the value of that name, so that a term may be about some of the
    examples only (the best of each group, a stream of other data). The loop divides by the denominator of the whole
    optimiser batch, so that gradient accumulation cannot change the result.
    """

    name: str
    loss: Callable[[Outputs, Tensors, Any], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]
    reduction: Reduction | Callable[[Any], Reduction]  # or as the config says
    needs: frozenset[str] = frozenset({"logps"})  # of logps, values, scores, entropy, kl
    rows: str = ""
    constant: Callable[[Any], float] = lambda config: 1.0
    weight: Callable[[Any], float] = lambda config: 1.0
    active: Callable[[Any], bool] = lambda config: True

    def how(self, config: Any) -> Reduction:
        """The reduction under these settings."""
        return self.reduction(config) if callable(self.reduction) else self.reduction


@dataclass(frozen=True)
class Method:
    """One alignment method. The module's docstring gives the summary and the paper."""

    config: type
    reads: Literal["demonstrations", "preferences", "prompts"]
    layout: Callable[[Sequence[LoopGroup], Any, Context], Batch] | None
    terms: tuple[Term, ...] = ()
    pipeline: tuple[Callable[[Context, list[LoopGroup]], list[LoopGroup]], ...] = ()
    parts: Callable[[Any], frozenset[str]] = lambda config: frozenset()
    annotate: Callable[[Any], tuple[str, ...]] = lambda config: ()
    shape: Callable[[Batch, Any, State], Batch] | None = None
    couple: Callable[[Networks, Batch, Any], Mapping[str, float]] | None = None
    tokens: Callable[[Any], tuple[str, ...]] = lambda config: ()
    update: Callable[[State, Mapping[str, float], Any], State] | None = None
    asks: Callable[[Any], frozenset[str]] | None = None  # None: what it reads, and a reward where that is prompts
    rounds: Callable[[Any], int] = lambda config: 1
    passes: Callable[[Any], int] = lambda config: 1  # over the examples of a round, times num_train_epochs
    restart: Callable[[Any], bool] = lambda config: False  # each round starts again from the first weights
    decoding: Callable[[Any, State], Mapping[str, Any]] = lambda config, state: {}  # what the recipe gains
    choose: Callable[[Context, Any], State] | None = None  # nothing to train: settings read off development prompts
    artefact: Literal["policy", "reward"] = "policy"
    score: Literal["sum", "mean", "none"] = "none"  # which log-probability of a sequence the loss is about
    defaults: Mapping[str, Any] = field(default_factory=dict)  # the method's own defaults for Training

    def wants(self, config: Any) -> frozenset[str]:
        """What must be given under these settings: of prompts, reward, feedback, data."""
        if self.asks is not None:
            return self.asks(config)
        return frozenset({"prompts", "reward"} if self.reads == "prompts" else {"data"})


@dataclass(frozen=True)
class Training:
    """What every run of the loop shares; names are those of ``transformers.TrainingArguments`` and TRL."""

    learning_rate: float = setting(1e-6, "peak learning rate of the policy")
    num_train_epochs: int = setting(1, "passes over the examples of a round")
    max_steps: int = setting(-1, "stop after this many optimiser steps; -1: no limit")
    per_device_train_batch_size: int = setting(
        8, "most groups (prompts with their responses) of a micro-batch; of short ones more, with no more tokens"
    )
    gradient_accumulation_steps: int = setting(1, "micro-batches per optimiser step; cannot change the result")
    max_length: int = setting(1024, "prompt and response, in tokens; longer ones are cut on the right")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = setting("linear", "after warm-up, down to zero")
    warmup_ratio: float = setting(0.0, "share of the steps that warm up linearly")
    max_grad_norm: float = setting(1.0, "gradient norm is clipped to this; 0: not clipped")
    weight_decay: float = setting(0.0, "decoupled weight decay of AdamW")
    adam_beta1: float = setting(0.9, "AdamW")
    adam_beta2: float = setting(0.999, "AdamW")
    adam_epsilon: float = setting(1e-8, "AdamW")
    bf16: bool = setting(False, "autocast to bfloat16; sums and softmax stay in float32")
    seed: int = setting(0, "fixes data order and every draw")
    logging_steps: int = setting(10, "a line of metrics every so many steps")
    save_steps: int = setting(500, "a checkpoint every so many steps; 0: none")
    eval_steps: int = setting(0, "score the development prompts every so many rounds; 0: never")
    load_best_model_at_end: bool = setting(False, "keep the weights with the best development score")
    max_loss: float = setting(1e4, "a loss beyond this stops the run as diverged")
    watch_prompts: int = setting(32, "prompts on which the run watches KL, rewards and length as it goes; 0: never")
    gradient_checkpointing: bool = setting(False, "less memory, more time: layers are computed again going backward")
    use_peft: bool = setting(False, "train a low-rank adapter (LoRA) in place of the weights")
    lora_r: int = setting(16, "rank of the adapter")
    lora_alpha: int = setting(32, "the adapter's output is scaled by this over its rank")
    lora_dropout: float = setting(0.0, "0: no dropout stands in training, so that the cut of a batch changes nothing")
    lora_target_modules: tuple[str, ...] = setting(("all-linear",), "layers that get an adapter, by name")
    score_clip: float = setting(
        0.0, "rewards are centred, divided by their running deviation and clipped to ± this; 0: as they are"
    )
    length_penalty: float = setting(
        0.0, "added to a reward: this many of its deviations, times 1 - tokens / length_penalty_tokens; 0: nothing"
    )
    length_penalty_tokens: int = setting(100, "length of a response at which the penalty is zero")
    omit_unended: bool = setting(False, "responses that were cut are not scored and not learnt from")
    length_balance: int = setting(
        0, "as many pairs won by the longer as by the shorter response, in bins of so many tokens; 0: all pairs"
    )
    random_pairs: float = setting(
        0.0, "add this share of pairs more: the better response against one to another prompt; 0: none"
    )
    min_confidence: float = setting(0.5, "pairs whose better response is less probably so are left out; 0.5: none")
    max_confidence: float = setting(1.0, "pairs whose better response is more probably so are left out; 1: none")

    def __post_init__(self) -> None:
        if self.watch_prompts < 0 or self.watch_prompts == 1:
            raise InputError("one prompt gives no interval", where="watch_prompts", found=self.watch_prompts,
                             expected="0, or 2 or more")  # fmt: skip
        interventions.check(self)
        if self.lora_dropout:
            raise InputError("lora_dropout must be 0: training has no dropout", found=self.lora_dropout)
        if self.use_peft and (self.lora_r < 1 or not self.lora_target_modules):
            raise InputError("an adapter needs a rank and layers to stand on", where="lora_r, lora_target_modules")
