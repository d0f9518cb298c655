"""A sweep over everybody: tiles finalised at the clock, scored, and stored if the score changed.

The floor is the bare `inplace_predict` of the same model on the ready matrix. Model: depth 4, 200 trees, 40 features;
one thread on both sides. The histories of a thousand simulated customers stand for a million.
"""

import contextlib
import json
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import DAY_US
from vigie_tiles import schema
from vigie_tiles.reader import TileReader

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events, floors  # noqa: E402

HISTORIES, CUSTOMERS, DAYS, FEATURES, PAGE, RUNS = 1_000, 1_000_000, 60, 40, 4_000, 2
NOW_US = bank_events.START_US + (DAYS + 1) * DAY_US
_STORE = """INSERT INTO scores VALUES (?, ?) ON CONFLICT (customer_id) DO UPDATE SET value = excluded.value
    WHERE abs(excluded.value - value) > 1e-9"""


def run(runs: int = RUNS, customers: int = CUSTOMERS, histories: int = HISTORIES) -> Iterator[dict[str, Any]]:
    """Case `sweep_1m`: customers a second, over all of them, `runs` days in a row."""
    layout = bank_events.layout()
    features = layout.table.features[:FEATURES]
    state = bank_events.fold_all(layout, bank_events.events(histories, DAYS))
    names = [f"{name}-{copy}" for copy in range(customers // len(state)) for name in state]
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        path = Path(folder) / schema.FEATURES_DB
        _fill(path, [(row.blob, row.newest_us) for row in state.values()], names)
        scores = floors.open_log(Path(folder) / "scores.db")
        scores.execute("CREATE TABLE scores (customer_id TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID")
        with contextlib.closing(TileReader(path, layout)) as reader:
            model = _model(reader, names[: len(state)], features)
            values, least, changed = [], [], 0
            for day in range(runs):
                seconds, predicting, changed = _sweep(reader, model, scores, names, features, NOW_US + day * DAY_US)
                values.append(len(names) / seconds)
                least.append(len(names) / predicting)
        scores.close()
    value, floor = statistics.median(values), statistics.median(least)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield {
        "bench": "sweep",
        "case": "sweep_1m",
        "unit": "customers/s",
        "value": value,
        "floor": floor,
        "peer": None,
        "ratio_to_floor": value / floor,
        "ratio_to_peer": None,
        "peer_name": None,
        "runs": runs,
        "note": f"{len(names):,} customers, {changed:,} changed on the last day; {peak:,.0f} MB resident at most",
    }


def _fill(path: Path, tiles: Sequence[tuple[bytes, int]], names: Sequence[str]) -> None:
    connection = floors.open_log(path)
    for statement in schema.DDL:
        connection.execute(statement)
    connection.execute("BEGIN")
    rows = ((name, *tiles[place % len(tiles)]) for place, name in enumerate(names))
    connection.executemany("INSERT INTO tiles VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def _model(reader: TileReader, names: Sequence[str], features: Sequence[FeatureSpec]) -> xgb.Booster:
    matrix = _matrix(reader, names, features, NOW_US)
    labels = np.random.default_rng(1).integers(0, 2, len(names))
    settings = {"max_depth": 4, "objective": "binary:logistic", "nthread": 1}
    return xgb.train(settings, xgb.DMatrix(matrix, label=labels), num_boost_round=200)


def _matrix(reader: TileReader, names: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> Any:
    found = reader.read(names, features, now_us).matrix
    matrix = found.values.astype(np.float32)
    matrix[~found.valid] = np.nan
    return matrix


def _sweep(
    reader: TileReader,
    model: xgb.Booster,
    scores: sqlite3.Connection,
    names: Sequence[str],
    features: Sequence[FeatureSpec],
    now_us: int,
) -> tuple[float, float, int]:
    """(seconds of all, seconds of the bare predictions in it, scores that changed)."""
    predicting, changed, started = 0.0, 0, time.perf_counter()
    for at in range(0, len(names), PAGE):
        page = names[at : at + PAGE]
        matrix = _matrix(reader, page, features, now_us)
        before = time.perf_counter()
        found = model.inplace_predict(matrix).tolist()
        predicting += time.perf_counter() - before
        scores.execute("BEGIN IMMEDIATE")
        changed += scores.executemany(_STORE, zip(page, found, strict=True)).rowcount
        scores.execute("COMMIT")
    return time.perf_counter() - started, predicting, changed


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
