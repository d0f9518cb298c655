"""A model in memory: booster, calibrator and feature order, loaded without pickle and checked before it may score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.features import FeatureSpec, FeatureTable, feature_spec_hash
from vigie_contracts.models import BOOSTER_FILE, MODEL_FILE, ModelDocument, decode_document

from vigie_scoring.domain import Floats, calibrate

if TYPE_CHECKING:
    from xgboost import Booster

GOLDEN_TOLERANCE = 1e-6
Matrix32 = NDArray[np.float32]


@dataclass(frozen=True)
class LoadedModel:
    """A checked version of a registered model. Predictions are thread-safe; rows are ordered by `features`."""

    name: str
    version: str
    document: ModelDocument
    features: tuple[FeatureSpec, ...]
    booster: "Booster"
    ungated: bool = False

    def probabilities(self, rows: Matrix32) -> Floats:
        """Calibrated probabilities of float32 rows (n, features [+ offers]) with NaN for null."""
        margins = self.booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
        return calibrate(self.document.calibrator, np.asarray(margins, dtype=np.float64))

    def contributions(self, rows: Matrix32) -> tuple[Floats, Floats]:
        """TreeSHAP contributions to the log-odds before calibration, (n, features), and the bias (n,)."""
        from xgboost import DMatrix

        found = self.booster.predict(DMatrix(rows, missing=np.nan), pred_contribs=True)
        matrix = np.asarray(found, dtype=np.float64)
        return matrix[:, :-1], matrix[:, -1]

    def offer_rows(self, vector: Matrix32, offers: Sequence[str]) -> Matrix32:
        """One propensity row an offer: the customer's features followed by the one-hot columns of `document.offers`."""
        columns = self.document.offers
        one_hot = np.zeros((len(offers), len(columns)), dtype=np.float32)
        for row, offer in enumerate(offers):
            if offer in columns:
                one_hot[row, columns.index(offer)] = 1.0
        return np.hstack([np.repeat(vector[None, :], len(offers), axis=0), one_hot])


def as_rows(vectors: Sequence[Sequence[int | None]]) -> Matrix32:
    """Float32 rows of integer vectors, null as NaN."""
    return np.array([[np.nan if value is None else value for value in row] for row in vectors], dtype=np.float32)


def load_model(
    directory: Path, name: str, version: str, table: FeatureTable, *, threads: int = 1, ungated: bool = False
) -> LoadedModel:
    """Load and check a downloaded version; InvalidInput or IncompatibleData say in a sentence why it may not serve."""
    document = _document(directory, name, version)
    features = _features(document, table, f"{name} version {version}")
    booster = _booster(_artifact(directory, BOOSTER_FILE, name, version), threads)
    model = LoadedModel(name, version, document, features, booster, ungated)
    _check_width(model)
    _check_golden(model)
    return model


def _artifact(directory: Path, file_name: str, name: str, version: str) -> Path:
    found = sorted(directory.rglob(file_name))
    if not found:
        raise IncompatibleData(f"{name} version {version} has no {file_name}; it was not logged by `vigie train`")
    return found[0]


def _document(directory: Path, name: str, version: str) -> ModelDocument:
    path = _artifact(directory, MODEL_FILE, name, version)
    try:
        return decode_document(path.read_bytes())
    except msgspec.DecodeError as error:
        raise IncompatibleData(f"{name} version {version}: {MODEL_FILE} is damaged: {error}") from error


def _features(document: ModelDocument, table: FeatureTable, who: str) -> tuple[FeatureSpec, ...]:
    missing = [key for key in document.features if key not in table.by_key]
    if missing:
        raise InvalidInput(
            f"{who} needs features that are not live: {', '.join(missing)}; `vigie features apply` folds for those that"
            " the table declares"
        )
    features = table.select(document.features)
    changed = [
        feature.key
        for feature, trained in zip(features, document.definition_hashes, strict=True)
        if feature.definition_hash != trained
    ]
    if changed:
        raise InvalidInput(f"{who} was trained on other definitions of {', '.join(changed)}; train it again")
    if feature_spec_hash(features) != document.spec_hash:
        raise InvalidInput(f"{who}: its spec hash {document.spec_hash} is not that of its features; train it again")
    return features


def _booster(path: Path, threads: int) -> "Booster":
    from xgboost import Booster
    from xgboost.core import XGBoostError

    try:
        booster = Booster(model_file=str(path))
    except XGBoostError as error:
        raise IncompatibleData(f"{path.name} is no XGBoost model: {str(error).splitlines()[0]}") from error
    booster.set_param({"nthread": threads})
    return booster


def _check_width(model: LoadedModel) -> None:
    expected = len(model.features) + len(model.document.offers)
    found: Any = model.booster.num_features()
    if found != expected:
        raise IncompatibleData(f"{model.name} version {model.version}: {found} inputs, but {expected} are declared")


def _check_golden(model: LoadedModel) -> None:
    golden = model.document.golden
    if not golden:
        raise IncompatibleData(f"{model.name} version {model.version} has no golden rows")
    rows = as_rows([row.vector for row in golden])
    wanted = np.array([row.probability for row in golden])
    worst = float(np.max(np.abs(model.probabilities(rows) - wanted)))
    if not worst <= GOLDEN_TOLERANCE:
        raise IncompatibleData(
            f"{model.name} version {model.version}: golden rows differ by {worst:.2g} (at most {GOLDEN_TOLERANCE:g})"
        )
