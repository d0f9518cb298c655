"""What `vigie train`, `promote`, `rollback` and `models` call."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import pyarrow as pa
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import format_instant
from vigie_contracts.models import CHAMPION, PROPENSITY_MODEL
from vigie_contracts.scores import ChurnDefinition
from vigie_kit.clock import Clock
from vigie_kit.installation import load
from vigie_tiles.live import live_table
from vigie_tiles.schema import FEATURES_DB

from vigie_training import plots
from vigie_training.bootstrap import Estimate
from vigie_training.card import model_card
from vigie_training.churn import landmark_study, weekly_study
from vigie_training.evidence import LeakReport
from vigie_training.gate import GateReport
from vigie_training.promotion import Promoter
from vigie_training.propensity import propensity_study
from vigie_training.registry import GATE_TAG, Registry, Run, Version
from vigie_training.splits import Slice
from vigie_training.store import Ledger, LedgerRow
from vigie_training.study import Learned, Study, learn
from vigie_training.train import parameters_for

Kind = Literal["churn", "next-best-offer"]
Progress = Callable[[str], None]


class TrainedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: registered as `version` with the alias challenger. `url` opens it in MLflow."""

    kind: str
    model_name: str
    version: str
    run_id: str
    url: str
    spec_hash: str
    slices: list[Slice]
    figures: dict[str, Estimate]
    floor: str
    floor_figures: dict[str, Estimate]
    leaks: LeakReport
    seconds: float


