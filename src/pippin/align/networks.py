"""The networks of a run, and what they say about a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pippin.align import adapters
from pippin.align.method import Outputs
from pippin.align.shapes import Size
from pippin.lm import flat, shared
from pippin.lm.forward import response_logps, response_stats, token_kl
from pippin.lm.reward import Kind, ScoreHead

if TYPE_CHECKING:
    from pippin.align.shapes import Example, Tensors
    from pippin.lm.policy import Policy
    from pippin.lm.reward import RewardModel


@dataclass
class Networks:
    """The policy and what a method's ``parts`` asked for. Dropout is off in all of them, always."""

    policy: Policy
    reference: Policy | None = None
    critic: ScoreHead | None = None
    head: ScoreHead | None = None
    head_kind: Kind = "last"
    control: tuple[int, ...] = ()  # ids of the method's new tokens: no reference sees them, no KL counts them
    shared: bool = True  # rows that begin alike are read together, where that is exact and makes fewer tokens
    recompute: bool = False  # the layers' activations are not kept for the backward pass

    def trained(self) -> dict[str, torch.nn.Module]:
        """The trained networks by name. A head holds the policy's own backbone, so it stands for the policy."""
        if self.head is not None:
            return {"head": self.head}
        critic: dict[str, torch.nn.Module] = {} if self.critic is None else {"critic": self.critic}
        return {"policy": self.policy.model} | critic

    def say(self, tensors: Tensors, needs: frozenset[str]) -> Outputs:
        """Run the trained networks that the terms need on one micro-batch, with gradient."""
        with self._recomputing():
            return self._say(tensors, needs)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Layers know from their ``training`` flag whether to keep activations; what is inside them stays without."""
        layers = [
            layer
            for module in (self.trained().values() if self.recompute else ())
            for layer in module.modules()
            if isinstance(getattr(layer, "gradient_checkpointing", None), bool)
        ]
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def _say(self, tensors: Tensors, needs: frozenset[str]) -> Outputs:
        ids, attention, mask = tensors.ids_N_T, tensors.attention_N_T, tensors.mask_N_T
        absent: Any = None
        logp = values = scores = entropy = kl = absent
        if "entropy" in needs:
            said = response_stats(self.policy.model, ids, attention, mask, entropy=True)
            logp = said.logp_N_T
            entropy = entropy if said.entropy_N_T is None else said.entropy_N_T
        elif "logps" in needs:
            logp = self.logps(self.policy, ids, attention, mask)
        if "kl" in needs and self.reference is not None:
            read, seen = self.without_control(ids, attention)
            kl = token_kl(
                self.policy.model, self.reference.model, ids, attention, mask,
                ids_b_N_T=read, attention_b_N_T=seen, without=self.control,
            )  # fmt: skip
        if "values" in needs and self.critic is not None:
            values = self.critic.values(ids, attention, mask)
        if "scores" in needs and self.head is not None:
            scores = self.head.score(ids, attention, mask, self.head_kind)
        return Outputs(logp, values, scores, entropy, kl)

    def logps(self, policy: Policy, ids: torch.Tensor, attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``logp_N_T`` under the policy or its reference."""
        read = shared.response_logps if self.shared else response_logps
        return read(policy.model, ids, attention, mask)

    def size(self, examples: Sequence[Example]) -> Size:
        """What a group's examples take in a pass: what cutting goes by."""
        lengths = [len(e.ids) for e in examples]
        end_to_end = not self.recompute and flat.takes(self.policy.model, max(lengths))
        alone = not self.shared or self.head is not None or self.critic is not None
        if not alone and (end_to_end or shared.shares_prompts(self.policy.model)):
            lengths = shared.shared_sizes([(e.ids, list(e.mask).index(1) if any(e.mask) else 0) for e in examples])
        return Size(len(lengths), max(lengths), sum(lengths) if end_to_end else None)

    def without_control(self, ids: torch.Tensor, attention: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention of a reference, which knows no control token.

        Control tokens stand before the response; they go to the front of their row and are not attended to, so that
        the first response token is predicted from the prompt's last one and every response token keeps its column.
        """
        if not self.control:
            return ids, attention
        hidden = torch.isin(ids, torch.tensor(self.control, device=ids.device))
        order = (~hidden).long().argsort(dim=-1, stable=True)
        return ids.gather(1, order), (attention * ~hidden).gather(1, order)

    @torch.inference_mode()
    def note(self, tensors: Tensors, name: str) -> torch.Tensor:
        """One annotation of a micro-batch, ``[N, T]``: ``logp_ref``, ``logp_old`` or ``values_old``."""
        ids, attention, mask = tensors.ids_N_T, tensors.attention_N_T, tensors.mask_N_T
        if name == "logp_ref" and self.reference is not None:
            return self.logps(self.reference, *self.without_control(ids, attention), mask)
        if name == "logp_old":
            return self.logps(self.policy, ids, attention, mask)
        if name == "values_old" and self.critic is not None:
            return self.critic.values(ids, attention, mask)
        raise ValueError(f"no network gives {name!r}")


def build(
    policy: Policy,
    parts: frozenset[str],
    *,
    reward: RewardModel | None,
    kind: Kind,
    seed: int,
    control: tuple[int, ...] = (),
    recompute: bool = False,
) -> Networks:
    """The networks that ``parts`` names, around the policy. The reference is a frozen copy of the policy as it is now,
    or the same model with its adapter off. A critic has weights of its own, all of them trained.

    A critic starts from the reward model's backbone where there is one with a head, else from the policy (Ouyang et al.
    2022 start it from the reward model); its head starts at zero.
    """
    networks = Networks(policy, head_kind=kind, control=control, recompute=recompute)
    policy.model.eval()
    if "reference" in parts:
        if adapters.is_adapted(policy.model):
            networks.reference = adapters.reference(policy)
        else:
            networks.reference = policy.clone()
            networks.reference.model.requires_grad_(False)
    if "critic" in parts:
        start = reward.policy.model if reward is not None else policy.model
        networks.critic = ScoreHead(adapters.without(start), zero=True)
        networks.critic.requires_grad_(True)
    if "head" in parts:
        networks.head = ScoreHead(adapters.plain(policy.model), seed=seed)
    for module in networks.trained().values() if recompute else ():
        for layer in module.modules():
            enable: Any = getattr(layer, "activation_checkpointing_enable", None)  # its newer name
            enable = enable or getattr(layer, "gradient_checkpointing_enable", None)
            if enable is not None:
                enable({"use_reentrant": False})
    return networks
