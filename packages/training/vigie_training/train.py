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
FEW_POSITIVES = 1_000
THREADS = 1
"""Two OpenMP threads on two busy cores wait for each other: measured ten times slower beside running services."""
PARAMETERS: dict[str, Any] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_depth": 2,
    "eta": 0.03,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "min_child_weight": 2.0,
    "lambda": 5.0,
    "seed": SEED,
    "nthread": THREADS,
}
"""For fewer than 1,000 positives, which carry few interactions."""
MANY: dict[str, Any] = {**PARAMETERS, "max_depth": 3, "eta": 0.06}
OFFERS_FIRST: dict[str, Any] = {"max_depth": 1, "eta": 0.3, "subsample": 1.0, "colsample_bytree": 1.0, "lambda": 1.0}
OFFERS_FIRST_ROUNDS = 40

Matrix32 = NDArray[np.float32]


@dataclass(frozen=True)
class CalibratedModel:
    """A booster over columns by place (no names: serving orders them), and its calibrator."""

    booster: xgboost.Booster
    calibrator: Calibrator

    def probabilities(self, matrix: Matrix) -> Floats:
        """Calibrated probabilities, (n,)."""
        return calibrate(self.calibrator, margins(self.booster, matrix))


def fit(train: Matrix, train_labels: Floats, later: Matrix, later_labels: Floats, offers: int = 0) -> CalibratedModel:
    """Train on the earlier slice; stop by the log loss of the later one, and calibrate on it."""
    booster = boost(train, train_labels, MOST_ROUNDS, later, later_labels, offers=offers)
    return CalibratedModel(booster, fit_calibrator(margins(booster, later), later_labels))


def fit_out_of_fold(train: Matrix, labels: Floats, customers: Instants) -> CalibratedModel:
    """For a study without a later slice: folds by customer choose the rounds and give the margins to calibrate on.

    The rounds are those with the least log loss over all held-out rows together, as `xgboost.cv` chooses them: the best
    round of a single fold is mostly luck. The calibrated margins come from fold models of as many rounds as the final
    one, which sees all rows.
    """
    fold = np.random.default_rng(SEED).permutation(int(customers.max()) + 1)[customers] % FOLDS
    parameters, losses, boosters = parameters_for(labels), np.zeros(MOST_ROUNDS), []
    for number in range(FOLDS):
        inside = fold == number
        measured: dict[str, dict[str, list[float]]] = {}
        data, held_out = _data(train[~inside], labels[~inside]), _data(train[inside], labels[inside])
        boosters.append(
            xgboost.train(
                parameters, data, MOST_ROUNDS, evals=[(held_out, "fold")], evals_result=measured, verbose_eval=False
            )
        )
        losses += np.array(measured["fold"]["logloss"]) * inside.sum()
    rounds = int(losses.argmin()) + 1
    out_of_fold = np.empty(len(labels))
    for number, booster in enumerate(boosters):
        out_of_fold[fold == number] = margins(booster[:rounds], train[fold == number])
    return CalibratedModel(boost(train, labels, rounds), fit_calibrator(out_of_fold, labels))


def boost(
    train: Matrix,
    labels: Floats,
    rounds: int,
    later: Matrix | None = None,
    later_labels: Floats | None = None,
    *,
    offers: int = 0,
) -> xgboost.Booster:
    """At most `rounds` trees, cut at the best round when there is a later slice to stop by.

    The last `offers` columns are learned first and alone: each offer's own rate, then what the customer adds to it.
    """
    parameters = parameters_for(labels)
    first = _offers_alone(train, labels, offers, parameters) if offers else None
    left = rounds - OFFERS_FIRST_ROUNDS if offers else rounds
    matrix = _data(train, labels)
    if later is None or later_labels is None:
        return xgboost.train(parameters, matrix, num_boost_round=max(left, 1), xgb_model=first, verbose_eval=False)
    booster = xgboost.train(
        parameters,
        matrix,
        num_boost_round=left,
        evals=[(_data(later, later_labels), "later")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
        xgb_model=first,
    )
    return booster[: booster.best_iteration + 1]


def parameters_for(labels: Floats) -> dict[str, Any]:
    """XGBoost's parameters by how many positives there are to learn from."""
    return PARAMETERS if labels.sum() < FEW_POSITIVES else MANY


def _offers_alone(train: Matrix, labels: Floats, offers: int, parameters: dict[str, Any]) -> xgboost.Booster:
    masked = train.copy()
    masked[:, :-offers] = 0.0
    return xgboost.train(
        {**parameters, **OFFERS_FIRST}, _data(masked, labels), num_boost_round=OFFERS_FIRST_ROUNDS, verbose_eval=False
    )


def _data(matrix: Matrix, labels: Floats) -> xgboost.DMatrix:
    return xgboost.DMatrix(matrix.astype(np.float32), label=labels, missing=np.nan, nthread=THREADS)


def margins(booster: xgboost.Booster, matrix: Matrix) -> Floats:
    """Raw log-odds, (n,), on the same float32 path as serving."""
    found = booster.inplace_predict(matrix.astype(np.float32), predict_type="margin", missing=np.nan)
    return np.asarray(found, dtype=np.float64)


def importance(booster: xgboost.Booster, matrix: Matrix, names: Sequence[str]) -> list[tuple[str, float]]:
    """Features by their mean absolute TreeSHAP contribution (log-odds) over the rows, largest first."""
    data = xgboost.DMatrix(matrix.astype(np.float32), missing=np.nan, nthread=THREADS)
    found = np.abs(np.asarray(booster.predict(data, pred_contribs=True))[:, :-1]).mean(axis=0)
    return sorted(zip(names, (float(value) for value in found), strict=True), key=lambda pair: -pair[1])
