"""From an event's POST to its value in a read: ingest and features as processes, idle and at half of what they sustain.

The floor is the least that a durable log costs: append one row, synced, and see it from another connection that polls.
"""

import contextlib
import http.client
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.instants import MINUTE_US, from_micros
from vigie_kit import installation

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import floors  # noqa: E402

RUNS, SAMPLES = 5, 20
BURST_EVENTS = 5_000
CUSTOMERS = 2_000
KEY = TOKEN = "bench"
PROBE = "probe-customer"
FEATURE = "login_count_90d"
DEADLINE_SECONDS = 60.0


def run(runs: int = RUNS, samples: int = SAMPLES, burst: int = BURST_EVENTS) -> Iterator[dict[str, Any]]:
    """Cases `idle` and `half_load`: milliseconds until readable, median over `runs` alternating with the floor."""
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder, _services(Path(folder)) as services:
        floor = _Floor(Path(folder) / "floor.db")
        services.fresh()
        yield _case("idle", services, floor, runs, samples, "nothing else to do")
        sustained = services.sustained(burst)
        with services.load(sustained / 2):
            yield _case("half_load", services, floor, runs, samples, f"beside {sustained / 2:,.0f} events/s")
        floor.close()


def _case(case: str, services: "_Services", floor: "_Floor", runs: int, samples: int, note: str) -> dict[str, Any]:
    ours: list[float] = []
    least: list[float] = []
    for _ in range(runs):
        least.extend(floor.fresh() for _ in range(samples))
        ours.extend(services.fresh() for _ in range(samples))
    value, floor_value = statistics.median(ours), statistics.median(least)
    p99 = statistics.quantiles(ours, n=100)[98]
    return {
        "bench": "freshness",
        "case": case,
        "unit": "ms",
        "value": value,
        "floor": floor_value,
        "peer": None,
        "ratio_to_floor": floor_value / value,
        "ratio_to_peer": None,
        "peer_name": None,
        "runs": runs,
        "note": f"p50; p99 {p99:.1f} ms of {len(ours)} events; {note}",
    }


class _Floor:
    """A synced append, and a second connection that polls until it sees the row."""

    def __init__(self, path: Path) -> None:
        self._writer = floors.open_log(path)
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._number = 0

    def fresh(self) -> float:
        """Milliseconds."""
        started = time.perf_counter()
        floors.append_synced(self._writer, self._number + 1, [[b"{}"]])
        self._number += 1
        sql = "SELECT number FROM log_events WHERE number > ? ORDER BY number LIMIT 1"
        while self._reader.execute(sql, (self._number - 1,)).fetchone() is None:
            pass
        return (time.perf_counter() - started) * 1_000

    def close(self) -> None:
        """Release both connections."""
        self._reader.close()
        self._writer.close()


class _Services:
    """Running ingest and features, spoken to over kept connections."""

    def __init__(self, ingest: int, features: int) -> None:
        self._ingest_port, self._features_port = ingest, features
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._customer_id = ""
        self._count = 0

    def fresh(self) -> float:
        """Milliseconds from before the POST until a read holds the event."""
        if not self._customer_id:
            self._introduce()
        self._count += 1
        started = time.perf_counter()
        self._track([_login(PROBE)])
        while self._value() < self._count:
            if time.perf_counter() - started > DEADLINE_SECONDS:
                raise RuntimeError(f"the event was not readable after {DEADLINE_SECONDS} s")
        return (time.perf_counter() - started) * 1_000

    def sustained(self, events: int) -> float:
        """Events a second that ingest accepts and features applies, from a burst."""
        started, before = time.perf_counter(), self._applied()
        for _ in range(events // 100):
            self._track([_login(f"customer-{uuid.uuid4().int % CUSTOMERS}") for _ in range(100)])
        while self._applied() < before + events // 100 * 100:
            time.sleep(0.02)
        return events / (time.perf_counter() - started)

    @contextlib.contextmanager
    def load(self, events_per_second: float) -> Iterator[None]:
        """A sender beside the measurement: batches of 20 at a steady rate."""
        stopping, connection = threading.Event(), http.client.HTTPConnection("127.0.0.1", self._ingest_port)

        def send() -> None:
            due = time.perf_counter()
            while not stopping.is_set():
                batch = [_login(f"customer-{uuid.uuid4().int % CUSTOMERS}") for _ in range(20)]
                _post(connection, "/v1/batch", {"writeKey": KEY, "batch": batch})
                due = max(due + 20 / events_per_second, time.perf_counter())
                stopping.wait(due - time.perf_counter())

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
            connection.close()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()

    def _introduce(self) -> None:
        """One event of the probe customer, and the id that it got."""
        self._track([_login(PROBE)])
        body = {"lookups": [{"namespace": "user_id", "value": PROBE}]}
        found = self._ask(self._ingest_port, "/internal/customers", body)["customers"][0]
        self._customer_id, self._count = found["customer_id"], 1
        while self._value() < 1:
            time.sleep(0.01)

    def _value(self) -> int:
        body = {"customer_ids": [self._customer_id], "features": [FEATURE]}
        return int(self._ask(self._features_port, "/internal/read", body)["rows"][0]["values"][0])

    def _applied(self) -> int:
        body = {"customer_ids": [self._customer_id], "features": [FEATURE]}
        row = self._ask(self._features_port, "/internal/read", body)["rows"][0]
        return int(row["read_point"]["pos"]["0"])

    def _track(self, batch: list[dict[str, Any]]) -> None:
        self._ask(self._ingest_port, "/v1/batch", {"writeKey": KEY, "batch": batch})

    def _ask(self, port: int, path: str, body: Mapping[str, Any]) -> Any:
        if port not in self._connections:
            self._connections[port] = http.client.HTTPConnection("127.0.0.1", port)
        return _post(self._connections[port], path, body)


def _post(connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any]) -> Any:
    connection.request("POST", path, msgspec.json.encode(body), {"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {content.decode(errors='replace')}")
    return msgspec.json.decode(content)


def _login(user_id: str) -> dict[str, Any]:
    """A login of a minute ago, so that the clock of a read has certainly passed it."""
    instant = from_micros(time.time_ns() // 1_000 - MINUTE_US).isoformat()
    message_id = str(uuid.uuid4())
    return {"type": "track", "event": "app.logged_in", "userId": user_id, "messageId": message_id, "timestamp": instant}


@contextlib.contextmanager
def _services(folder: Path) -> Iterator[_Services]:
    """Ingest and features on a new data directory."""
    ingest, features = _free_port(), _free_port()
    installation.create(folder / "data")
    settings = {
        "VIGIE_DATA": str(folder / "data"),
        "VIGIE_FEATURE_REPO": str(CHECKOUT / "feature_repo"),
        "VIGIE_SERVICE_TOKEN": TOKEN,
        "VIGIE_INGEST_WRITE_KEYS": f"{KEY}=bench",
        "VIGIE_INGEST_PORT": str(ingest),
        "VIGIE_FEATURES_PORT": str(features),
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
    processes = [
        subprocess.Popen([sys.executable, "-m", module], env={**clean, **settings})
        for module in ("vigie_ingest", "vigie_features")
    ]
    services = _Services(ingest, features)
    try:
        for port, process in zip((ingest, features), processes, strict=True):
            _await_ready(port, process)
        yield services
    finally:
        services.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"no service became ready on port {port}")


if __name__ == "__main__":
    for row in run():
        print(msgspec.json.encode(row).decode())
