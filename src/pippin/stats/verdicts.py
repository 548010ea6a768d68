"""What a judge's verdicts follow: the order shown, the quality, the length, the style; all at once.

A logistic regression of "the response shown first won" on an intercept, which is the effect of being shown first, and
on features, each the value of the response shown first less that of the second. So a bias is told apart from what it
travels with: of the longer responses some are also the better ones.

Source: P. McCullagh, J. Nelder, "Generalized linear models" (1989), chapter 4; K.-Y. Liang, S. Zeger (1986) for errors
over clusters; L. Papke, J. Wooldridge (1996) for ties as fractional responses; A. Albert, J. Anderson (1984) and
K. Konis (2007) for separation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse, special
from scipy import stats as distributions

from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.estimate import Ids, kept_rows
from pippin.stats.intervals import t_test
from pippin.stats.resampling import DEFAULT, Bootstrap, Floats, Spread, codes, numbers

SHOWN_FIRST = "shown first"
STEPS = 60  # Newton's method takes 5 to 8 where there is a maximum
FAR = 12.0  # log-odds of a row beyond which separation is looked for
SAME = 1e-9  # relative size of what is rounding


@dataclass(frozen=True)
class VerdictModel:
    """Coefficients in log-odds by name, ``shown first`` among them; None where the data cannot tell it.

    ``said`` tells why a coefficient is None, in one line each. ``ties``: rows that were a tie.
    """

    coefficients: dict[str, Estimate | None]
    said: tuple[str, ...]
    n: int
    clusters: int
    missing: int
    ties: int


def verdict_model(
    first_N: ArrayLike,
    features: Mapping[str, ArrayLike],
    clusters: Ids | None = None,
    *,
    bootstrap: Bootstrap = DEFAULT,
) -> VerdictModel:
    """Logistic regression of "the response shown first won" on being shown first and on differences of features.

    Nothing is rescaled: a coefficient is the change of log-odds for one unit of its feature. Usual features: gold as 1
    (the first is better) or -1; the difference of lengths over its standard deviation; differences of counts of list
    items, headers, bold spans; 1 where the first, -1 where the second is the judge's own answer. A column that is
    constant or follows from earlier ones, and one whose coefficient has no finite estimate (separation: with it some
    verdicts are foretold without error), get None and a line in ``said``.

    Args:
        first_N: shape (N,): 1 the response shown first won, 0 the second, 0.5 a tie, NaN missing.
        features: name to shape (N,), each the value of the first shown less that of the second; a row with a NaN is
            left out and counted.
        clusters: prompt id of each verdict, shape (N,).
        bootstrap: its level is used; the interval is Student's with the sandwich error over clusters (CR1), nothing is
            resampled.

    Raises:
        InputError: no row is complete, a verdict outside 0 to 1, a feature named "shown first", lengths differ, or one
            cluster.

    Source: Papke, Wooldridge (1996); A. Cameron, D. Miller, "A practitioner's guide to cluster-robust inference" (2015)
    for CR1 and t with one degree of freedom less than clusters.
    """
    names, X_N_K, y_N, group_N, missing = _rows(first_N, features, clusters)
    groups = int(group_N.max()) + 1
    if groups < 2:
        raise InputError("one cluster has no interval", where="clusters", found=1, expected="two or more prompts")
    said: list[str] = []
    kept = _independent(X_N_K, names, said)
    finite, rows_N = _finite(X_N_K[:, kept], y_N, [names[k] for k in kept], said)
    coefficients: dict[str, Estimate | None] = dict.fromkeys(names)
    told = [k for k, ok in zip(kept, finite, strict=True) if ok]
    if told:
        # Where some verdicts are foretold, the others tell the rest; columns of no finite coefficient stay in as
        # far as these rows can bear them, for they are not to be left out of the comparison.
        order = told + [k for k in kept if k not in told]
        held = [order[i] for i in _pivots(X_N_K[rows_N][:, order])[0]]
        beta_K, error_K, inside = _fit(X_N_K[rows_N][:, held], y_N[rows_N], group_N[rows_N])
        if inside <= len(held):
            said.append(f"{inside} prompts for {len(held)} coefficients: the intervals are too narrow")
        for k in told:
            at = held.index(k)
            made = _estimate(beta_K[at], error_K[at], inside, int(rows_N.sum()), missing, bootstrap.level)
            coefficients[names[k]] = made
    ties = int((y_N == 0.5).sum())
    return VerdictModel(coefficients, tuple(said), len(y_N), groups, missing, ties)


def _rows(
    first_N: ArrayLike, features: Mapping[str, ArrayLike], clusters: Ids | None
) -> tuple[list[str], Floats, Floats, NDArray[np.intp], int]:
    """The complete rows, sorted, so that their order changes no bit: names, design, verdicts, cluster codes."""
    y_N = numbers(first_N, "first_N")
    if ((y_N < 0) | (y_N > 1)).any():
        raise InputError("not a verdict", where="first_N", found=float(y_N[(y_N < 0) | (y_N > 1)][0]),
                         expected="1, 0.5, 0 or NaN")  # fmt: skip
    if SHOWN_FIRST in features:
        raise InputError("a feature has the name of the intercept", where="features", found=SHOWN_FIRST)
    columns = [numbers(values, name, len(y_N)) for name, values in features.items()]
    X_N_K = np.stack([np.ones(len(y_N)), *columns], axis=1)
    keep_N = ~(np.isnan(y_N) | np.isnan(X_N_K).any(axis=1))
    if not keep_N.any():
        raise InputError("no complete row", where="first_N, features", found=f"{len(y_N)} rows with a value missing")
    ids_N = kept_rows(clusters, "clusters", keep_N)
    X_N_K, y_N = X_N_K[keep_N], y_N[keep_N]
    group_N = np.zeros(len(y_N), dtype=np.intp) if ids_N is None else codes(ids_N, "clusters", len(y_N))[1]
    order = np.lexsort((y_N, *X_N_K.T, group_N))
    group_N = np.arange(len(y_N)) if ids_N is None else group_N[order]
    return [SHOWN_FIRST, *features], X_N_K[order], y_N[order], group_N, int((~keep_N).sum())


def _independent(X_N_K: Floats, names: list[str], said: list[str]) -> list[int]:
    """Columns that are no combination of earlier ones; of the others it is said what they follow from."""
    kept, follows = _pivots(X_N_K)
    for k, weight_K in follows.items():
        sources = [names[i] for i, w in zip(kept, weight_K, strict=False) if abs(w) > SAME]
        if sources == [SHOWN_FIRST] or not sources:
            said.append(f"{names[k]}: the same in every row, so it has no coefficient")
        else:
            said.append(f"{names[k]}: follows from {', '.join(sources)}, whose coefficients speak for it too")
    return kept


def _pivots(X_N_K: Floats) -> tuple[list[int], dict[int, Floats]]:
    """Columns in order, each kept unless the kept ones before it make it up; of the others, how they do."""
    scale_K = np.sqrt((X_N_K**2).mean(axis=0))
    kept: list[int] = []
    follows: dict[int, Floats] = {}
    for k, scale in enumerate(scale_K):
        if scale == 0:
            follows[k] = np.zeros(0)
            continue
        weight_K, *_ = np.linalg.lstsq(X_N_K[:, kept] / scale_K[kept], X_N_K[:, k] / scale, rcond=None)
        rest_N = X_N_K[:, k] / scale - X_N_K[:, kept] / scale_K[kept] @ weight_K
        if np.sqrt((rest_N**2).mean()) > 1e-7:
            kept.append(k)
        else:
            follows[k] = weight_K
    return kept, follows


def _finite(X_N_K: Floats, y_N: Floats, names: list[str], said: list[str]) -> tuple[list[bool], NDArray[np.bool_]]:
    """Which coefficients have a finite estimate, and the rows that tell them (not those foretold without error)."""
    beta_K, converged = _newton(X_N_K, y_N)
    everything = np.ones(len(y_N), dtype=bool)
    if converged and np.abs(X_N_K @ beta_K).max() <= FAR:
        return [True] * len(names), everything
    foretold_N = _foretold(X_N_K, y_N)
    if not foretold_N.any():
        if not converged:
            raise InputError("no maximum found", where="features", mend="Standardise features of very unequal size")
        return [True] * len(names), everything
    rest_N_K = X_N_K[~foretold_N] / np.sqrt((X_N_K**2).mean(axis=0))
    if len(rest_N_K):
        _, size, right = np.linalg.svd(rest_N_K, full_matrices=True)
        free = right[int((size > 1e-9 * size.max(initial=0)).sum()) :]
    else:
        free = np.eye(len(names))
    endless = np.abs(free).max(axis=0, initial=0) > 1e-7
    count = int(foretold_N.sum())
    for name, no_end in zip(names, endless, strict=True):
        if no_end:
            said.append(f"{name}: no finite estimate (separation), {count} of {len(y_N)} verdicts follow without error")
    return [not e for e in endless], ~foretold_N


def _foretold(X_N_K: Floats, y_N: Floats) -> NDArray[np.bool_]:
    """Rows that some direction of coefficients foretells ever more surely while it contradicts no verdict.

    One linear programme: as many rows as possible (each at most by 1) strictly on their side, none on the wrong one.
    """
    X_N_K = X_N_K / np.sqrt((X_N_K**2).mean(axis=0))
    decided_N = (y_N == 0) | (y_N == 1)
    signed = X_N_K[decided_N] * np.where(y_N[decided_N] == 1, 1.0, -1.0)[:, None]
    M, K = signed.shape
    if M == 0:
        return np.zeros(len(y_N), dtype=bool)
    rows = sparse.hstack([sparse.csr_array(-signed), sparse.eye_array(M)])
    tied = X_N_K[~decided_N]
    equal = sparse.hstack([sparse.csr_array(tied), sparse.csr_array((len(tied), M))]) if len(tied) else None
    found = optimize.linprog(
        np.concatenate([np.zeros(K), -np.ones(M)]), A_ub=rows.tocsr(), b_ub=np.zeros(M),
        A_eq=None if equal is None else equal.tocsr(), b_eq=None if equal is None else np.zeros(len(tied)),
        bounds=[(None, None)] * K + [(0.0, 1.0)] * M,
    )  # fmt: skip
    foretold_N = np.zeros(len(y_N), dtype=bool)
    foretold_N[decided_N] = found.x[K:] > 1e-6
    return foretold_N


def _newton(X_N_K: Floats, y_N: Floats) -> tuple[Floats, bool]:
    """Where the likelihood's slope vanishes, and whether it does within ``STEPS`` steps of at most 5 in log-odds."""
    scale_K = np.sqrt((X_N_K**2).mean(axis=0))
    Z_N_K = X_N_K / scale_K
    beta_K = np.zeros(X_N_K.shape[1])
    for _ in range(STEPS):
        p_N = special.expit(Z_N_K @ beta_K)
        slope_K = Z_N_K.T @ (y_N - p_N)
        if np.abs(slope_K).max() < 1e-11 * len(y_N):
            return beta_K / scale_K, True
        step_K = np.linalg.lstsq(Z_N_K.T @ (Z_N_K * (p_N * (1 - p_N))[:, None]), slope_K, rcond=None)[0]
        beta_K = beta_K + step_K * min(1.0, 5.0 / max(float(np.abs(Z_N_K @ step_K).max()), 1e-300))
    return beta_K / scale_K, False


