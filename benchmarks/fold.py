"""Events folded into durable tiles a second, beside a floor: decode the same records, read and write the same blobs.

A step is what the features service does with a batch: decode the records, read the blobs of their members, fold,
write the blobs back, all in one transaction with synchronous=FULL. Each batch is 10,000 events of 10,000 different
members among a million, whose histories are those of a thousand simulated customers.
"""

import itertools
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.events import Event, decode_record, encode_record
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events, floors  # noqa: E402

GROWN = bytes(8)
"""What the floor adds to each blob, as an event adds cells: SQLite writes no page whose content stays the same."""
PUSHED_FEATURES, PUSHED_ALONE, PUSHED_TOGETHER = 40, 40, 500
CUSTOMERS, DAYS, MEMBERS, BATCH, RUNS = 1_000, 60, 1_000_000, 10_000, 5


def run(
    runs: int = RUNS, customers: int = CUSTOMERS, days: int = DAYS, members: int = MEMBERS, batch: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Case `fold`: medians of alternating runs over successive batches of a simulated bank's log."""
    layout = bank_events.layout()
    arriving = bank_events.events(customers, 10_000)
    until = bank_events.START_US + days * 86_400_000_000
    history = itertools.takewhile(lambda event: event.effective_at_us < until, arriving)
    state = {member: row.blob for member, row in bank_events.fold_all(layout, history).items()}
    copies = members // len(state)
    known = (event for event in arriving if event.member_id in state)
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        ours, floor = (opened(Path(folder) / name, state, copies) for name in ("ours.db", "floor.db"))
        values: list[float] = []
        least: list[float] = []
        kernel_only: list[float] = []
        for run in range(runs):
            group = spread(list(itertools.islice(known, batch)), copies, random.Random(run))
            payloads = [encode_record(event) for event in group]
            keys = [event.member_id for event in group]
            least.append(batch / floors.rewrite_blobs(floor, payloads, keys, GROWN))
            whole, folding = step(ours, layout, payloads)
            values.append(batch / whole)
            kernel_only.append(batch / folding)
        ours.close()
        floor.close()
        alone, together = _pushed(Path(folder))
    note = (
        f"{batch:,} members a batch of {members:,}; kernel alone {statistics.median(kernel_only):,.0f} events/s;"
        f" {statistics.mean(map(len, state.values())):,.0f} B a member; Feast pushes {PUSHED_TOGETHER} rows at once at"
        f" {together:,.0f} rows/s"
    )
    yield _row(values, least, alone, note)


def spread(group: list[Event], copies: int, draw: random.Random) -> list[Event]:
    """Each event to another copy of its member, so that no member of the batch has two."""
    taken: dict[str, list[int]] = {}
    found = []
    for event in group:
        free = taken.setdefault(event.member_id, draw.sample(range(copies), copies))
        found.append(msgspec.structs.replace(event, member_id=f"{event.member_id}-{free.pop()}"))
    return found


def _row(values: list[float], least: list[float], pushed: float, note: str) -> dict[str, Any]:
    value, floor = statistics.median(values), statistics.median(least)
    return {
        "bench": "fold",
        "case": "fold",
        "unit": "events/s",
        "value": value,
        "floor": floor,
        "peer": pushed,
        "ratio_to_floor": value / floor,
        "ratio_to_peer": value / pushed,
        "peer_name": f"Feast push as events come, a row each, SQLite online store, {PUSHED_FEATURES} features",
        "runs": len(values),
        "note": note,
    }


def _pushed(data: Path) -> tuple[float, float]:
    """Rows a second of `FeatureStore.push` into Feast's own SQLite store, of values that are ready: alone, and many."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
    from feast.data_source import PushMode
    from feast.types import Int64

    names = [f"feature_{number}" for number in range(PUSHED_FEATURES)]
    config = RepoConfig(
        project="pushed",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{data}/registry.db", "cache_ttl_seconds": 600},
        online_store={"type": "sqlite", "path": str(data / "online.db")},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    batch = FileSource(name="archive", path=str(data / "archive.parquet"), timestamp_field="event_timestamp")
    source = PushSource(name="pushed", batch_source=batch)
    view = FeatureView(
        name="values", entities=[customer], schema=[Field(name=name, dtype=Int64) for name in names], source=source
    )
    store.apply([customer, view])
    stamp = pd.Timestamp(bank_events.START_US, unit="us", tz="UTC")
    ids = [f"customer-{row}" for row in range(PUSHED_TOGETHER)]
    frame = pd.DataFrame({"customer_id": ids, "event_timestamp": stamp}).assign(**dict.fromkeys(names, 7))
    store.push("pushed", frame.head(10), to=PushMode.ONLINE)
    started = time.perf_counter()
    for row in range(PUSHED_ALONE):
        store.push("pushed", frame.iloc[[row]], to=PushMode.ONLINE)
    between = time.perf_counter()
    store.push("pushed", frame, to=PushMode.ONLINE)
    return PUSHED_ALONE / (between - started), PUSHED_TOGETHER / (time.perf_counter() - between)


def opened(path: Path, state: dict[str, bytes], copies: int) -> sqlite3.Connection:
    """A database with so many copies of each member's state, `MEMBER-NUMBER`."""
    connection = floors.open_log(path)
    for copy in range(copies):
        connection.execute("BEGIN")
        rows = [(f"{member}-{copy}", blob) for member, blob in state.items()]
        connection.executemany("INSERT INTO blobs VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    return connection


def step(connection: sqlite3.Connection, layout: Layout, payloads: Sequence[bytes]) -> tuple[float, float]:
    """(seconds of the whole step, seconds of the fold in it)."""
    started = time.perf_counter()
    events = [record for payload in payloads if isinstance(record := decode_record(payload), Event)]
    members = list(dict.fromkeys(event.member_id for event in events))
    connection.execute("BEGIN IMMEDIATE")
    blobs: dict[str, bytes | None] = dict.fromkeys(members)
    sql = "SELECT key, blob FROM blobs WHERE key IN (SELECT value FROM json_each(?))"
    blobs.update(connection.execute(sql, (json.dumps(members),)).fetchall())
    before = time.perf_counter()
    folded = kernel.fold(layout, blobs, events)
    after = time.perf_counter()
    rows = sorted((member, row.blob) for member, row in folded.items())
    connection.executemany("INSERT INTO blobs VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET blob = excluded.blob", rows)
    connection.execute("COMMIT")
    return time.perf_counter() - started, after - before
