"""Figures of merit of probabilities, all for B sets of row weights at once, so that a bootstrap is one call.

Every metric takes labels y (n,), probabilities p (n,) and weights w (B, n), and answers (B,), NaN where undefined.
Ties share their weight evenly, so the order of rows never matters.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]

ECE_BINS = 10
EPSILON = 1e-7


def auc(y: Floats, p: Floats, w: Floats) -> Floats:
    """Area under the ROC curve: P(p of a positive > p of a negative), ties half."""
    positive, negative = _by_value(y, p, w)
    below = np.cumsum(negative, axis=1) - negative
    return _ratio((positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1))


def pr_auc(y: Floats, p: Floats, w: Floats) -> Floats:
    """Average precision: the sum over thresholds of (recall gained) x precision."""
    positive, negative = (part[:, ::-1] for part in _by_value(y, p, w))
    caught = np.cumsum(positive, axis=1)
    precision = _ratio(caught, caught + np.cumsum(negative, axis=1))
    return _ratio((positive * np.nan_to_num(precision)).sum(1), positive.sum(1))


def log_loss(y: Floats, p: Floats, w: Floats) -> Floats:
    """Mean negative log-likelihood (nats)."""
    clipped = np.clip(p, EPSILON, 1 - EPSILON)
    losses = -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))
    return _ratio(w @ losses, w.sum(1))


def brier(y: Floats, p: Floats, w: Floats) -> Floats:
    """Mean squared difference."""
    return _ratio(w @ (p - y) ** 2, w.sum(1))


def mean_over_rate(y: Floats, p: Floats, w: Floats) -> Floats:
    """Mean prediction divided by the observed rate; 1 is right."""
    return _ratio(w @ p, w @ y)


def ece(y: Floats, p: Floats, w: Floats) -> Floats:
    """Expected calibration error over ten bins of equal mass (of the unweighted sample)."""
    bins = np.argsort(np.argsort(p, kind="stable"), kind="stable") * ECE_BINS // max(len(p), 1)
    total = np.zeros(len(w))
    for number in range(ECE_BINS):
        inside = bins == number
        total += np.abs(w[:, inside] @ (y - p)[inside])
    return _ratio(total, w.sum(1))


def lift(share: float) -> Metric:
    """Rate among the `share` of highest probability, divided by the overall rate."""

    def measured(y: Floats, p: Floats, w: Floats) -> Floats:
        positive, negative = (part[:, ::-1] for part in _by_value(y, p, w))
        taken = np.cumsum(positive + negative, axis=1)
        caught = np.cumsum(positive, axis=1)
        inside = [
            np.interp(share * reach[-1], np.append(0.0, reach), np.append(0.0, hits))
            for reach, hits in zip(taken, caught, strict=True)
        ]
        return _ratio(np.array(inside), share * caught[:, -1])

    return measured


def calibration_slope(y: Floats, p: Floats, w: Floats) -> Floats:
    """Slope of the logistic regression of y on logit(p) (Cox 1958); 1 is right, below 1 over-confident."""
    return calibration_line(y, p, w)[:, 0]


def calibration_line(y: Floats, p: Floats, w: Floats) -> Floats:
    """(slope, intercept) of that regression, shape (B, 2); (1, 0) is right."""
    return logistic_line(y, logit(p), w)


def logistic_line(y: Floats, x: Floats, w: Floats) -> Floats:
    """(slope, intercept) of the weighted logistic regression of y on x, shape (B, 2), by Newton's method.

    NaN where it does not converge (separable or constant data). Every set of weights starts at the unweighted solution.
    """
    centre, scale = float(np.mean(x)), float(np.std(x)) or 1.0
    z = (x - centre) / scale
    start = _newton(y, z, np.ones((1, len(y))), np.zeros((1, 2)))
    found = _newton(y, z, w, np.nan_to_num(np.repeat(start, len(w), axis=0)))
    found[np.abs(found[:, 0]) > 30] = np.nan
    return np.column_stack([found[:, 0] / scale, found[:, 1] - found[:, 0] * centre / scale])


def _newton(y: Floats, z: Floats, w: Floats, start: Floats, steps: int = 40) -> Floats:
    slope, intercept = start[:, 0], start[:, 1]
    for _ in range(steps):
        expected = 1 / (1 + np.exp(-np.clip(slope[:, None] * z + intercept[:, None], -40, 40)))
        residual, curvature = w * (y - expected), w * expected * (1 - expected)
        down = residual @ z, residual.sum(1)
        a, b, c = curvature @ (z * z), curvature @ z, curvature.sum(1)
        determinant = a * c - b * b
        safe = np.where(determinant > 1e-12, determinant, np.nan)
        step, shift = (c * down[0] - b * down[1]) / safe, (a * down[1] - b * down[0]) / safe
        slope, intercept = slope + np.clip(step, -2, 2), intercept + np.clip(shift, -2, 2)
        if float(np.nanmax(np.abs(np.append(step, shift)), initial=0.0)) < 1e-8:
            break
    return np.column_stack([slope, intercept])


def logit(p: Floats) -> Floats:
    """Log-odds, clipped to probabilities of 1e-7 … 1 - 1e-7."""
    clipped = np.clip(p, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)


METRICS: dict[str, Metric] = {
    "auc": auc,
    "pr_auc": pr_auc,
    "log_loss": log_loss,
    "brier": brier,
    "mean_over_rate": mean_over_rate,
    "ece": ece,
    "lift_5": lift(0.05),
    "lift_10": lift(0.10),
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})


def ece_noise_floor(p: Floats, seed: int, draws: int = 200) -> tuple[float, float]:
    """Mean and 95th percentile of the ECE that perfectly calibrated probabilities would show on as many rows."""
    rng = np.random.default_rng(seed)
    ones = np.ones((1, len(p)))
    found = [float(ece((rng.random(len(p)) < p).astype(np.float64), p, ones)[0]) for _ in range(draws)]
    return float(np.mean(found)), float(np.percentile(found, 95))


def _by_value(y: Floats, p: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at each distinct p, rising: two (B, distinct)."""
    order = np.argsort(p, kind="stable")
    ordered = p[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    weights, ones = w[:, order], y[order]
    return np.add.reduceat(weights * ones, starts, axis=1), np.add.reduceat(weights * (1 - ones), starts, axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return found