def _fit(X_N_K: Floats, y_N: Floats, group_N: NDArray[np.intp]) -> tuple[Floats, Floats, int]:
    """Coefficients, their sandwich errors over clusters (CR1), and the number of clusters."""
    beta_K, _ = _newton(X_N_K, y_N)
    N, K = X_N_K.shape
    groups, group_N = np.unique(group_N, return_inverse=True)
    G = len(groups)
    p_N = special.expit(X_N_K @ beta_K)
    inverse_K_K = np.linalg.inv(X_N_K.T @ (X_N_K * (p_N * (1 - p_N))[:, None]))
    score_N_K = X_N_K * (y_N - p_N)[:, None]
    score_G_K = np.stack([np.bincount(group_N, weights=c, minlength=G) for c in score_N_K.T], axis=1)
    small = G / max(G - 1, 1) * (N - 1) / max(N - K, 1)
    variance_K_K = small * inverse_K_K @ (score_G_K.T @ score_G_K) @ inverse_K_K
    return beta_K, np.sqrt(np.diagonal(variance_K_K)), G


def _estimate(value: float, error: float, clusters: int, n: int, missing: int, level: float) -> Estimate:
    freedom = max(clusters - 1, 1)
    half = float(distributions.t.ppf(0.5 + level / 2, freedom)) * float(error)
    p = t_test(float(value), Spread(float(error), freedom))
    return Estimate(
        float(value), float(value) - half, float(value) + half, n, clusters,
        "logistic regression, sandwich error over prompts (CR1), t", "log-odds", missing, level, p=p,
    )  # fmt: skip
