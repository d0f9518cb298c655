"""Point-in-time training vectors: 20,000 labels, a million events, 40 windowed features, beside plain DuckDB SQL.

Peers: in the same DuckDB with the same threads over the same Parquet `pit` is a range join a feature, as an analyst
writes them, and `one_join` a single range join with a filtered aggregate a feature; all three must agree. `feast_join`
is Feast's own duckdb store, which joins ready-made rows of as many features, one an event (it computes none of them).
"""

import importlib.util
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_tiles.batch import EVENT_SCHEMA, Batch

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events  # noqa: E402

EVENTS, MEMBERS, LABELS, FEATURES, DAYS, RUNS, THREADS = 1_000_000, 20_000, 20_000, 40, 200, 3, 2
MEASURES = ("count", "sum", "max", "active_days")
PEERS = {"pit": "plain DuckDB SQL, a range join a feature", "one_join": "plain DuckDB SQL, one range join"}

Way = Callable[[], Any]


def run(
    runs: int = RUNS, events: int = EVENTS, members: int = MEMBERS, labels: int = LABELS
) -> Iterator[dict[str, Any]]:
    """Cases `pit`, `one_join` and `feast_join`: label rows a second from the Parquet files on, medians of runs."""
    table = FeatureTable.load(bank_events.FEATURE_REPO)
    features = [row for row in table.features if row.measure in MEASURES][:FEATURES]
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        _archive(Path(folder), table, events, members)
        asked = _labels(members, labels)
        with duckdb.connect() as plain:
            plain.execute(f"SET threads = {THREADS}")
            plain.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{folder}/*.parquet')")
            plain.register("asked", asked)
            plain.execute(f"CREATE TABLE label AS SELECT row_number() OVER () - 1 AS row, *{_edges()} FROM asked")
            ways: dict[str, Way] = {
                "ours": lambda: _columns(_ours(Path(folder), table, asked, features)),
                "pit": lambda: [_one(plain, feature) for feature in features],
                "one_join": lambda: _together(plain, features),
            }
            first, *others = (way() for way in ways.values())
            if any(other != first for other in others):
                raise RuntimeError("the ways of computing the vectors do not agree")
            seconds = _measured(ways, runs)
            peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB resident at most"
            for case, peer in PEERS.items():
                yield _row(case, runs, labels / seconds["ours"], labels / seconds[case], peer, peak)
        if joined := _feast(Path(folder) / "stored", asked, features, events, members):
            both: dict[str, Way] = {"ours": lambda: _ours(Path(folder), table, asked, features), "feast_join": joined}
            seconds = _measured(both, runs)
            peer = "Feast's duckdb store, ready-made rows"
            note = f"{events:,} rows of {len(features)} columns"
            yield _row("feast_join", runs, labels / seconds["ours"], labels / seconds["feast_join"], peer, note)


def _measured(ways: dict[str, Way], runs: int) -> dict[str, float]:
    """Median seconds of each way, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in taken.items()}


def _row(case: str, runs: int, value: float, peer: float, peer_name: str, note: str) -> dict[str, Any]:
    return {
        "bench": "pit",
        "case": case,
        "unit": "labels/s",
        "value": value,
        "floor": None,
        "peer": peer,
        "ratio_to_floor": None,
        "ratio_to_peer": value / peer,
        "peer_name": peer_name,
        "runs": runs,
        "note": f"{FEATURES} features; {note}",
    }


def _feast(folder: Path, asked: pa.Table, features: Sequence[FeatureSpec], events: int, members: int) -> Way | None:
    """Stock Feast with its duckdb store over a row of ready values an event; None where its parts are not installed."""
    if not all(importlib.util.find_spec(name) for name in ("ibis", "pyarrow_hotfix")):
        return None
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Int64

    folder.mkdir()
    draw = np.random.default_rng(7)
    at = np.sort(draw.integers(bank_events.START_US, bank_events.START_US + DAYS * DAY_US, events))
    names = np.char.add("m", draw.integers(0, members, events).astype(str))
    values = {feature.key: draw.integers(0, 500, events) for feature in features}
    stamped = {"event_timestamp": pa.array(at, pa.timestamp("us", "UTC")), "customer_id": pa.array(names)}
    pq.write_table(pa.table({**stamped, **values}), folder / "rows.parquet")
    config = RepoConfig(
        project="stored",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db", "cache_ttl_seconds": 600},
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="stored",
        entities=[customer],
        schema=[Field(name=feature.key, dtype=Int64) for feature in features],
        source=FileSource(name="rows", path=str(folder / "rows.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([customer, view])
    frame = asked.to_pandas().rename(columns={"t_us": "event_timestamp"})
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], unit="us", utc=True)
    references = [f"stored:{feature.key}" for feature in features]
    return lambda: store.get_historical_features(frame, references).to_arrow()


def _archive(folder: Path, table: FeatureTable, count: int, members: int) -> None:
    """Events of every name that the features look at, evenly spread, in one file under a manifest."""
    draw = np.random.default_rng(5)
    names = sorted({name for row in table.features for name in row.events})
    at = np.sort(draw.integers(bank_events.START_US, bank_events.START_US + DAYS * DAY_US, count))
    amounts = pa.MapArray.from_arrays(
        np.arange(count + 1), pa.array(np.repeat("amount", count)), pa.array(draw.integers(1, 50_000, count))
    )
    columns = {
        "lane": np.zeros(count, np.int32),
        "number": np.arange(1, count + 1),
        "member_id": pa.array(np.char.add("m", draw.integers(0, members, count).astype(str))),
        "name": pa.array(np.array(names)[draw.integers(0, len(names), count)]),
        "kind": pa.array(np.repeat("track", count)),
        "catalogued": np.ones(count, bool),
        "received_at_us": at,
        "known_at_us": at,
        "timestamp_us": at,
        "effective_at_us": at,
        "properties": pa.array(np.where(draw.random(count) < 0.5, '{"direction":"in"}', '{"direction":"out"}')),
        "measures": amounts,
        "traits": pa.array(np.repeat("{}", count)),
    }
    filled = [columns.get(field.name, pa.nulls(count, field.type)) for field in EVENT_SCHEMA]
    arrays = [pa.array(values).cast(field.type) for values, field in zip(filled, EVENT_SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=EVENT_SCHEMA), folder / "events.parquet")
    file = {"name": "events.parquet", "kind": "events", "first": 1, "last": count, "rows": count}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "end": {"0": count}, "files": [file]}))


def _labels(members: int, count: int) -> pa.Table:
    draw = np.random.default_rng(6)
    instants = draw.integers(bank_events.START_US + 95 * DAY_US, bank_events.START_US + DAYS * DAY_US, count)
    names = np.char.add("m", draw.integers(0, members, count).astype(str))
    return pa.table({"customer_id": pa.array(names), "t_us": pa.array(instants)})


def _ours(archive: Path, table: FeatureTable, asked: pa.Table, features: Sequence[FeatureSpec]) -> pa.Table:
    with Batch(archive, table, "UTC", threads=THREADS) as batch:
        return batch.vectors(asked, features)


def _columns(found: pa.Table) -> list[list[Any]]:
    return [column.to_pylist() for column in found.columns]


# ---- plain SQL, in UTC, where days are whole ------------------------------------------------------------------------


def _edges() -> str:
    hours = "".join(f", (t_us - {days * DAY_US}) // {HOUR_US} * {HOUR_US} AS e{days}" for days in (1, 7))
    days = "".join(f", (t_us // {DAY_US} - {days}) * {DAY_US} AS e{days}" for days in (30, 90))
    return f"{hours}{days}, (t_us // {DAY_US} - 7) * {DAY_US} AS d7"


def _conditions(feature: FeatureSpec) -> str:
    days = feature.window_days
    edge = f"d{days}" if feature.measure == "active_days" and days == 7 else f"e{days}"
    names = ", ".join(f"'{name}'" for name in feature.events)
    where = "".join(f" AND json_extract_string(e.properties, '$.{k}') = '{v}'" for k, v in feature.where.items())
    return f"e.effective_at_us >= l.{edge} AND e.name IN ({names}){where}"


def _aggregate(feature: FeatureSpec) -> str:
    value = f"e.measures['{feature.value_property}']"
    return {
        "count": "count(e.number)",
        "sum": f"sum({value})",
        "max": f"max({value})",
        "active_days": f"count(DISTINCT e.effective_at_us // {DAY_US})",
    }[feature.measure]


def _finished(feature: FeatureSpec, aggregate: str) -> str:
    return f"coalesce({aggregate}, 0)::BIGINT" if feature.measure == "sum" else f"({aggregate})::BIGINT"


_VISIBLE = "e.member_id = l.customer_id AND e.effective_at_us < l.t_us AND e.known_at_us <= l.t_us"


def _one(plain: duckdb.DuckDBPyConnection, feature: FeatureSpec) -> list[Any]:
    sql = (
        f"SELECT {_finished(feature, _aggregate(feature))} AS value FROM label l LEFT JOIN events e"
        f" ON {_VISIBLE} AND {_conditions(feature)} GROUP BY l.row ORDER BY l.row"
    )
    return plain.sql(sql).to_arrow_table()["value"].to_pylist()


def _together(plain: duckdb.DuckDBPyConnection, features: Sequence[FeatureSpec]) -> list[list[Any]]:
    parts = [
        _finished(row, f"{_aggregate(row)} FILTER (WHERE {_conditions(row)})") + f" AS f{number}"
        for number, row in enumerate(features)
    ]
    sql = f"SELECT {', '.join(parts)} FROM label l LEFT JOIN events e ON {_VISIBLE} GROUP BY l.row ORDER BY l.row"
    return _columns(plain.sql(sql).to_arrow_table())


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
