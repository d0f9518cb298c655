"""Leak alarms: a feature that knows the outcome, a set that needs time shuffled, a vector that saw the future."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_tiles.batch import Batch, read_manifest

from vigie_training import metrics
from vigie_training.bootstrap import Estimate, bootstrap
from vigie_training.metrics import Floats
from vigie_training.population import archive_views
from vigie_training.snapshots import LabelledRows, Mask
from vigie_training.train import SEED, boost, margins
from vigie_training.vectors import Matrix

SINGLE_FEATURE_AUC = 0.95
SHUFFLED_TIME_GAIN = 0.05
REPLAYED_ROWS = 200


def single_features(matrix: Matrix, labels: Floats, names: Sequence[str]) -> list[tuple[str, float]]:
    """Each column's AUC alone, whichever way it points, null lowest or highest; strongest first."""
    ones = np.ones((1, len(labels)))
    found = [(name, _alone(matrix[:, place], labels, ones)) for place, name in enumerate(names)]
    return sorted(found, key=lambda pair: -pair[1])


def _alone(column: Floats, labels: Floats, ones: Floats) -> float:
    best = 0.5
    for null in (-np.inf, np.inf):
        values = np.where(np.isnan(column), null, column)
        area = float(metrics.auc(labels, values, ones)[0])
        best = max(best, area, 1 - area) if np.isfinite(area) else best
    return best


def shuffled_time_gain(
    matrix: Matrix, rows: LabelledRows, test: Mask, probabilities: Floats, rounds: int, offers: int = 0
) -> Estimate:
    """How much AUC on the test slice is gained by learning with time shuffled instead of from the past.

    The shuffled model sees rows of all slices, but of other customers only (two folds by customer). Features that mean
    the same at all times gain nothing; one that carries the time of the outcome does. `test` is a mask over the rows.
    """
    codes = rows.codes
    fold = np.random.default_rng(SEED).permutation(int(codes.max()) + 1)[codes] % 2
    labels = rows.labels.astype(np.float64)
    shuffled = np.empty(len(labels))
    for number in range(2):
        others = fold != number
        booster = boost(matrix[others], labels[others], rounds, offers=offers)
        inside = test & (fold == number)
        shuffled[inside] = margins(booster, matrix[inside])
    y, other = labels[test], shuffled[test]
    return bootstrap(
        np.unique(codes[test], return_inverse=True)[1],
        lambda w: {"gain": metrics.auc(y, other, w) - metrics.auc(y, probabilities, w)},
    )["gain"]


def replay_mismatches(
    data: Path,
    table: FeatureTable,
    time_zone: str,
    rows: LabelledRows,
    vectors: Matrix,
    features: Sequence[FeatureSpec],
) -> tuple[int, int]:
    """(rows recomputed, values that differ): each from a log cut at its as-of, every later record deleted.

    One row a customer, so that one cut archive serves them all.
    """
    sample = _one_row_a_customer(rows)
    chosen = rows.take(sample)
    labels = pa.table({"customer_id": pa.array(chosen.customer_ids.tolist(), pa.string()), "t_us": chosen.as_of_us})
    with TemporaryDirectory(prefix="vigie-replay-") as folder:
        _cut(data / "archive", Path(folder), labels)
        again = Batch(Path(folder), table, time_zone).vectors(labels, features)
    columns = [again[feature.key].cast(pa.float64()).to_numpy(zero_copy_only=False) for feature in features]
    recomputed, wanted = np.column_stack(columns), vectors[sample]
    same = (recomputed == wanted) | (np.isnan(recomputed) & np.isnan(wanted))
    return len(sample), int((~same).sum())


def alarms(strongest: tuple[str, float], gain: Estimate, replayed: int, mismatches: int) -> list[str]:
    """The sentences of the alarms that ring."""
    found = []
    if strongest[1] > SINGLE_FEATURE_AUC:
        found.append(f"{strongest[0]} alone reaches AUC {strongest[1]:.3f}: it knows the outcome")
    if gain.low is not None and gain.low > SHUFFLED_TIME_GAIN:
        found.append(f"learning with time shuffled gains {gain.text()} AUC: a feature carries the time of the outcome")
    if mismatches or not replayed:
        found.append(f"{mismatches} values of {replayed} rows differ when the log is cut at their as-of instant")
    return found


def _one_row_a_customer(rows: LabelledRows) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Places of up to REPLAYED_ROWS rows of distinct customers, half of them positive where there are enough."""
    shuffled = np.random.default_rng(SEED).permutation(len(rows))
    _, first = np.unique(rows.codes[shuffled], return_index=True)
    places = shuffled[first]
    by_label = [places[rows.labels[places] == label] for label in (1, 0)]
    half = by_label[0][: REPLAYED_ROWS // 2]
    return np.sort(np.concatenate([half, by_label[1][: REPLAYED_ROWS - len(half)]]))


def _cut(archive: Path, folder: Path, labels: pa.Table) -> None:
    """Write to `folder` the records of the labels' customers that were known and effective before their instant."""
    with archive_views(archive) as db:
        db.register("cut", labels)
        db.execute(
            "CREATE TEMP TABLE whose AS SELECT DISTINCT m.member_id, c.t_us FROM ("
            " SELECT member_id, to_customer_id AS customer_id FROM map"
            " UNION SELECT DISTINCT member_id, member_id FROM events) m JOIN cut c USING (customer_id)"
        )
        files = [
            _copy(db, archive, folder, "events", "r.known_at_us <= w.t_us AND r.effective_at_us < w.t_us"),
            _copy(db, archive, folder, "map", "r.known_at_us <= w.t_us"),
        ]
    manifest = {"format": 1, "end": {"0": 1}, "files": [file for file in files if file]}
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def _copy(
    db: duckdb.DuckDBPyConnection, archive: Path, folder: Path, kind: str, until: str
) -> dict[str, object] | None:
    files = [archive / name for of, name in read_manifest(archive)[1] if of == kind]
    if not files:
        return None
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    target = folder / f"{kind}.parquet"
    rows = db.execute(
        f"COPY (SELECT DISTINCT ON (r.lane, r.number, r.member_id) r.* FROM read_parquet([{listed}]) r"
        f" JOIN whose w USING (member_id) WHERE {until}) TO '{target}' (FORMAT parquet)"
    ).fetchall()[0][0]
    return {"name": target.name, "kind": kind, "first": 1, "last": 1, "rows": rows}
