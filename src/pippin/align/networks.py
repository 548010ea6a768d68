"""The networks of a run, and what they say about a micro-batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pippin.align.method import Outputs
from pippin.lm.forward import response_logps, response_stats, token_kl
from pippin.lm.reward import Kind, ScoreHead

if TYPE_CHECKING:
    from pippin.align.shapes import Tensors
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

    def trained(self) -> dict[str, torch.nn.Module]:
        """The trained networks by name. A head holds the policy's own backbone, so it stands for the policy."""
        if self.head is not None:
            return {"head": self.head}
        return {"policy": self.policy.model} | ({"critic": self.critic} if self.critic is not None else {})

    def say(self, tensors: Tensors, needs: frozenset[str]) -> Outputs:
        """Run the trained networks that the terms need on one micro-batch, with gradient."""
        ids, attention, mask = tensors.ids_N_T, tensors.attention_N_T, tensors.mask_N_T
        logp = values = scores = entropy = kl = None
        if "logps" in needs or "entropy" in needs:
            said = response_stats(self.policy.model, ids, attention, mask, entropy="entropy" in needs)
            logp, entropy = said.logp_N_T, said.entropy_N_T
        if "kl" in needs and self.reference is not None:
            kl = token_kl(
                self.policy.model, self.reference.model, ids, attention, mask,
                attention_b_N_T=self.without_control(ids, attention), without=self.control,
            )  # fmt: skip
        if "values" in needs and self.critic is not None:
            values = self.critic.values(ids, attention, mask)
        if "scores" in needs and self.head is not None:
            scores = self.head.score(ids, attention, mask, self.head_kind)
        return Outputs(logp, values, scores, entropy, kl)

    def without_control(self, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """The attention of a reference, which knows no control token."""
        if not self.control:
            return attention
        return attention * ~torch.isin(ids, torch.tensor(self.control, device=ids.device))

    @torch.inference_mode()
    def note(self, tensors: Tensors, name: str) -> torch.Tensor:
        """One annotation of a micro-batch, ``[N, T]``: ``logp_ref``, ``logp_old`` or ``values_old``."""
        ids, attention, mask = tensors.ids_N_T, tensors.attention_N_T, tensors.mask_N_T
        if name == "logp_ref" and self.reference is not None:
            return response_logps(self.reference.model, ids, self.without_control(ids, attention), mask)
        if name == "logp_old":
            return response_logps(self.policy.model, ids, attention, mask)
        if name == "values_old" and self.critic is not None:
            return self.critic.values(ids, attention, mask)
        raise ValueError(f"no network gives {name!r}")


def build(policy: Policy, parts: frozenset[str], *, reward: RewardModel | None, kind: Kind, seed: int) -> Networks:
    """The networks that ``parts`` names, around the policy. The reference is a frozen copy of the policy as it is now.

    A critic starts from the reward model's backbone where there is one with a head, else from the policy (Ouyang et al.
    2022 start it from the reward model); its head starts at zero.
    """
    networks = Networks(policy, head_kind=kind)
    policy.model.eval()
    if "reference" in parts:
        networks.reference = policy.clone()
        networks.reference.model.requires_grad_(False)
    if "critic" in parts:
        start = reward.policy.model if reward is not None else policy.model
        networks.critic = ScoreHead(copy.deepcopy(start), zero=True)
        networks.critic.requires_grad_(True)
    if "head" in parts:
        networks.head = ScoreHead(policy.model, seed=seed)
    return networks
