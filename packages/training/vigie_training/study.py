"""A study: rows with vectors in slices become a calibrated model, a floor to beat, figures, evidence for the gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from vigie_contracts.features import FeatureSpec, FeatureTable, feature_spec_hash
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import GoldenRow, ModelDocument

from vigie_training import leak
from vigie_training.bootstrap import Estimate, evaluate
from vigie_training.evidence import SHALLOW_TREES, Evidence, LeakReport, TestSlice
from vigie_training.lead import lead_times
from vigie_training.metrics import Floats
from vigie_training.snapshots import LabelledRows, Mask
from vigie_training.splits import Split, describe
from vigie_training.train import CalibratedModel, fit, fit_out_of_fold, importance
from vigie_training.vectors import Matrix

GOLDEN_ROWS = 5
EXPLAINED_ROWS = 2_000

Floor = Callable[["Study"], Floats]
"""A study -> the floor model's probabilities of the test slice."""


@dataclass(frozen=True)
class Study:
    """Everything that is fixed before training. `vectors` holds every feature of the table, `features` are the model's.

    A time split calibrates on its own slice; a cohort split out of fold, and its `calibrate` mask is the train mask.
    """

    kind: Literal["churn", "propensity"]
    definition: str
    model_name: str
    title: str
    gap_days: int
    horizon_days: int
    span_us: int
    primary_metric: str
    split_kind: Literal["time", "cohort"]
    table: FeatureTable
    features: tuple[FeatureSpec, ...]
    offers: tuple[str, ...]
    rows: LabelledRows
    vectors: Matrix
    split: Split
    floor_name: str
    floor: Floor
    exclusions: Mapping[str, int] = field(default_factory=dict)
    meaning: str = ""

    @property
    def columns(self) -> list[str]:
        """Names of the model's inputs in order: features, then one 0/1 column an offer."""
        return [feature.key for feature in self.features] + list(self.offers)

    @property
    def spec_hash(self) -> str:
        """Hash of the model's ordered feature list."""
        return feature_spec_hash(self.features)

    @property
    def labels(self) -> Floats:
        """All labels as numbers."""
        return self.rows.labels.astype(np.float64)

    def inputs(self, mask: Mask) -> Matrix:
        """The model's input matrix of the rows of a mask."""
        return model_inputs(self.table, self.features, self.offers, self.rows.take(mask), self.vectors[mask])


@dataclass(frozen=True)
class Learned:
    """What came of a study: the model, its probabilities on the test slice, figures, and the gate's evidence."""

    model: CalibratedModel
    document: ModelDocument
    figures: dict[str, Estimate]
    floor_figures: dict[str, Estimate]
    importance: list[tuple[str, float]]
    evidence: Evidence
    test: TestSlice


def model_inputs(
    table: FeatureTable,
    features: tuple[FeatureSpec, ...],
    offers: tuple[str, ...],
    rows: LabelledRows,
    vectors: Matrix,
) -> Matrix:
    """Columns of the whole table's vectors in the model's order, followed by the one-hot columns of the offers."""
    places = {feature.key: place for place, feature in enumerate(table.features)}
    chosen = vectors[:, [places[feature.key] for feature in features]]
    if not offers:
        return chosen
    asked = np.asarray(rows.offers, dtype=str)
    return np.hstack([chosen, (asked[:, None] == np.array(offers)[None, :]).astype(np.float64)])


def learn(study: Study, data: Path, time_zone: str, progress: Callable[[str], None]) -> Learned:
    """Fit, calibrate, compare with the floor, look for leaks. Deterministic for the same rows."""
    test_rows, labels = study.rows.take(study.split.test), study.labels
    progress(f"Training on {int(study.split.train.sum())} rows with {len(study.columns)} columns")
    model = fit_on(study, study.inputs(np.ones(len(study.rows), dtype=bool)))
    inputs = study.inputs(study.split.test)
    probabilities, floor = model.probabilities(inputs), study.floor(study)
    progress(f"Measuring on {len(test_rows)} later rows, 1,000 customer bootstraps")
    codes = test_rows.codes
    figures = evaluate(labels[study.split.test], probabilities, codes)
    floor_figures = evaluate(labels[study.split.test], floor, codes)
    if study.kind == "churn":
        gap_us = study.gap_days * DAY_US
        figures |= lead_times(test_rows, probabilities, gap_us)
        floor_figures |= lead_times(test_rows, floor, gap_us)
    progress("Looking for leaks: single features, shuffled time, replay from cut logs")
    leaks = _leaks(study, model, probabilities, data, time_zone)
    return Learned(
        model=model,
        document=_document(study, model, inputs, probabilities),
        figures=figures,
        floor_figures=floor_figures,
        importance=importance(model.booster, inputs[:EXPLAINED_ROWS], study.columns),
        evidence=_evidence(study, leaks),
        test=TestSlice(test_rows, probabilities, floor, study.vectors[study.split.test]),
    )


