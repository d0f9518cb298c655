"""Shallow XGBoost with calibration: early stopping on the later slice, a fixed seed, nothing tuned on the test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from vigie_contracts.models import Calibrator

from vigie_training.calibration import calibrate, fit_calibrator
from vigie_training.metrics import Floats
from vigie_training.population import Instants
from vigie_training.vectors import Matrix

MOST_ROUNDS = 300
PATIENCE = 30
FOLDS = 5
SEED = 7
PARAMETERS: dict[str, Any] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_depth": 3,
    "eta": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "min_child_weight": 2.0,
    "lambda": 5.0,
    "seed": SEED,
    "nthread": 2,
}

Matrix32 = NDArray[np.float32]


@dataclass(frozen=True)
class CalibratedModel:
    """A booster over columns by place (no names: serving orders them), and its calibrator."""

    booster: xgboost.Booster
    calibrator: Calibrator

    def probabilities(self, matrix: Matrix) -> Floats:
        """Calibrated probabilities, (n,)."""
        return calibrate(self.calibrator, margins(self.booster, matrix))


def fit(
    train: Matrix, train_labels: Floats, later: Matrix, later_labels: Floats, *, rounds: int = MOST_ROUNDS
) -> CalibratedModel:
    """Train on the earlier slice; stop by the log loss of the later one, and calibrate on it."""
    booster = boost(train, train_labels, rounds, later, later_labels)
    return CalibratedModel(booster, fit_calibrator(margins(booster, later), later_labels))


def fit_out_of_fold(train: Matrix, labels: Floats, customers: Instants) -> CalibratedModel:
    """For a study without a later slice: folds by customer choose the rounds and give the margins to calibrate on.

    The calibrated margins come from fold models of about the same size as the final one, which sees all rows.
    """
    fold = np.random.default_rng(SEED).permutation(int(customers.max()) + 1)[customers] % FOLDS
    held_out = np.empty(len(labels))
    rounds = []
    for number in range(FOLDS):
        inside = fold == number
        booster = boost(train[~inside], labels[~inside], MOST_ROUNDS, train[inside], labels[inside])
        held_out[inside] = margins(booster, train[inside])
        rounds.append(booster.num_boosted_rounds())
    final = boost(train, labels, int(np.median(rounds)))
    return CalibratedModel(final, fit_calibrator(held_out, labels))


def boost(
    train: Matrix, labels: Floats, rounds: int, later: Matrix | None = None, later_labels: Floats | None = None
) -> xgboost.Booster:
    """A booster cut at its best round (when there is a later slice to stop by)."""
    matrix = xgboost.DMatrix(train.astype(np.float32), label=labels, missing=np.nan)
    if later is None:
        return xgboost.train(PARAMETERS, matrix, num_boost_round=rounds, verbose_eval=False)
    watched = xgboost.DMatrix(later.astype(np.float32), label=later_labels, missing=np.nan)
    booster = xgboost.train(
        PARAMETERS,
        matrix,
        num_boost_round=rounds,
        evals=[(watched, "later")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    return booster[: booster.best_iteration + 1]


def margins(booster: xgboost.Booster, matrix: Matrix) -> Floats:
    """Raw log-odds, (n,), on the same float32 path as serving."""
    found = booster.inplace_predict(matrix.astype(np.float32), predict_type="margin", missing=np.nan)
    return np.asarray(found, dtype=np.float64)


def importance(booster: xgboost.Booster, matrix: Matrix, names: Sequence[str]) -> list[tuple[str, float]]:
    """Features by their mean absolute TreeSHAP contribution (log-odds) over the rows, largest first."""
    data = xgboost.DMatrix(matrix.astype(np.float32), missing=np.nan)
    found = np.abs(np.asarray(booster.predict(data, pred_contribs=True))[:, :-1]).mean(axis=0)
    return sorted(zip(names, (float(value) for value in found), strict=True), key=lambda pair: -pair[1])
