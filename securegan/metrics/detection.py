"""How well a detector tells positives (adversarial, generated, manipulated) from negatives (clean, real).

Scores are higher for what looks more anomalous; an input is flagged where its score lies above the threshold. The
scores may be infinite, never nan.
"""

import math

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from securegan.errors import UserError
from securegan.metrics.figures import FigureSet, empty
from securegan.metrics.robustness import wilson

_ROUNDING = 1e-9  # (n + 1) * fpr may miss a whole number by this much


def check_calibration(images: int, fpr: float) -> None:
    """Raises UserError where so few calibration images cannot support a threshold at the rate ``fpr``."""
    needed = math.ceil(1 / fpr - _ROUNDING) - 1
    if images < needed:
        raise UserError(
            f"a false-positive rate of {fpr} needs at least {needed} calibration images, and there are {images}: give "
            "more images, a larger data.calibrate or detector.mahalanobis.false_positive_rate, or detector=none."
        )


def conformal_threshold(calibration_scores: Tensor, fpr: float) -> float:
    """The threshold above which a new negative falls with probability at most ``fpr``.

    The ``ceil((n + 1)(1 - fpr))``-th smallest of the calibration scores (split conformal prediction; Vovk et al.
    2005), valid where the new negative is exchangeable with them.

    Raises:
        UserError: where n scores cannot support so small a rate (n + 1 < 1 / fpr), or the threshold is not finite.
    """
    if not 0 < fpr < 1:
        raise UserError(f"a false-positive rate must lie between 0 and 1, got {fpr}.")
    scores = _scores(calibration_scores).sort().values
    check_calibration(len(scores), fpr)
    rank = len(scores) + 1 - math.floor((len(scores) + 1) * fpr + _ROUNDING)
    threshold = float(scores[rank - 1])
    if math.isinf(threshold):
        raise UserError(f"the detector's scores at a false-positive rate of {fpr} are infinite, so no threshold fits.")
    return threshold


def equal_error_threshold(scores_a: Tensor, scores_b: Tensor) -> float:
    """The threshold at which as large a share of the low side ``a`` lies above as of the high side ``b`` at or below.

    Where the shares cross without meeting, the crossing with the smaller gap (then the smaller sum) is taken, halfway
    between neighbouring scores so that it does not hang on the rounding of one.
    """
    a, b = _scores(scores_a).sort().values, _scores(scores_b).sort().values
    levels = torch.cat([a, b]).unique()
    middles = ((levels[1:] + levels[:-1]) / 2).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
    candidates = torch.cat([levels[:1] - 1, middles, levels[-1:]])
    above = 1 - torch.searchsorted(a, candidates, right=True).double() / len(a)
    below = torch.searchsorted(b, candidates, right=True).double() / len(b)
    gap = (above - below).abs()
    closest = torch.where(gap <= gap.min() + _ROUNDING, above + below, torch.inf)
    return float(candidates[closest.argmin()])


def tpr_at_fpr(negatives: Tensor, positives: Tensor, fpr: float) -> float:
    """The share of positives above the lowest threshold that no more than ``fpr`` of these negatives exceed.

    Conservative: with fewer than ``1 / fpr`` negatives none may be exceeded, and ties count against the detector.
    """
    ordered = _scores(negatives).sort(descending=True).values
    threshold = ordered[math.floor(len(ordered) * fpr + _ROUNDING)]
    return float((_scores(positives) > threshold).double().mean())


def ranking_figures(negatives: Tensor, positives: Tensor) -> FigureSet:
    """``auroc``, ``aupr`` (average precision), ``tpr_at_1fpr`` and ``tpr_at_5fpr``, which need no threshold.

    Args:
        negatives: ``(N,)`` scores.
        positives: ``(M,)`` scores.

    Raises:
        UserError: where either side is empty or a score is not a number.
    """
    low, high = _scores(negatives), _scores(positives)
    # sklearn refuses infinite scores; both figures depend on the order alone.
    ranks = torch.cat([low, high]).unique(return_inverse=True)[1].numpy()
    truth = torch.cat([torch.zeros(len(low)), torch.ones(len(high))]).numpy()
    out = empty()
    out["metrics"] = {
        "detection/auroc": float(roc_auc_score(truth, ranks)),
        "detection/aupr": float(average_precision_score(truth, ranks)),
        "detection/tpr_at_1fpr": tpr_at_fpr(low, high, 0.01),
        "detection/tpr_at_5fpr": tpr_at_fpr(low, high, 0.05),
        "detection/positive_share": len(high) / (len(low) + len(high)),
    }
    out["n"] = dict.fromkeys(("detection/auroc", "detection/aupr", "detection/positive_share"), len(low) + len(high))
    for key in ("detection/tpr_at_1fpr", "detection/tpr_at_5fpr"):
        out["n"][key] = len(high)
    return out


def threshold_figures(negatives: Tensor, positives: Tensor, threshold: float) -> FigureSet:
    """Accuracy, precision, recall, F1 and the false-positive rate where scores above ``threshold`` are flagged.

    Precision is left out, with a note, where nothing is flagged.
    """
    low, high = _scores(negatives), _scores(positives)
    false_positives, true_positives = int((low > threshold).sum()), int((high > threshold).sum())
    n_low, n_high = len(low), len(high)
    shares = {
        "accuracy": (n_low - false_positives + true_positives, n_low + n_high),
        "precision": (true_positives, true_positives + false_positives),
        "recall": (true_positives, n_high),
        "false_positive_rate": (false_positives, n_low),
    }
    out = empty()
    for name, (count, n) in shares.items():
        key = f"detection/{name}"
        if n == 0:
            out["notes"].append(f"{key} is undefined: nothing was flagged at threshold {threshold:.6g}.")
            continue
        out["metrics"][key], out["n"][key], out["interval"][key] = count / n, n, wilson(count, n)
    out["metrics"]["detection/f1"] = 2 * true_positives / (n_high + true_positives + false_positives)
    out["metrics"]["detection/threshold"] = float(threshold)
    out["n"]["detection/f1"] = n_low + n_high
    return out


def detection_figures(negatives: Tensor, positives: Tensor, threshold: float) -> FigureSet:
    """:func:`ranking_figures` and :func:`threshold_figures` of the same scores."""
    out, at_threshold = ranking_figures(negatives, positives), threshold_figures(negatives, positives, threshold)
    out["metrics"].update(at_threshold["metrics"])
    out["n"].update(at_threshold["n"])
    out["interval"].update(at_threshold["interval"])
    out["notes"].extend(at_threshold["notes"])
    return out


def _scores(scores: Tensor) -> Tensor:
    """``(N,)`` float64 on the CPU."""
    flat = scores.detach().to("cpu", torch.float64).flatten()
    if not len(flat):
        raise UserError("detection figures need at least one score on each side, and one side has none.")
    broken = int(flat.isnan().sum())
    if broken:
        raise UserError(f"the detector gave {broken} of {len(flat)} scores that are not a number.")
    return flat