def fit_on(study: Study, matrix: Matrix) -> CalibratedModel:
    """A model on these columns of all rows: stopped and calibrated on the later slice, or out of fold by customer."""
    train, labels = study.split.train, study.labels
    if study.split_kind == "cohort":
        return fit_out_of_fold(matrix[train], labels[train], study.rows.take(train).codes)
    later = study.split.calibrate
    return fit(matrix[train], labels[train], matrix[later], labels[later], offers=len(study.offers))


def recency_only(study: Study) -> Floats:
    """The floor for churn: the same procedure on the recency with the most kinds of event, alone."""
    recencies = [feature for feature in study.table.features if feature.measure == "recency"]
    widest = max(recencies, key=lambda feature: len(feature.events))
    column = study.vectors[:, [study.table.features.index(widest)]]
    return fit_on(study, column).probabilities(column[study.split.test])


def base_rate_of_offer(study: Study) -> Floats:
    """The floor for propensity: each offer's acceptance rate in the train slice, with ten more at the mean rate."""
    train, test = study.rows.take(study.split.train), study.rows.take(study.split.test)
    mean = train.labels.mean()
    assert train.offers is not None
    assert test.offers is not None
    rates = {}
    for offer in study.offers:
        shown = train.labels[np.flatnonzero(train.offers == offer)]
        rates[offer] = (shown.sum() + 10 * mean) / (len(shown) + 10)
    return np.array([rates[offer] for offer in test.offers], dtype=np.float64)


def _leaks(study: Study, model: CalibratedModel, probabilities: Floats, data: Path, time_zone: str) -> LeakReport:
    used = study.split.train | study.split.calibrate | study.split.test
    matrix, rows, test = study.inputs(used), study.rows.take(used), study.split.test[used]
    strongest = leak.single_features(matrix, rows.labels.astype(np.float64), study.columns)[0]
    gain = leak.shuffled_time_gain(
        matrix, rows, test, probabilities, model.booster.num_boosted_rounds(), len(study.offers)
    )
    replayed, mismatches = leak.replay_mismatches(
        data, study.table, time_zone, rows, study.vectors[used], study.table.features
    )
    return LeakReport(
        strongest_feature=strongest[0],
        strongest_auc=strongest[1],
        shuffled_time_gain=gain,
        replayed=replayed,
        replay_mismatches=mismatches,
        alarms=leak.alarms(strongest, gain, replayed, mismatches),
    )


def _evidence(study: Study, leaks: LeakReport) -> Evidence:
    names = ("train", "test") if study.split_kind == "cohort" else ("train", "calibrate", "test")
    slices = [describe(name, study.rows.take(study.split.of(name))) for name in names]
    return Evidence(
        kind=study.kind,
        definition=study.definition,
        primary_metric=study.primary_metric,
        complexity=SHALLOW_TREES,
        split=study.split_kind,
        span_us=study.span_us,
        slices=slices,
        matures_at_us=slices[-1].to_us + study.span_us,
        floor=study.floor_name,
        stored=[(feature.key, feature.definition_hash) for feature in study.table.features],
        leaks=leaks,
    )


def _document(study: Study, model: CalibratedModel, inputs: Matrix, probabilities: Floats) -> ModelDocument:
    train = study.inputs(study.split.train)[:, : len(study.features)]
    return ModelDocument(
        kind=study.kind,
        definition=study.definition,
        features=[feature.key for feature in study.features],
        definition_hashes=[feature.definition_hash for feature in study.features],
        spec_hash=study.spec_hash,
        horizon_days=study.horizon_days,
        gap_days=study.gap_days,
        calibrator=model.calibrator,
        typical=[_typical(column) for column in train.T],
        golden=_golden(inputs, probabilities),
        base_rate=float(study.labels[study.split.train].mean()),
        offers=list(study.offers),
    )


def _typical(column: Floats) -> float | None:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) * 2 > len(column) else None


def _golden(inputs: Matrix, probabilities: Floats) -> list[GoldenRow]:
    """Rows from the least to the most probable."""
    order = np.argsort(probabilities, kind="stable")
    places = order[np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int)]
    return [
        GoldenRow([None if np.isnan(value) else int(value) for value in inputs[place]], float(probabilities[place]))
        for place in places
    ]
