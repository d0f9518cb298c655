"""Events folded into durable tiles a second, beside a floor: decode the same records, read and write the same blobs.

A step is what the features service does with a batch: decode the records, read the blobs of their members, fold,
write the blobs back, all in one transaction with synchronous=FULL.
"""

import itertools
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vigie_contracts.events import Event, decode_record, encode_record
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events, floors  # noqa: E402

CUSTOMERS, DAYS, BATCH, BATCHES, RUNS = 1_000, 60, 1_000, 5, 7


def run(
    runs: int = RUNS, customers: int = CUSTOMERS, days: int = DAYS, batches: int = BATCHES
) -> Iterator[dict[str, Any]]:
    """Case `fold`: medians of alternating runs over successive batches of a simulated bank's log."""
    layout = bank_events.layout()
    arriving = bank_events.events(customers, 10_000)
    until = bank_events.START_US + days * 86_400_000_000
    history = itertools.takewhile(lambda event: event.effective_at_us < until, arriving)
    state = {member: row.blob for member, row in bank_events.fold_all(layout, history).items()}
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        ours, floor = (_opened(Path(folder) / name, state) for name in ("ours.db", "floor.db"))
        values: list[float] = []
        least: list[float] = []
        kernel_only: list[float] = []
        for _ in range(runs):
            groups = [list(itertools.islice(arriving, BATCH)) for _ in range(batches)]
            count = sum(map(len, groups))
            least.append(count / sum(_floor(floor, group) for group in groups))
            seconds = [_step(ours, layout, [encode_record(event) for event in group]) for group in groups]
            values.append(count / sum(whole for whole, _ in seconds))
            kernel_only.append(count / sum(folding for _, folding in seconds))
        ours.close()
        floor.close()
    yield _row(values, least, statistics.median(kernel_only), statistics.mean(map(len, state.values())))


def _row(values: list[float], least: list[float], kernel_only: float, blob_bytes: float) -> dict[str, Any]:
    value, floor = statistics.median(values), statistics.median(least)
    return {
        "bench": "fold",
        "case": "fold",
        "unit": "events/s",
        "value": value,
        "floor": floor,
        "peer": None,
        "ratio_to_floor": value / floor,
        "ratio_to_peer": None,
        "peer_name": None,
        "runs": len(values),
        "note": f"batches of {BATCH}, synced; kernel alone {kernel_only:,.0f} events/s; {blob_bytes:,.0f} B a member",
    }


def _opened(path: Path, state: dict[str, bytes]) -> sqlite3.Connection:
    connection = floors.open_log(path)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO blobs VALUES (?, ?)", state.items())
    connection.execute("COMMIT")
    return connection


def _step(connection: sqlite3.Connection, layout: Layout, payloads: Sequence[bytes]) -> tuple[float, float]:
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
    rows = [(member, row.blob) for member, row in folded.items()]
    connection.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    return time.perf_counter() - started, after - before


def _floor(connection: sqlite3.Connection, events: Sequence[Event]) -> float:
    payloads = [encode_record(event) for event in events]
    return floors.rewrite_blobs(connection, payloads, list({event.member_id for event in events}), b"")
