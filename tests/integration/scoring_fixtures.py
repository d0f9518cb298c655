"""A real MLflow server, the service in its own process, and logs to feed it, for the tests of scoring."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from mlflow import MlflowClient
from vigie_contracts.events import Change, Event, LogRecord, Position, encode_record
from vigie_contracts.features import FeatureTable
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.scores import ScoreRecord, decode_score
from vigie_kit.database import open_engine, transaction
from vigie_kit.sqlite_log import SqliteLogReader, SqliteLogWriter
from vigie_kit.wakeup import Notifier
from vigie_tiles import schema
from vigie_tiles.kernel import fold
from vigie_tiles.layout import Layout

from tests.servers import free_port, until
from tests.unit.scoring.scoring_models import churn_booster, propensity_booster, write_model
from tests.warm import WarmProcess

REPO = Path(__file__).parent / "scoring_repo"
TABLE = FeatureTable.load(REPO)
CHURN_MODEL = "vigie-churn-closure"
OFFER_CODES = ["savings", "card", "waiver"]
TOKEN = "test-token"
DEADLINE_SECONDS = 120.0

T = TypeVar("T")


class Process:
    """The service's process with its own log file; ended by its id."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
        self.child = WarmProcess("vigie_scoring", environment={**clean, **environ}, output=log)

    def ended(self) -> bool:
        return self.child.poll() is not None

    def stop(self) -> int:
        """SIGTERM, then wait; SIGKILL after 15 s."""
        if not self.ended():
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class Registry:
    """Registers tiny models the way training does, and moves aliases."""

    def __init__(self, address: str, folder: Path) -> None:
        self.client = MlflowClient(tracking_uri=address, registry_uri=address)
        self._folder = folder

    def churn(self, seed: int = 0, **changes: Any) -> str:
        """Register a churn version; returns its number."""
        directory = self._folder / f"churn-{time.monotonic_ns()}"
        write_model(directory, TABLE, churn_booster(seed), **changes)
        return self.register(CHURN_MODEL, directory)

    def propensity(self, seed: int = 0) -> str:
        """Register a propensity version; returns its number."""
        directory = self._folder / f"offers-{time.monotonic_ns()}"
        write_model(directory, TABLE, propensity_booster(OFFER_CODES, seed), kind="propensity", offers=OFFER_CODES)
        return self.register(PROPENSITY_MODEL, directory)

    def register(self, name: str, directory: Path) -> str:
        """Log a folder as a run's artifact and register it as the next version."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        run = self.client.create_run("0")
        self.client.log_artifacts(run.info.run_id, str(directory), "model")
        source = f"{run.info.artifact_uri}/model"
        return str(self.client.create_model_version(name, source, run.info.run_id).version)

    def promote(self, name: str, version: str, gate: str | None = "held", alias: str = "champion") -> None:
        """Move an alias; with `gate`, tag the version as promotion does."""
        if gate is not None:
            self.client.set_model_version_tag(name, version, "vigie.gate", gate)
        self.client.set_registered_model_alias(name, alias, version)


class Service:
    """The scoring service as a process on a data directory."""

    def __init__(self, data: Path, mlflow_uri: str, **settings: str) -> None:
        self.data = data
        self.port = free_port()
        self.environ = {
            "VIGIE_DATA": str(data),
            "VIGIE_FEATURE_REPO": str(REPO),
            "VIGIE_SERVICE_TOKEN": TOKEN,
            "VIGIE_MLFLOW_URI": mlflow_uri,
            "VIGIE_SCORING_PORT": str(self.port),
            "VIGIE_SCORING_POLL_SECONDS": "0.2",
            **settings,
        }
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        )
        self.process: Process | None = None

    def start(self, failpoint: str = "") -> "Service":
        """Start and wait until ready (or, with a failpoint, return at once)."""
        environ = {**self.environ, **({"VIGIE_FAILPOINT": failpoint} if failpoint else {})}
        self.process = Process(environ, self.data / "scoring.log")
        if not failpoint:
            until("the service to be ready", self.is_ready)
        return self

    def is_ready(self) -> bool:
        """Whether it answers; fails with its log when the process ended."""
        if self.process is not None and self.process.ended():
            raise AssertionError(f"the service ended: {self.process.log.read_text()[-2000:]}")
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """End it; returns the exit status."""
        assert self.process is not None
        return self.process.stop()

    def post(self, path: str, body: Any, answer: type[T]) -> T:
        """A struct for a struct."""
        response = self.client.post(path, content=msgspec.json.encode(body))
        assert response.status_code == 200, response.text
        return msgspec.json.decode(response.content, type=answer)

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()


class Feeder:
    """Plays ingest and features: appends events to the log of ingest.db and folds them into features.db."""

    def __init__(self, data: Path, time_zone: str = "UTC") -> None:
        self._layout = Layout(TABLE, time_zone)
        self._ingest = open_engine(data / "ingest.db")
        self._features = open_engine(data / "features.db")
        self._events, self._changes = SqliteLogWriter("events"), SqliteLogWriter("changes")
        self._notifier = Notifier(data / "run", "changes")
        with transaction(self._ingest) as conn:
            self._events.create(conn)
        with transaction(self._features) as conn:
            for statement in schema.DDL:
                conn.exec_driver_sql(statement)
            self._changes.create(conn)
            SqliteLogWriter("segments").create(conn)

    def log(self, *records: LogRecord) -> list[Position]:
        """Append to the log "events" only."""
        with transaction(self._ingest) as conn:
            return self._events.append(conn, [encode_record(record) for record in records])

    def feed(self, events: Sequence[Event]) -> list[Position]:
        """Append events, fold them, and say what changed: one change a customer, as features does."""
        positions = self.log(*events)
        causes = {event.member_id: position for event, position in zip(events, positions, strict=True)}
        with transaction(self._features) as conn:
            blobs = {member_id: self._blob(conn, member_id) for member_id in causes}
            for member_id, folded in fold(self._layout, blobs, events).items():
                row = (member_id, folded.blob, folded.newest_us)
                conn.exec_driver_sql("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)", row)
            conn.exec_driver_sql("INSERT OR REPLACE INTO applied VALUES (0, ?)", (positions[-1].number,))
            changes = [
                Change(customer_id=member_id, cause=cause, not_before_us=0, why="event")
                for member_id, cause in causes.items()
            ]
            self._changes.append(conn, [msgspec.json.encode(change) for change in changes])
        self._notifier.notify()
        return positions

    def _blob(self, conn: Any, member_id: str) -> bytes | None:
        found = conn.exec_driver_sql("SELECT blob FROM tiles WHERE member_id = ?", (member_id,)).fetchone()
        return found[0] if found else None


def event(member_id: str, name: str, at_us: int, **properties: Any) -> Event:
    """A catalogued event known when it happened."""
    return Event(
        member_id=member_id,
        event_id=f"{member_id}-{name}-{at_us}",
        source_id="tests",
        kind="track",
        name=name,
        catalogued=True,
        received_at_us=at_us,
        known_at_us=at_us,
        timestamp_us=at_us,
        effective_at_us=at_us,
        properties=properties,
    )


def scores_of(data: Path) -> list[ScoreRecord]:
    """All records of the log "scores"."""
    reader = SqliteLogReader(data / "scoring.db", "scores")
    try:
        return [decode_score(entry.payload) for entry in reader.read({}, 1_000_000)]
    finally:
        reader.close()
