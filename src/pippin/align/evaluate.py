"""What a policy thinks of held-out preference pairs: does it give the preferred response the higher probability?

Three readings, each an accuracy over pairs (a tie is half right), resampled by prompt:

========== ===========================================================================================================
``sum``      log π(y|x), summed over the response's tokens
``mean``     log π(y|x) / tokens: the same without the reward for being short
``implicit`` log π(y|x) - log π_ref(y|x): DPO's implicit reward
========== ===========================================================================================================

Source: Rafailov et al. 2023 (arXiv 2305.18290), section 4 (the implicit reward); Meng et al. 2024 (arXiv 2405.14734),
section 2 (the mean, and how often it disagrees with what is preferred).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pippin import stats
from pippin.core.errors import InputError
from pippin.core.types import Estimate, Group, Messages
from pippin.feedback.collapse import collapse
from pippin.lm.forward import pad, response_logps

if TYPE_CHECKING:
    from pippin.lm.policy import Policy

_TOKENS = 4096  # of one padded batch


@dataclass(frozen=True)
class PairLogps:
    """Log-probabilities of both sides of P pairs: sums in nats ``[P, 2]`` (preferred first), token counts, prompt ids.

    A pair with a side that was cut away is NaN.
    """

    sums_P_2: np.ndarray
    tokens_P_2: np.ndarray
    prompts_P: np.ndarray

    def accuracies(self, reference: PairLogps | None = None) -> dict[str, Estimate]:
        """``sum`` and ``mean``; with the same pairs under a reference also ``implicit``. Missing pairs are counted.

        Raises:
            InputError: no pair is left, or the reference's pairs are others.
        """
        scores = {"sum": self.sums_P_2, "mean": self.sums_P_2 / self.tokens_P_2}
        if reference is not None:
            if not np.array_equal(reference.prompts_P, self.prompts_P):
                raise InputError("the reference was evaluated on other pairs")
            scores["implicit"] = self.sums_P_2 - reference.sums_P_2
        return {
            name: stats.mean(right(values), self.prompts_P, support=(0, 1), unit="accuracy")
            for name, values in scores.items()
        }

    def change(self, before: PairLogps) -> dict[str, Estimate]:
        """Accuracy now less accuracy before, paired: ``sum`` and ``mean``.

        Raises:
            InputError: as :meth:`accuracies`.
        """
        sides = [(p.sums_P_2, p.sums_P_2 / p.tokens_P_2) for p in (self, before)]
        return {
            name: stats.paired(right(now), right(then), self.prompts_P, support=(-1, 1), unit="accuracy")
            for name, now, then in zip(("sum", "mean"), *sides, strict=True)
        }


def pair_accuracy(
    policy: Policy, groups: Sequence[Group], reference: Policy | None = None, *, max_length: int | None = None
) -> dict[str, Estimate]:
    """Accuracies of ``policy`` on the preferences that the groups' judgements state; ties state none.

    Args:
        groups: held-out prompts with responses and judgements.
        reference: the policy that implicit rewards are measured from; None leaves ``implicit`` out.
        max_length: prompt and response are cut on the right, as in training; None cuts nothing.

    Raises:
        InputError: the groups state no preference.
    """
    before = None if reference is None else pair_logps(reference, groups, max_length=max_length)
    return pair_logps(policy, groups, max_length=max_length).accuracies(before)


def pair_logps(policy: Policy, groups: Sequence[Group], *, max_length: int | None = None) -> PairLogps:
    """Log-probabilities of both responses of every preference, each response computed once; without gradient.

    Raises:
        InputError: the groups state no preference.
    """
    rows: list[tuple[list[int], list[int]]] = []
    pairs, prompts = [], []
    for group in groups:
        place: dict[int, int] = {}
        for preference in collapse(group.judgements, group.responses).preferences:
            for k in (preference.i, preference.j):
                if k not in place:
                    place[k] = len(rows)
                    rows.append(_row(policy, group, k, max_length))
            pairs.append((place[preference.i], place[preference.j]))
            prompts.append(group.prompt.id)
    if not pairs:
        raise InputError("no preference to evaluate on", expected="rows with prompt, chosen and rejected")
    index = np.array(pairs)
    tokens = np.array([sum(mask) or np.nan for _, mask in rows], dtype=float)
    return PairLogps(_sums(policy, rows)[index], tokens[index], np.array(prompts))


def score_accuracy(
    score: Callable[[Sequence[Messages], Sequence[str]], Sequence[float]], groups: Sequence[Group]
) -> Estimate:
    """Accuracy of a reward model's ``score`` on the preferences that the groups' judgements state.

    Raises:
        InputError: the groups state no preference.
    """
    rows = [(g, preference) for g in groups for preference in collapse(g.judgements, g.responses).preferences]
    if not rows:
        raise InputError("no preference to evaluate on", expected="rows with prompt, chosen and rejected")
    sides = [[g.responses[getattr(p, side)].text for g, p in rows] for side in ("i", "j")]
    asked = [g.prompt.messages for g, _ in rows]
    scores_P_2 = np.array([score(asked, texts) for texts in sides], dtype=float).T
    return stats.mean(right(scores_P_2), [g.prompt.id for g, _ in rows], support=(0, 1), unit="accuracy")


def right(scores_P_2: np.ndarray) -> np.ndarray:
    """1 where the first of a pair has the higher score, 1/2 where they are equal, 0 else; NaN stays."""
    difference_P = scores_P_2[:, 0] - scores_P_2[:, 1]
    return np.where(np.isnan(difference_P), np.nan, 0.5 + 0.5 * np.sign(difference_P))


def _row(policy: Policy, group: Group, k: int, max_length: int | None) -> tuple[list[int], list[int]]:
    response = group.responses[k]
    prefix = policy.decoding.prefix
    ids, mask = policy.chat.example(
        group.prompt.messages, response.text, ended=response.stop != "length", prefix=prefix
    )
    return policy.chat.truncate(ids, mask, max_length) if max_length else (ids, mask)


@torch.inference_mode()
def _sums(policy: Policy, rows: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
    """Summed log-probability of each row's response, ``[N]`` float64; NaN for a row without a response token."""
    policy.model.eval()
    out = np.full(len(rows), np.nan)
    batch: list[int] = []
    order = sorted((i for i, (_, mask) in enumerate(rows) if any(mask)), key=lambda i: -len(rows[i][0]))
    for position, i in enumerate(order):
        batch.append(i)
        full = (len(batch) + 1) * len(rows[batch[0]][0]) > _TOKENS
        if full or position == len(order) - 1:
            ids, attention = pad([rows[j][0] for j in batch], policy.chat.pad_id)
            mask, _ = pad([rows[j][1] for j in batch], 0)
            out[batch] = response_logps(policy.model, ids, attention, mask.bool()).double().sum(-1).cpu().numpy()
            batch = []
    return out
