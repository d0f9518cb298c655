"""Floors: the least work that does the same job as durably. Every benchmark measures its floor in the same run.

Each floor is tested to reach 0.8 of a raw loop, so that no ratio is won by a slow floor.

* events server: the same web server, decoding JSON and writing one row an event, group commit, synchronous=FULL
* `append_synced`: transactions of rows into a log table
* `rewrite_blobs`: decode a batch of JSON records, read their blobs by key, write them back, one transaction
* `read_blobs`: blobs by key in one snapshot
* `round_trips`: bare HTTP requests over one kept connection
"""

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SUCCESS = b'{"success":true}'
GROUP_EVENTS = 4_000


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]


_BATCH = msgspec.json.Decoder(_Batch)
_ANY = msgspec.json.Decoder()


def open_log(path: Path) -> sqlite3.Connection:
    """A database as durable as ours (WAL, synchronous=FULL) with one log table and one blob table."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS log_events"
        " (number INTEGER PRIMARY KEY, lane INTEGER NOT NULL, payload BLOB NOT NULL)"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS blobs (key TEXT PRIMARY KEY, blob BLOB NOT NULL)")
    return connection


def append_synced(connection: sqlite3.Connection, first: int, groups: Sequence[Sequence[bytes]]) -> float:
    """Seconds to append each group of payloads in its own synced transaction; numbers begin at `first`."""
    started = time.perf_counter()
    number = first
    for payloads in groups:
        connection.execute("BEGIN IMMEDIATE")
        rows = [(number + place, payload) for place, payload in enumerate(payloads)]
        connection.executemany("INSERT INTO log_events VALUES (?, 0, ?)", rows)
        connection.execute("COMMIT")
        number += len(payloads)
    return time.perf_counter() - started


def rewrite_blobs(connection: sqlite3.Connection, payloads: Sequence[bytes], keys: Sequence[str], grow: bytes) -> float:
    """Seconds to decode the payloads, read the blobs of `keys` and write each back with `grow` appended."""
    started = time.perf_counter()
    for payload in payloads:
        _ANY.decode(payload)
    connection.execute("BEGIN IMMEDIATE")
    rows = _blobs(connection, keys)
    connection.executemany("UPDATE blobs SET blob = ? WHERE key = ?", [(blob + grow, key) for key, blob in rows])
    connection.execute("COMMIT")
    return time.perf_counter() - started


def read_blobs(connection: sqlite3.Connection, keys: Sequence[str]) -> float:
    """Seconds to read the blobs of `keys` in one snapshot."""
    started = time.perf_counter()
    connection.execute("BEGIN")
    _blobs(connection, keys)
    connection.execute("ROLLBACK")
    return time.perf_counter() - started


def round_trips(port: int, path: str, body: bytes, count: int) -> float:
    """Seconds for `count` POSTs, one after the other, over one connection."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.connect()
    started = time.perf_counter()
    for _ in range(count):
        connection.request("POST", path, body)
        connection.getresponse().read()
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def _blobs(connection: sqlite3.Connection, keys: Sequence[str]) -> list[tuple[str, bytes]]:
    sql = "SELECT key, blob FROM blobs WHERE key IN (SELECT value FROM json_each(?))"
    return connection.execute(sql, (msgspec.json.encode(keys).decode(),)).fetchall()


class _Job:
    __slots__ = ("future", "rows")

    def __init__(self, rows: list[bytes], future: "asyncio.Future[None]") -> None:
        self.rows = rows
        self.future = future


class EventsFloor:
    """What every durable HTTP ingest must do: decode, one row an event, one synced commit for whatever waits."""

    def __init__(self, path: Path) -> None:
        self._connection = open_log(path)
        self._number = int(self._connection.execute("SELECT coalesce(max(number), 0) FROM log_events").fetchone()[0])
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def batch(self, request: Request) -> Response:
        """`POST /v1/batch`."""
        return await self._write([bytes(raw) for raw in _BATCH.decode(await request.body()).batch])

    async def track(self, request: Request) -> Response:
        """`POST /v1/track`."""
        return await self._write([await request.body()])

    async def nothing(self, request: Request) -> Response:
        """`POST /nothing`: a bare round trip."""
        await request.body()
        return Response(SUCCESS, media_type="application/json")

    async def _write(self, rows: list[bytes]) -> Response:
        for row in rows:
            _ANY.decode(row)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, daemon=True).start()
        job = _Job(rows, self._loop.create_future())
        self._jobs.put(job)
        await job.future
        return Response(SUCCESS, media_type="application/json")

    def _run(self) -> None:
        assert self._loop is not None
        while True:
            jobs = [self._jobs.get()]
            size = len(jobs[0].rows)
            while size < GROUP_EVENTS and not self._jobs.empty():
                jobs.append(self._jobs.get())
                size += len(jobs[-1].rows)
            append_synced(self._connection, self._number + 1, [[row for job in jobs for row in job.rows]])
            self._number += size
            self._loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        job.future.set_result(None)


def events_app(path: Path) -> Starlette:
    """The floor as an application: the same framework, nothing but the least work."""
    floor = EventsFloor(path)
    routes = [
        Route("/v1/batch", floor.batch, methods=["POST"]),
        Route("/v1/track", floor.track, methods=["POST"]),
        Route("/nothing", floor.nothing, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def serve(app: Any, port: int) -> None:
    """Serve as our services are served."""
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    serve(events_app(Path(sys.argv[1])), int(sys.argv[2]))
