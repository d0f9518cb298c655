"""Floors reach 0.8 of a raw loop, so that no ratio is won by a slow floor."""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import floors

PAYLOAD = msgspec.json.encode({"name": "session.ended", "properties": {"seconds": 12}, "filler": "x" * 400})
ROUNDS = 7
LEAST_RATIO = 0.8


def best_ratio(raw: Callable[[], float], floor: Callable[[], float]) -> float:
    """Raw seconds over the floor's: of the fastest rounds, or the median of pairs; noise only ever slows one down."""
    raw()
    floor()
    pairs = [(raw(), floor()) for _ in range(ROUNDS)]
    return max(
        min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs), statistics.median(a / b for a, b in pairs)
    )


def test_the_log_floor_is_as_fast_as_a_bare_loop(tmp_path: Path) -> None:
    ours, bare = floors.open_log(tmp_path / "a.db"), floors.open_log(tmp_path / "b.db")
    numbers = {"a": 1, "b": 1}

    def floor() -> float:
        seconds = floors.append_synced(ours, numbers["a"], [[PAYLOAD] * 100] * 30)
        numbers["a"] += 3_000
        return seconds

    def raw() -> float:
        started = time.perf_counter()
        for _ in range(30):
            bare.execute("BEGIN IMMEDIATE")
            for place in range(100):
                bare.execute("INSERT INTO log_events VALUES (?, 0, ?)", (numbers["b"] + place, PAYLOAD))
            bare.execute("COMMIT")
            numbers["b"] += 100
        return time.perf_counter() - started

    assert best_ratio(raw, floor) >= LEAST_RATIO
    assert ours.execute("SELECT count(*), max(number) FROM log_events").fetchone() == (3_000 * (ROUNDS + 1),) * 2
    assert ours.execute("PRAGMA synchronous").fetchone() == (2,)


def _filled(path: Path) -> tuple[sqlite3.Connection, list[str]]:
    connection = floors.open_log(path)
    keys = [f"member-{number}" for number in range(2_000)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO blobs VALUES (?, ?)", [(key, b"x" * 500) for key in keys])
    connection.execute("COMMIT")
    return connection, keys


def test_the_blob_floors_are_as_fast_as_a_bare_loop(tmp_path: Path) -> None:
    connection, keys = _filled(tmp_path / "blobs.db")
    chosen = keys[::4]

    def raw_read() -> float:
        started = time.perf_counter()
        for key in chosen:
            connection.execute("SELECT blob FROM blobs WHERE key = ?", (key,)).fetchone()
        return time.perf_counter() - started

    def raw_rewrite() -> float:
        started = time.perf_counter()
        for payload in [PAYLOAD] * 500:
            msgspec.json.decode(payload)
        connection.execute("BEGIN IMMEDIATE")
        for key in chosen:
            (blob,) = connection.execute("SELECT blob FROM blobs WHERE key = ?", (key,)).fetchone()
            connection.execute("UPDATE blobs SET blob = ? WHERE key = ?", (blob, key))
        connection.execute("COMMIT")
        return time.perf_counter() - started

    assert best_ratio(raw_read, lambda: floors.read_blobs(connection, chosen)) >= LEAST_RATIO
    assert (
        best_ratio(raw_rewrite, lambda: floors.rewrite_blobs(connection, [PAYLOAD] * 500, chosen, b"")) >= LEAST_RATIO
    )
    assert connection.execute("SELECT count(*), sum(length(blob)) FROM blobs").fetchone() == (2_000, 1_000_000)


def test_the_events_floor_is_as_fast_as_its_parts_in_a_bare_loop(tmp_path: Path) -> None:
    """Through the framework but without a socket, so that the client's cost does not hide the floor's."""
    body = msgspec.json.encode({"batch": [msgspec.Raw(PAYLOAD)] * 400})
    bare = floors.open_log(tmp_path / "raw.db")
    number = [1]

    def raw() -> float:
        started = time.perf_counter()
        for _ in range(20):
            rows = [bytes(row) for row in floors._BATCH.decode(body).batch]
            for row in rows:
                msgspec.json.decode(row)
            floors.append_synced(bare, number[0], [rows])
            number[0] += len(rows)
        return time.perf_counter() - started

    app = floors.events_app(tmp_path / "floor.db")

    with asyncio.Runner() as runner:
        assert best_ratio(raw, lambda: runner.run(_timed(app, body, 20))) >= LEAST_RATIO


async def _timed(app: Callable[..., Awaitable[None]], body: bytes, count: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(_call(app, body) for _ in range(count)))
    return time.perf_counter() - started


async def _call(app: Callable[..., Awaitable[None]], body: bytes) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/batch", "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    assert (sent[0]["status"], sent[1]["body"]) == (200, floors.SUCCESS)
