"""Seeded rows for the comparisons, and what this project's methods make of them: the loss and its gradient.

A row is a dictionary of JSON values: ``prompt``, the number of tokens before the response, and arrays over the
response tokens: ``logp`` (now), ``ref``, ``old``. The first token of a prompt has no log-probability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pippin.align.method import Method, Outputs
from pippin.align.methods import kto
from pippin.align.shapes import Batch, Example, collate, denominator, reduce

TOLERANCE = 1e-5


def rows(number: int, seed: int, *, ratio: float = 0.4, longest: int = 9, equal: bool = False) -> list[dict[str, Any]]:
    """Rows of different lengths, or all ``equal``; ``ratio`` is the spread of single tokens' log-ratios, in nats."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(number):
        length = longest if equal else 1 if k == 1 else int(rng.integers(1, longest + 1))
        logp = -rng.gamma(1.0, 1.5, length) - 1e-3
        others = {name: np.minimum(logp + ratio * rng.normal(size=length), -1e-3) for name in ("ref", "old")}
        arrays = {"logp": logp, **others}
        found.append(
            {"prompt": int(rng.integers(1, 7)), **{k: v.astype(np.float32).tolist() for k, v in arrays.items()}}
        )
    return found


def example(row: Mapping[str, Any], group: int, weight: float = 1.0, **value: float) -> Example:
    """A row as an example; the ids are of no matter, since the log-probabilities are given."""
    token = {"logp": row["logp"], "logp_ref": row["ref"], "logp_old": row["old"]}
    length = len(row["logp"])
    return Example(
        [5] * row["prompt"] + [7] * length,
        [0] * row["prompt"] + [1] * length,
        group,
        {name: np.array(values) for name, values in token.items()},
        value,
        weight,
    )


def pairs(found: Sequence[Mapping[str, Any]], p: float = 1.0, **value: Sequence[float]) -> Batch:
    """The first half of the rows are chosen, the second half rejected, in the same order; each pair has a prompt."""
    half = len(found) // 2
    examples = []
    for k, row in enumerate(found):
        said = {name: values[k % half] for name, values in value.items()}
        examples.append(example(row, k % half, chosen=float(k < half), **said))
    numbers = np.array([(k, k + half) for k in range(half)])
    return Batch(tuple(examples), numbers, np.full(half, p), np.ones(half))


def ours(
    method: Method,
    config: Any,
    batch: Batch,
    *,
    coupled: Mapping[str, float] | None = None,
    values: Sequence[Sequence[float]] | None = None,
    scores: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The method's whole loss on a batch, reduced and weighted as in training, and gradients over response tokens."""
    if values is not None:
        told = [e.with_tokens(now=np.array(v)) for e, v in zip(batch.examples, values, strict=True)]
        batch = replace(batch, examples=tuple(told))
    tensors = collate(batch, 0, coupled)
    leaves = {"grad": tensors.token["logp"].clone().requires_grad_()}
    said: dict[str, Any] = {"logp_N_T": leaves["grad"]}
    if values is not None:
        said["values_N_T"] = leaves["value_grad"] = tensors.token["now"].clone().requires_grad_()
    if scores is not None:
        said["scores_N"] = leaves["score_grad"] = torch.tensor(list(scores), requires_grad=True)
    outputs, loss, parts = Outputs(**said), torch.zeros(()), {}
    for term in method.terms:
        if term.active(config):
            how = term.how(config)
            over = denominator(batch, how, term.rows, term.constant(config))
            part = term.weight(config) * reduce(term.loss(outputs, tensors, config)[0], tensors, how, over, term.rows)
            parts[term.name] = float(part.detach())
            loss = loss + part
    loss.backward()
    answer: dict[str, Any] = {"loss": float(loss.detach()), "parts": parts}
    for name, leaf in leaves.items():
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        masked = [g[m].tolist() for g, m in zip(grad, tensors.mask_N_T, strict=True)] if grad.ndim == 2 else grad
        answer[name] = masked if isinstance(masked, list) else masked.tolist()
    return answer


def reference_point(strange: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """KTO's z by our own step over an optimiser batch of mismatched rows; the networks' answers are given."""
    networks: Any = SimpleNamespace(
        policy=SimpleNamespace(chat=SimpleNamespace(pad_id=0)), note=lambda tensors, name: tensors.token["logp"]
    )
    batch = Batch(tuple(example(r, k, weight=0.0, mismatched=1.0) for k, r in enumerate(strange)))
    return kto.couple(networks, batch, kto.Config())


def flat(values: Any) -> list[float]:
    """All numbers of nested lists, in order."""
    return [x for v in values for x in flat(v)] if isinstance(values, list) else [values]


def same(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], *keys: str, scale: float = 1.0) -> None:
    """Both say the same under these keys, to 1e-5; the largest difference is printed. ``scale`` multiplies ours."""
    for key in keys:
        a, b = np.array(flat(mine[key])) * scale, np.array(flat(theirs[key]))
        assert a.shape == b.shape, (name, key)
        print(f"{name} {key}: {np.abs(a - b).max():.1e} of {np.abs(b).max():.3g}")
        assert a == pytest.approx(b, abs=TOLERANCE, rel=TOLERANCE), (name, key)
