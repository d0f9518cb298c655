"""Tiny boosters with their documents, written as training writes them (booster.ubj and vigie.json)."""

from pathlib import Path

import numpy as np
import xgboost
from vigie_contracts.features import FeatureTable, feature_spec_hash
from vigie_contracts.models import (
    BOOSTER_FILE,
    MODEL_FILE,
    Calibrator,
    GoldenRow,
    ModelDocument,
    encode_document,
)
from vigie_scoring.domain import calibrate
from vigie_scoring.loaded import as_rows

FEATURES = ["login_count_7d", "login_count_30d", "complaint_count_30d", "login_recency"]
PLATT = Calibrator(kind="platt", a=1.0, b=0.0)


def train(rows: np.ndarray, labels: np.ndarray, *, trees: int = 12, seed: int = 0) -> xgboost.Booster:
    """A shallow deterministic booster."""
    parameters = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.4, "seed": seed, "nthread": 1}
    return xgboost.train(parameters, xgboost.DMatrix(rows, label=labels), num_boost_round=trees)


def churn_booster(seed: int = 0) -> xgboost.Booster:
    """Leaves when logins are few and complaints many."""
    random = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            random.integers(0, 10, 600),
            random.integers(0, 40, 600),
            random.integers(0, 4, 600),
            random.integers(0, 400, 600),
        ]
    ).astype(np.float32)
    rows[::17, 3] = np.nan
    chance = 1 / (1 + np.exp(rows[:, 0] * 0.6 - rows[:, 2] * 1.5))
    return train(rows, (random.random(600) < chance).astype(np.float32), seed=seed)


def propensity_booster(offers: list[str], seed: int = 0) -> xgboost.Booster:
    """Accepts the first offer more when logging in often."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 10, (800, len(FEATURES))).astype(np.float32)
    which = random.integers(0, len(offers), 800)
    one_hot = np.eye(len(offers), dtype=np.float32)[which]
    chance = 0.1 + 0.08 * rows[:, 0] * (which == 0) + 0.05 * which
    labels = (random.random(800) < chance).astype(np.float32)
    return train(np.hstack([rows, one_hot]), labels, seed=seed)


def write_model(
    directory: Path,
    table: FeatureTable,
    booster: xgboost.Booster,
    *,
    kind: str = "churn",
    offers: list[str] | None = None,
    features: list[str] | None = None,
    calibrator: Calibrator = PLATT,
    **changes: object,
) -> ModelDocument:
    """Write the two files; `changes` replace fields of the document, to make it wrong."""
    keys = features or FEATURES
    chosen = table.select(keys)
    golden = [[1, 2, 0, 40], [9, 30, 0, 1], [0, 0, 3, None]]
    golden = [row + [1] + [0] * (len(offers) - 1) if offers else row for row in golden]
    margins = booster.inplace_predict(as_rows(golden), predict_type="margin", missing=np.nan)
    probabilities = calibrate(calibrator, np.asarray(margins, dtype=np.float64))
    fields: dict[str, object] = {
        "kind": kind,
        "definition": "closure",
        "features": keys,
        "definition_hashes": [feature.definition_hash for feature in chosen],
        "spec_hash": feature_spec_hash(chosen),
        "horizon_days": 30,
        "gap_days": 7,
        "calibrator": calibrator,
        "typical": [4.0, 18.0, 0.0, 24.0],
        "golden": [GoldenRow(row, float(p)) for row, p in zip(golden, probabilities, strict=True)],
        "base_rate": 0.1,
        "offers": offers or [],
    }
    document = ModelDocument(**{**fields, **changes})  # type: ignore[arg-type]
    directory.mkdir(parents=True, exist_ok=True)
    booster.save_model(str(directory / BOOSTER_FILE))
    (directory / MODEL_FILE).write_bytes(encode_document(document))
    return document