class ModelLine(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version, for people. `gate` is held, overridden, refused or null."""

    name: str
    version: str
    aliases: list[str]
    gate: str | None
    created_at: str


def model_name(kind: Kind, feature_repo: Path, definition: str = "closure") -> str:
    """The registered model's name of a kind."""
    return PROPENSITY_MODEL if kind == "next-best-offer" else ChurnDefinition.load(feature_repo, definition).model_name


def train(
    kind: Kind,
    *,
    data: Path,
    feature_repo: Path,
    mlflow_uri: str,
    clock: Clock,
    definition: str = "closure",
    landmarks: pa.Table | None = None,
    progress: Progress = lambda _said: None,
) -> TrainedRun:
    """Train on the archive, log everything to MLflow, register, name it challenger.

    `landmarks` (churn only) is an explicit label table with cohorts, see `snapshots.from_table`. InvalidInput says in a
    sentence what the data lack.
    """
    began = time.monotonic()
    now_us = clock.now_us()
    study = _study(kind, data, feature_repo, definition, landmarks, now_us, progress)
    learned = learn(study, data, load(data).time_zone, progress)
    progress(f"Logging and registering {study.model_name} in MLflow")
    with TemporaryDirectory(prefix="vigie-run-") as folder:
        version, run_id = _publish(study, learned, mlflow_uri, Path(folder), format_instant(now_us))
    return TrainedRun(
        kind=kind,
        model_name=study.model_name,
        version=version.version,
        run_id=run_id,
        url=f"{mlflow_uri.rstrip('/')}/#/models/{study.model_name}/versions/{version.version}",
        spec_hash=study.spec_hash,
        slices=learned.evidence.slices,
        figures=learned.figures,
        floor=study.floor_name,
        floor_figures=learned.floor_figures,
        leaks=learned.evidence.leaks,
        seconds=time.monotonic() - began,
    )


def promote(
    name: str,
    *,
    data: Path,
    mlflow_uri: str,
    clock: Clock,
    who: str,
    version: str | None = None,
    override: str | None = None,
) -> GateReport:
    """Run the gate on a version (default: the challenger) and make it champion when it holds or is overridden."""
    ledger = Ledger(data)
    try:
        live = live_table(data / FEATURES_DB)
        return Promoter(Registry(mlflow_uri), ledger, who, clock.now_us(), live).promote(name, version, override)
    finally:
        ledger.close()


def rollback(name: str, *, data: Path, mlflow_uri: str, clock: Clock, who: str) -> LedgerRow:
    """Point champion back to the version before; answers the ledger's row."""
    ledger = Ledger(data)
    try:
        return Promoter(Registry(mlflow_uri), ledger, who, clock.now_us()).rollback(name)
    finally:
        ledger.close()


def models(mlflow_uri: str) -> list[ModelLine]:
    """Every registered version, newest first within a model."""
    return [_line(version) for version in Registry(mlflow_uri).versions()]


def champion(name: str, mlflow_uri: str) -> str | None:
    """The champion's version number, or null."""
    found = Registry(mlflow_uri).by_alias(name, CHAMPION)
    return found.version if found else None


def promotions(data: Path, name: str | None = None) -> list[LedgerRow]:
    """The promotion ledger, oldest first."""
    ledger = Ledger(data)
    try:
        return ledger.rows(name)
    finally:
        ledger.close()


def _study(
    kind: Kind,
    data: Path,
    feature_repo: Path,
    definition: str,
    landmarks: pa.Table | None,
    now_us: int,
    progress: Progress,
) -> Study:
    if kind == "next-best-offer":
        if landmarks is not None:
            raise InvalidInput("landmarks are for churn; offers are learned at the instants they were shown")
        progress("Reading shown offers and their answers from the archive")
        return propensity_study(data, feature_repo, now_us, progress)
    churn = ChurnDefinition.load(feature_repo, definition)
    progress(f"Reading customers and outcomes of {churn.key!r} from the archive")
    if landmarks is not None:
        return landmark_study(data, feature_repo, churn, landmarks, progress)
    return weekly_study(data, feature_repo, churn, now_us, progress)


def _publish(study: Study, learned: Learned, mlflow_uri: str, folder: Path, trained_at: str) -> tuple[Version, str]:
    _papers(study, learned, folder, trained_at)
    run = Run(
        model_name=study.model_name,
        model=learned.model,
        document=learned.document,
        features=study.features,
        evidence=learned.evidence,
        test=learned.test,
        params=_params(study, learned),
        metrics=_metrics(learned),
        tables={"figures.json": {"model": learned.figures, "floor": learned.floor_figures}},
        folder=folder,
    )
    return Registry(mlflow_uri).publish(run)


def _papers(study: Study, learned: Learned, folder: Path, trained_at: str) -> None:
    test = learned.test
    labels, where = test.rows.labels.astype(float), f"{study.model_name}, test slice"
    plots.reliability(folder / "reliability.png", f"Reliability: {where}", labels, test.probabilities, test.rows.codes)
    plots.gains(folder / "lift.png", f"Lift: {where}", labels, test.probabilities, test.floor, study.floor_name)
    plots.top_features(folder / "top_features.png", f"What it looks at: {where}", learned.importance)
    (folder / "model_card.md").write_text(model_card(study, learned, trained_at), encoding="utf-8")


def _params(study: Study, learned: Learned) -> dict[str, object]:
    periods = {
        f"{found.name}_{edge}": format_instant(instant)
        for found in learned.evidence.slices
        for edge, instant in (("from", found.from_us), ("to", found.to_us))
    }
    return {
        "definition": study.definition,
        "gap_days": study.gap_days,
        "horizon_days": study.horizon_days,
        "split": study.split_kind,
        "features": len(study.features),
        "spec_hash": study.spec_hash,
        "primary_metric": study.primary_metric,
        "floor": study.floor_name,
        "calibration": learned.model.calibrator.kind,
        "rounds": learned.model.booster.num_boosted_rounds(),
        **{_parameter(f"excluded: {what}"): count for what, count in study.exclusions.items()},
        **{f"xgboost_{name}": value for name, value in parameters_for(study.labels[study.split.train]).items()},
        **periods,
    }


def _metrics(learned: Learned) -> dict[str, float]:
    """`auc`, `auc_low`, `auc_high`, `floor_auc` …; figures that are not defined are left out."""
    found: dict[str, float | None] = {}
    for name, estimate in learned.figures.items():
        found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    found |= {f"floor_{name}": estimate.value for name, estimate in learned.floor_figures.items()}
    for part in learned.evidence.slices:
        found |= {f"{part.name}_rows": float(part.rows), f"{part.name}_positives": float(part.positives)}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _line(version: Version) -> ModelLine:
    return ModelLine(
        name=version.name,
        version=version.version,
        aliases=sorted(version.aliases),
        gate=version.tags.get(GATE_TAG),
        created_at=format_instant(version.created_at_ms * 1_000),
    )


def _parameter(name: str) -> str:
    """A name that MLflow takes as a parameter's."""
    return re.sub(r"[^\w\-. :/]", "", name)[:250]
