"""Feature reads at the clock: the direct reader and stock Feast on our store, beside stock Feast and a floor.

The floor only fetches the same blobs by key. The peer is stock Feast with its own SQLite online store, which holds the
same 40 features as stored, final values (which would never decay).
"""

import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import DAY_US, ClockSetting, Installation
from vigie_tiles import schema
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileReader

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events, floors  # noqa: E402

HISTORIES, COPIES, DAYS, RUNS = 1_000, 5, 60, 5
SIZES = ((1, 100), (100, 20), (1_000, 2))
"""(customers a read, reads a measurement)."""
NOW_US = bank_events.START_US + (DAYS + 1) * DAY_US
FEATURES = 40
STORED = 1_000
"""Customers that the peer's store holds: writing all 5,000 through Feast would take minutes."""

Read = Callable[[Sequence[str]], object]


def run(runs: int = RUNS, histories: int = HISTORIES, copies: int = COPIES) -> Iterator[dict[str, Any]]:
    """Cases `direct_N` (the direct reader) and `feast_N` for N of 1, 100, 1,000 customers: milliseconds a read."""
    layout = bank_events.layout()
    features = layout.table.features[:FEATURES]
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        data = Path(folder)
        ids = _fill(data, layout, histories, copies)[:STORED]
        floor_db = floors.open_log(data / "floor.db")
        ours, stored = _feast(data, features, ids)
        with contextlib.closing(TileReader(data / schema.FEATURES_DB, layout)) as reader:
            direct: Read = lambda asked: reader.read(asked, features, NOW_US)  # noqa: E731
            for name, read in (("direct", direct), ("feast", ours)):
                for size, repeats in SIZES:
                    floor = _each(repeats, size, ids, lambda asked: floors.read_blobs(floor_db, asked))
                    mine, peer = _each(repeats, size, ids, read), _each(repeats, size, ids, stored)
                    yield _row(f"{name}_{size}", runs, mine, floor, peer)
        floor_db.close()


def _each(repeats: int, size: int, ids: Sequence[str], read: Read) -> Callable[[], float]:
    """Milliseconds a read, over some reads of customers drawn anew each time."""
    draw = random.Random(3)

    def measure() -> float:
        asked = [draw.sample(ids, min(size, len(ids))) for _ in range(repeats)]
        started = time.perf_counter()
        for customers in asked:
            read(customers)
        return (time.perf_counter() - started) / repeats * 1_000

    return measure


def _row(
    case: str,
    runs: int,
    ours: Callable[[], float],
    floor: Callable[[], float],
    peer: Callable[[], float],
) -> dict[str, Any]:
    measures = (ours, floor, peer)
    for measure in measures:
        measure()
    rounds = [[measure() for measure in measures] for _ in range(runs)]
    value, least, other = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "bench": "read",
        "case": case,
        "unit": "ms",
        "value": value,
        "floor": least,
        "peer": other,
        "ratio_to_floor": least / value,
        "ratio_to_peer": other / value,
        "peer_name": "Feast, SQLite online store, stored values",
        "runs": runs,
        "note": f"{FEATURES} features, at the clock",
    }


def _fill(data: Path, layout: Layout, histories: int, copies: int) -> list[str]:
    """features.db, the floor's database with the same blobs, and an installation whose clock hardly moves."""
    slow = ClockSetting(base_real_us=time.time_ns() // 1_000, base_virtual_us=NOW_US, rate=1e-6)
    installation = Installation(time_zone=bank_events.TIME_ZONE, clock=slow)
    (data / "installation.json").write_bytes(msgspec.json.encode(installation))
    state = bank_events.fold_all(layout, bank_events.events(histories, DAYS))
    rows = [(f"{name}-{copy}", row.blob, row.newest_us) for copy in range(copies) for name, row in state.items()]
    tiles, floor = floors.open_log(data / schema.FEATURES_DB), floors.open_log(data / "floor.db")
    for statement in schema.DDL:
        tiles.execute(statement)
    for connection, sql, values in (
        (tiles, "INSERT INTO tiles VALUES (?, ?, ?)", rows),
        (floor, "INSERT INTO blobs VALUES (?, ?)", [row[:2] for row in rows]),
    ):
        connection.execute("BEGIN")
        connection.executemany(sql, values)
        connection.execute("COMMIT")
        connection.close()
    return [row[0] for row in rows]


def _feast(data: Path, features: Sequence[FeatureSpec], ids: Sequence[str]) -> tuple[Read, Read]:
    """Reads through a stock FeatureStore: on tiles, and on Feast's own SQLite store with stored values."""
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Int64

    def store(name: str, online: dict[str, str]) -> FeatureStore:
        config = RepoConfig(
            project=name,
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{data}/{name}.db", "cache_ttl_seconds": 600},
            online_store=online,
            entity_key_serialization_version=3,
        )
        found = FeatureStore(config=config)
        customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
        view = FeatureView(
            name="customer_tiles",
            entities=[customer],
            schema=[Field(name=row.key, dtype=Int64) for row in features],
            source=FileSource(name="archive", path=str(data / "archive.parquet"), timestamp_field="event_timestamp"),
        )
        found.apply([customer, view, FeatureService(name="all", features=[view])])
        return found

    settings = {"data": str(data), "feature_repo": str(bank_events.FEATURE_REPO)}
    ours = store("tiles", {"type": "vigie_tiles.online_store.TileOnlineStore", **settings})
    peer = store("stored", {"type": "sqlite", "path": str(data / "online.db")})
    _store_values(ours, peer, ids)
    return _online(ours), _online(peer)


def _store_values(ours: Any, peer: Any, ids: Sequence[str]) -> None:
    """Copy what ours answers now into the peer's store, the fast way (no push)."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    keys = [EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=name)]) for name in ids]
    view = ours.get_feature_view("customer_tiles")
    rows = ours._get_provider().online_read(ours.config, view, keys)
    data = [(key, values, at, None) for key, (at, values) in zip(keys, rows, strict=True)]
    peer._get_provider().online_write_batch(peer.config, peer.get_feature_view("customer_tiles"), data, None)


def _online(store: Any) -> Read:
    service = store.get_feature_service("all")

    def read(asked: Sequence[str]) -> object:
        return store.get_online_features(service, [{"customer_id": name} for name in asked]).to_dict()

    return read


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
