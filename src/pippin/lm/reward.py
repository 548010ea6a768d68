"""Reward models: a score for a response, from a head on a backbone or from the log-ratio of two policies.

============ ===========================================================================================================
kind         score of a response y to a prompt x
============ ===========================================================================================================
``last``     head applied to the hidden state of the last token (Ziegler et al. 2019; Ouyang et al. 2022)
``sum``      sum over the response tokens of the head applied to each token's hidden state
``logratio`` β [log π(y|x) - log π_ref(y|x)]: the implicit reward of DPO (Rafailov et al. 2023, section 4)
============ ===========================================================================================================

A Bradley-Terry score is free up to a shift per prompt, so the artefact stores the gauge that was fixed after training:
mean and standard deviation over one policy's responses, how many, and which policy. Scores are given normalised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from pippin.core.errors import InputError
from pippin.core.run import write_json
from pippin.core.types import Messages
from pippin.lm.forward import pad, response_logps
from pippin.lm.threads import one_thread_if_small

if TYPE_CHECKING:
    from pippin.lm.chat import Chat
    from pippin.lm.policy import Policy

Kind = Literal["last", "sum", "logratio"]
FILE = "pippin_reward.json"


class ScoreHead(nn.Module):
    """A linear head on the hidden states of a causal model's backbone.

    The head starts at N(0, 1/(d+1)) for scores, at zero for values, so that a critic starts without an opinion.
    """

    def __init__(self, model: nn.Module, *, zero: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.backbone = model.base_model
        width = model.config.hidden_size
        self.head = nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.weight.zero_()
            if not zero:
                self.head.weight.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)

    def forward(self, ids_N_T: Tensor, attention_N_T: Tensor) -> Tensor:
        """Head output at every token, ``[N, T]`` float32."""
        positions = (attention_N_T.cumsum(-1) - 1).clamp(min=0)
        hidden = self.backbone(
            input_ids=ids_N_T, attention_mask=attention_N_T, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.head(hidden.float()).squeeze(-1)

    def score(self, ids_N_T: Tensor, attention_N_T: Tensor, mask_N_T: Tensor, kind: Kind) -> Tensor:
        """One score per row, ``[N]``: at the last response token, or summed over the response tokens."""
        out = self(ids_N_T, attention_N_T)
        if kind == "sum":
            return (out * mask_N_T).sum(-1)
        last = mask_N_T.long().cumsum(-1).argmax(-1)
        return out.gather(1, last[:, None]).squeeze(1)

    def values(self, ids_N_T: Tensor, attention_N_T: Tensor, mask_N_T: Tensor) -> Tensor:
        """V_t read at the position that predicts token t, ``[N, T]``, zero off the response."""
        out = self(ids_N_T, attention_N_T)
        return torch.cat([torch.zeros_like(out[:, :1]), out[:, :-1]], dim=1) * mask_N_T


@dataclass(frozen=True)
class Gauge:
    """What fixed the free shift and scale of a score: over ``n`` responses of ``policy``, before normalisation."""

    mean: float = 0.0
    std: float = 1.0
    n: int = 0
    policy: str = ""


class RewardModel:
    """Scores texts. ``policy`` is the backbone (``logratio``: the trained policy), ``reference`` its frozen start."""

    def __init__(
        self,
        kind: Kind,
        policy: Policy,
        *,
        head: ScoreHead | None = None,
        reference: Policy | None = None,
        beta: float = 1.0,
        gauge: Gauge = Gauge(),
        batch_size: int = 64,
    ) -> None:
        self.kind, self.policy, self.head, self.reference = kind, policy, head, reference
        self.beta, self.gauge, self.batch_size = beta, gauge, batch_size

    @property
    def chat(self) -> Chat:
        return self.policy.chat

    def raw(self, prompts: Sequence[Messages], responses: Sequence[str]) -> list[float]:
        """Scores before normalisation, in the order given; batched by length, equal rows scored once."""
        asked = list(zip(prompts, responses, strict=True))
        place = {row: k for k, row in enumerate(dict.fromkeys(asked))}
        scores = self._raw(list(place))
        return [scores[place[row]] for row in asked]

    def _raw(self, asked: list[tuple[Messages, str]]) -> list[float]:
        rows = [self.chat.example(p, r, ended=True) for p, r in asked]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        out = [0.0] * len(rows)
        with torch.inference_mode(), one_thread_if_small(self.policy.model):
            for start in range(0, len(order), self.batch_size):
                part = order[start : start + self.batch_size]
                ids, attention = pad([rows[i][0] for i in part], self.chat.pad_id)
                mask = pad([rows[i][1] for i in part], 0)[0].bool()
                for i, value in zip(part, self._score(ids, attention, mask).tolist(), strict=True):
                    out[i] = value
        return out

    def _score(self, ids: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        if self.kind != "logratio":
            assert self.head is not None
            return self.head.score(ids, attention, mask, self.kind)
        assert self.reference is not None
        ratio = response_logps(self.policy.model, ids, attention, mask) - response_logps(
            self.reference.model, ids, attention, mask
        )
        return self.beta * ratio.sum(-1)

    def score(self, prompts: Sequence[Messages], responses: Sequence[str]) -> list[float]:
        """Normalised scores: (raw - mean) / std of the gauge."""
        return [(v - self.gauge.mean) / self.gauge.std for v in self.raw(prompts, responses)]

    def save(self, folder: Path) -> None:
        """A folder that :func:`load_reward` reads: the backbone as a model folder, head and gauge beside it."""
        from safetensors.torch import save_file

        self.policy.save(folder)
        if self.head is not None:
            save_file({k: v.contiguous() for k, v in self.head.head.state_dict().items()}, folder / "head.safetensors")
        if self.reference is not None:
            self.reference.save(folder / "reference")
        write_json(folder / FILE, {"kind": self.kind, "beta": self.beta, "gauge": asdict(self.gauge)})


def load_reward(folder: str | Path) -> RewardModel:
    """A reward model saved by the method ``reward_model``.

    Raises:
        InputError: the folder is not one.
    """
    from safetensors.torch import load_file

    from pippin.lm.hf import load_policy

    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise InputError(
            "not a reward model",
            where=str(folder),
            expected=f"a folder with {FILE}",
            mend="Train one with: pippin align reward_model",
        )
    stated = json.loads((folder / FILE).read_text())
    policy = load_policy(str(folder))
    head = reference = None
    if stated["kind"] == "logratio":
        reference = load_policy(str(folder / "reference"))
    else:
        head = ScoreHead(policy.model)
        head.head.load_state_dict(load_file(folder / "head.safetensors"))
    return RewardModel(
        stated["kind"], policy, head=head, reference=reference, beta=stated["beta"], gauge=Gauge(**stated["gauge"])
    )
