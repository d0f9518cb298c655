"""From margins (log-odds) to probabilities: isotonic from about 1,000 positives, Platt below; as a Calibrator."""

import numpy as np
from sklearn.isotonic import IsotonicRegression
from vigie_contracts.errors import InvalidInput
from vigie_contracts.models import Calibrator

from vigie_training.metrics import Floats, logistic_line

ISOTONIC_FROM_POSITIVES = 1_000


def fit_calibrator(margins: Floats, labels: Floats) -> Calibrator:
    """Fit on a slice that the booster did not see. InvalidInput when it holds one kind of label only."""
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        raise InvalidInput("calibration needs rows of both outcomes")
    return _isotonic(margins, labels) if positives >= ISOTONIC_FROM_POSITIVES else platt(margins, labels)


def platt(margins: Floats, labels: Floats) -> Calibrator:
    """Platt's sigmoid with his smoothed targets (Platt 1999), which also keeps separable data finite."""
    positives, negatives = float(labels.sum()), float((1 - labels).sum())
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    if np.ptp(margins) == 0:
        rate = targets.mean()
        return Calibrator(kind="platt", a=0.0, b=float(np.log(rate / (1 - rate))))
    slope, intercept = logistic_line(targets, margins, np.ones((1, len(margins))))[0]
    if not np.isfinite(slope):
        raise InvalidInput("the margins separate the labels of the calibration slice: a feature knows the outcome")
    return Calibrator(kind="platt", a=float(slope), b=float(intercept))


def calibrate(calibrator: Calibrator, margins: Floats) -> Floats:
    """Probabilities of margins, as contracts.models.Calibrator defines them."""
    if calibrator.kind == "isotonic":
        return np.asarray(np.interp(margins, calibrator.x, calibrator.y), dtype=np.float64)
    return 1 / (1 + np.exp(-np.clip(calibrator.a * margins + calibrator.b, -700, 700)))


def _isotonic(margins: Floats, labels: Floats) -> Calibrator:
    edge = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(margins, labels)
    return Calibrator(
        kind="isotonic",
        x=[float(value) for value in fitted.X_thresholds_],
        y=[float(value) for value in fitted.y_thresholds_],
    )
