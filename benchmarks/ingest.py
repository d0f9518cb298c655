"""Durable events a second through HTTP, beside a floor: the same server decoding JSON and writing one row an event."""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from vigie_kit import installation

CHECKOUT = Path(__file__).resolve().parent.parent
RUNS = 5
CUSTOMERS = 10_000
KEY = "bench"
DEADLINE_SECONDS = 30.0


def run(runs: int = RUNS, batches: int = 150, singles: int = 3_000) -> Iterator[dict[str, Any]]:
    """Cases `batch100` (8 connections) and `single` (32 connections), medians of alternating runs."""
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder, _servers(Path(folder)) as (ours, floor):
        yield _case("batch100", ours, floor, runs, 8, 100, lambda: _batches(batches))
        yield _case("single", ours, floor, runs, 32, 1, lambda: _singles(singles))


def _case(
    case: str, ours: int, floor: int, runs: int, connections: int, size: int, bodies: Callable[[], list[bytes]]
) -> dict[str, Any]:
    path = "/v1/batch" if size > 1 else "/v1/track"
    for port in (ours, floor):
        _load(port, path, bodies()[: connections * 2], connections)
    values: dict[int, list[float]] = {ours: [], floor: []}
    for _ in range(runs):
        for port in (floor, ours):
            prepared = bodies()
            seconds = _load(port, path, prepared, connections)
            values[port].append(len(prepared) * size / seconds)
    value, least = statistics.median(values[ours]), statistics.median(values[floor])
    return {
        "bench": "ingest",
        "case": case,
        "unit": "events/s",
        "value": value,
        "floor": least,
        "peer": None,
        "ratio_to_floor": value / least,
        "ratio_to_peer": None,
        "peer_name": None,
        "runs": runs,
        "note": f"{connections} connections, synced; {min(values[ours]):,.0f} to {max(values[ours]):,.0f}",
    }


def _batches(count: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            {"writeKey": KEY, "sentAt": "2026-01-01T00:00:01.000Z", "batch": [_event() for _ in range(100)]}
        )
        for _ in range(count)
    ]


def _singles(count: int) -> list[bytes]:
    return [msgspec.json.encode({**_event(), "writeKey": KEY}) for _ in range(count)]


def _event() -> dict[str, Any]:
    """An event as a server SDK sends it (about 500 bytes)."""
    identity = uuid.uuid4()
    return {
        "type": "track",
        "event": "session.ended",
        "userId": f"customer-{identity.int % CUSTOMERS}",
        "anonymousId": None,
        "messageId": str(identity),
        "timestamp": "2026-01-01T00:00:00.000Z",
        "properties": {"duration_seconds": identity.int % 900, "screen": "accounts", "app_version": "4.2.1"},
        "context": {
            "library": {"name": "analytics-python", "version": "2.3.4"},
            "app": {"name": "bank", "version": "4.2.1", "build": "1204"},
            "os": {"name": "iOS", "version": "17.4"},
            "locale": "fr-FR",
            "timezone": "Europe/Paris",
        },
        "integrations": {},
    }


def _load(port: int, path: str, bodies: Sequence[bytes], connections: int) -> float:
    """Seconds until all bodies are acknowledged; each connection sends the next when the last was answered."""
    requests = [_request(port, path, body) for body in bodies]
    failures: list[str] = []
    threads = [
        threading.Thread(target=_send, args=(port, requests[place::connections], failures))
        for place in range(connections)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        raise RuntimeError(f"port {port} answered {failures[0]}")
    return seconds


def _request(port: int, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _send(port: int, requests: Sequence[bytes], failures: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                failures.append(answer.decode(errors="replace"))
                return


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[int, int]]:
    """Ports of ingest and of its floor, each in its own process."""
    ours, floor = _free_port(), _free_port()
    installation.create(folder / "data")
    settings = {
        "VIGIE_DATA": str(folder / "data"),
        "VIGIE_FEATURE_REPO": str(CHECKOUT / "feature_repo"),
        "VIGIE_SERVICE_TOKEN": "bench",
        "VIGIE_INGEST_WRITE_KEYS": f"{KEY}=bench",
        "VIGIE_INGEST_PORT": str(ours),
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
    processes = [
        subprocess.Popen([sys.executable, "-m", "vigie_ingest"], env={**clean, **settings}),
        subprocess.Popen(
            [sys.executable, str(CHECKOUT / "benchmarks/floors.py"), str(folder / "floor.db"), str(floor)]
        ),
    ]
    try:
        for port, process in zip((ours, floor), processes, strict=True):
            _await_port(port, process)
        yield ours, floor
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no server came up on port {port}")


if __name__ == "__main__":
    for row in run():
        print(msgspec.json.encode(row).decode())
