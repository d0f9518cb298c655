"""A real ingest process in a folder, on a free port: started, killed, started again."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import Event, LogRecord, decode_record
from vigie_contracts.instants import ClockSetting
from vigie_ingest.keystore import Keys
from vigie_ingest.sealing import Sealer
from vigie_kit import installation
from vigie_kit.client import SyncServiceClient
from vigie_kit.sqlite_log import SqliteLogReader

from tests.servers import free_port, until
from tests.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "service-token"
KEY = "write-key"
SOURCE = "app"
DEADLINE_SECONDS = 60.0


@dataclass
class IngestProcess:
    """`start` waits until it is ready; `kill` is SIGKILL; `stop` is SIGTERM and gives the exit code."""

    folder: Path
    feature_repo: Path = ROOT / "feature_repo"
    clock: ClockSetting | None = None
    settings: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | WarmProcess | None" = None
    port: int = 0

    def __post_init__(self) -> None:
        self.port = free_port()
        installation.create(self.folder, clock=self.clock)

    @property
    def output(self) -> Path:
        """What it printed; beside its folder, which may be a disk that is full."""
        return self.folder.with_name(f"{self.folder.name}.out")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, failpoint: str | None = None) -> "IngestProcess":
        environment = {
            **os.environ,
            "VIGIE_DATA": str(self.folder),
            "VIGIE_FEATURE_REPO": str(self.feature_repo),
            "VIGIE_SERVICE_TOKEN": TOKEN,
            "VIGIE_INGEST_WRITE_KEYS": f"{KEY}={SOURCE}",
            "VIGIE_INGEST_PORT": str(self.port),
            **self.settings,
            **({"VIGIE_FAILPOINT": failpoint} if failpoint else {}),
        }
        self.process = self._started(environment)
        until("ingest to be ready", self.ready)
        return self

    def _started(self, environment: dict[str, str]) -> "subprocess.Popen[bytes] | WarmProcess":
        if "LD_PRELOAD" in environment:  # only a process that begins with exec loads it
            return subprocess.Popen([sys.executable, "-m", "vigie_ingest"], env=environment)
        return WarmProcess("vigie_ingest", environment=environment, output=self.output)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "ingest ended before it was ready"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_SECONDS)

    def client(self) -> SyncServiceClient:
        return SyncServiceClient(self.url, TOKEN)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, trust_env=False, timeout=30, **more)

    def receipt(self, event_id: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"{self.url}/v1/receipts/{event_id}", headers=headers, trust_env=False)
        found: dict[str, Any] = answer.json()
        return found

    def records(self) -> list[LogRecord]:
        reader = SqliteLogReader(self.folder / "ingest.db", "events")
        found = [decode_record(entry.payload) for entry in reader.read({}, 10_000_000)]
        reader.close()
        return found

    def events(self) -> list[Event]:
        """The events of the log, opened with the members' keys."""
        keys = Keys(self.folder / "keys.db")
        sealer = Sealer(Catalogue.load(self.feature_repo), keys)
        found = [sealer.opened(record) for record in self.records() if isinstance(record, Event)]
        keys.close()
        return found


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[IngestProcess]:
    """A started process that is gone afterwards."""
    process = IngestProcess(folder, **options)
    try:
        yield process.start()
    finally:
        process.kill()
