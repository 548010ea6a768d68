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
from pippin.stats.calibration import (
    AbstentionPoint,
    Bin,
    abstention_curve,
    brier,
    expected_calibration_error,
    log_loss,
    reliability,
)
from pippin.stats.components import (
    Components,
    detectable_difference,
    seed_deviation,
    seeds_needed,
    variance_components,
)
from pippin.stats.contrast import Arm, Equivalence, contrast, difference, equivalence
from pippin.stats.corrected import Corrected, corrected, rogan_gladen
from pippin.stats.estimate import (
    Bounds,
    bounds,
    mean,
    paired,
    ratio,
    sign_flip,
    wilson,
)
from pippin.stats.overoptimisation import BandPoint, Overoptimisation, fit_overoptimisation, in_first_units
from pippin.stats.paired_binary import McNemar, mcnemar
from pippin.stats.planning import cluster_sd, expected_best, holm, minimum_detectable_effect, sample_size
from pippin.stats.ranking import PeerRank, best_of_n, best_of_n_kl, best_of_n_win_rate, peer_rank, win_rate
from pippin.stats.raters import (
    AlternativeAnnotator,
    Contest,
    against_others,
    alternative_annotator,
    fleiss_kappa,
    gwet_ac1,
    human_ceiling,
    krippendorff_alpha,
)
from pippin.stats.resampling import Bootstrap
from pippin.stats.sequential import Stepwise, crossing, nominal_levels, stepwise
from pippin.stats.verdicts import VerdictModel, verdict_model

__all__ = [
    "AbstentionPoint",
    "Agreement",
    "AlternativeAnnotator",
    "Arm",
    "BandPoint",
    "Bin",
    "Bootstrap",
    "Bounds",
    "Components",
    "Consistency",
    "Contest",
    "Corrected",
    "Equivalence",
    "LengthBias",
    "LengthDecomposition",
    "Lengths",
    "McNemar",
    "Overoptimisation",
    "PeerRank",
    "Stepwise",
    "VerdictModel",
    "abstention_curve",
    "against_others",
    "agree",
    "alternative_annotator",
    "base_rates",
    "best_of_n",
    "best_of_n_kl",
    "best_of_n_win_rate",
    "bounds",
    "brier",
    "cluster_sd",
    "cohen_kappa",
    "combine_orders",
    "consistency",
    "contrast",
    "corrected",
    "crossing",
    "detectable_difference",
    "difference",
    "equivalence",
    "expected_best",
    "expected_calibration_error",
    "fit_overoptimisation",
    "fleiss_kappa",
    "gwet_ac1",
    "holm",
    "human_ceiling",
    "in_first_units",
    "krippendorff_alpha",
    "length_bias",
    "length_correlation",
    "length_decomposition",
    "log_loss",
    "mcnemar",
    "mean",
    "minimum_detectable_effect",
    "nominal_levels",
    "paired",
    "peer_rank",
    "position_bias",
    "ratio",
    "raw_agreement",
    "reliability",
    "rogan_gladen",
    "sample_size",
    "seed_deviation",
    "seeds_needed",
    "sign_flip",
    "stepwise",
    "variance_components",
    "verdict_model",
    "wilson",
    "win_rate",
]
