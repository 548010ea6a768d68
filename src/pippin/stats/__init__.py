"""Statistics of comparisons: numpy arrays in, :class:`pippin.core.types.Estimate` out.

Every function is pure; a missing value is NaN, counted and never filled in; prompts are the clusters that are
resampled; all randomness comes from ``Bootstrap.seed``; the order of the rows changes nothing.

Source: each function names its own.
"""

from pippin.stats.agreement import Agreement, agree, base_rates, cohen_kappa, combine_orders, raw_agreement
from pippin.stats.bias import (
    Consistency,
    LengthBias,
    LengthDecomposition,
    Lengths,
    consistency,
    length_bias,
    length_correlation,
    length_decomposition,
    position_bias,
)
from pippin.stats.estimate import (
    Arm,
    Bounds,
    bounds,
    difference,
    mean,
    paired,
    ratio,
    sign_flip,
    wilson,
)
from pippin.stats.overoptimisation import BandPoint, Overoptimisation, fit_overoptimisation
from pippin.stats.planning import cluster_sd, holm, minimum_detectable_effect, sample_size
from pippin.stats.ranking import best_of_n, best_of_n_kl, best_of_n_win_rate, win_rate
from pippin.stats.resampling import Bootstrap

__all__ = [
    "Agreement",
    "Arm",
    "BandPoint",
    "Bootstrap",
    "Bounds",
    "Consistency",
    "LengthBias",
    "LengthDecomposition",
    "Lengths",
    "Overoptimisation",
    "agree",
    "base_rates",
    "best_of_n",
    "best_of_n_kl",
    "best_of_n_win_rate",
    "bounds",
    "cluster_sd",
    "cohen_kappa",
    "combine_orders",
    "consistency",
    "difference",
    "fit_overoptimisation",
    "holm",
    "length_bias",
    "length_correlation",
    "length_decomposition",
    "mean",
    "minimum_detectable_effect",
    "paired",
    "position_bias",
    "ratio",
    "raw_agreement",
    "sample_size",
    "sign_flip",
    "wilson",
    "win_rate",
]
