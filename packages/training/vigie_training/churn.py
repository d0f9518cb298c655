"""The study of a churn definition: weekly snapshots split by time, or landmarks that a study fixes itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.scores import ChurnDefinition

from vigie_training import splits
from vigie_training.fates import fates
from vigie_training.population import NEVER, archive_views, denying, read_population
from vigie_training.snapshots import LabelledRows, from_table, label_span_us, weekly
from vigie_training.splits import Split
from vigie_training.study import Study, recency_only
from vigie_training.vectors import TrainingVectors

PRIMARY_METRIC = "auc"
Progress = Callable[[str], None]


def weekly_study(data: Path, feature_repo: Path, definition: ChurnDefinition, now_us: int, progress: Progress) -> Study:
    """Weekly as-of rows of everyone eligible, mature by `now_us`, split by time. InvalidInput when they are too few."""
    with archive_views(data / "archive") as db:
        population = read_population(db, outcome=definition.outcome, min_history_days=definition.min_history_days)
        snapshots = weekly(population, definition, now_us)
        found = fates(db, definition, snapshots)
    rows = snapshots.labelled(found.lost, found.eligible)
    if definition.kind == "closure":
        rows = replace(rows, lost_at_us=snapshots.outcome_us[found.eligible])
    if not len(rows):
        raise InvalidInput(
            f"nobody is eligible for {definition.key!r}; `vigie churn preview {definition.key}` says more"
        )
    split = splits.by_time(rows, label_span_us(definition))
    used = split.train | split.calibrate | split.test
    exclusions = {
        "customers who deny analytics": population.denied,
        "rows that the definition does not cover": int((~found.eligible).sum()),
        "rows between the slices, whose label windows overlap (purge)": int((~used).sum()),
    }
    rows, split = rows.take(used), Split(split.train[used], split.calibrate[used], split.test[used])
    return _study(data, feature_repo, definition, rows, split, "time", exclusions, progress)


def landmark_study(
    data: Path, feature_repo: Path, definition: ChurnDefinition, table: pa.Table, progress: Progress
) -> Study:
    """Rows, labels and cohorts of the given table (snapshots.from_table); calibrated out of fold by customer."""
    rows, test = from_table(table)
    with archive_views(data / "archive") as db:
        denied = denying(db, "analytics")
        population = read_population(db, outcome=definition.outcome, min_history_days=definition.min_history_days)
    if definition.kind == "closure":
        left = dict(zip(population.customer_ids, population.outcome_us.tolist(), strict=True))
        rows = replace(rows, lost_at_us=np.array([left.get(one, NEVER) for one in rows.customer_ids], dtype=np.int64))
    kept = np.array([customer_id not in denied for customer_id in rows.customer_ids], dtype=bool)
    rows, test = rows.take(kept), test[kept]
    split = Split(train=~test, calibrate=~test, test=test)
    splits.check_positives(rows, split)
    exclusions = {"rows of customers who deny analytics": int((~kept).sum())}
    return _study(data, feature_repo, definition, rows, split, "cohort", exclusions, progress)


def _study(
    data: Path,
    feature_repo: Path,
    definition: ChurnDefinition,
    rows: LabelledRows,
    split: Split,
    kind: str,
    exclusions: dict[str, int],
    progress: Progress,
) -> Study:
    table = FeatureTable.load(feature_repo)
    table.select(definition.exclude_features)
    features = tuple(feature for feature in table.features if feature.key not in definition.exclude_features)
    progress(f"Reading {len(table.features)} features of {len(rows)} (customer, as-of) rows through Feast")
    vectors = TrainingVectors(data, feature_repo).at(rows.customer_ids, rows.as_of_us, table.features)
    return Study(
        kind="churn",
        definition=definition.key,
        model_name=definition.model_name,
        title=definition.name.get("en", definition.key),
        gap_days=definition.gap_days,
        horizon_days=definition.horizon_days,
        meaning=meaning(definition),
        span_us=label_span_us(definition),
        primary_metric=PRIMARY_METRIC,
        split_kind="cohort" if kind == "cohort" else "time",
        table=table,
        features=features,
        offers=(),
        rows=rows,
        vectors=vectors,
        split=split,
        floor_name="recency-only",
        floor=recency_only,
        exclusions=exclusions,
    )


def meaning(definition: ChurnDefinition) -> str:
    """What the definition calls lost, and who is eligible, for people."""
    attrition = definition.attrition
    if attrition is not None:
        value = "the sum of" if attrition.measure == "sum" else "the level that stands at the end, by"
        watched = ", ".join(f"`{amount.value_property}` of {_named(amount.events)}" for amount in attrition.amounts)
        return (
            f"{value} {watched} in the interval is under {attrition.share:.0%} of the median of the"
            f" {attrition.periods} periods of {definition.horizon_days} d before as-of; eligible are customers with a"
            f" median of at least {attrition.least} whose latest period is not under it already"
        )
    if definition.kind == "inactivity":
        return (
            f"no act in the interval, of {len(definition.activity)} micro-conversions that count as one; eligible are"
            f" customers with an act in the {definition.horizon_days} d before as-of"
        )
    return f"`{definition.outcome}` lies in the interval; eligible is everybody who is not gone yet"


def _named(events: tuple[str, ...]) -> str:
    return ", ".join(f"`{event}`" for event in events)
