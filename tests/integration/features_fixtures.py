"""services/features as its own process, for tests: started on a free port, killed or ended by its id."""

import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any, TypeVar

import httpx
from vigie_contracts.instants import ClockSetting
from vigie_kit import installation

from tests.servers import free_port, until
from tests.unit.features.features_world import FEATURE_REPO, NOW_US
from tests.warm import WarmProcess

TOKEN = "test-token"
T = TypeVar("T")


def set_clock(data: Path, now_us: int = NOW_US, rate: float = 0.0) -> None:
    """An installation whose business clock stands at `now_us` (rate 0) or runs on from it."""
    real = time.time_ns() // 1_000
    installation.create(data, time_zone="Europe/Paris", clock=ClockSetting(real, now_us, rate))


class FeaturesProcess:
    """`python -m vigie_features` on a data directory."""

    def __init__(
        self,
        data: Path,
        *,
        feature_repo: Path = FEATURE_REPO,
        failpoint: str = "",
        redis_url: str = "",
        **settings: str,
    ) -> None:
        self.port = free_port()
        self.log = data / "features.log"
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
        environ |= {
            "VIGIE_DATA": str(data),
            "VIGIE_FEATURE_REPO": str(feature_repo),
            "VIGIE_SERVICE_TOKEN": TOKEN,
            "VIGIE_FAILPOINT": failpoint,
            "VIGIE_REDIS_URL": redis_url,
            "VIGIE_FEATURES_PORT": str(self.port),
            "VIGIE_FEATURES_BATCH_RECORDS": "50",
            "VIGIE_FEATURES_ARCHIVE_RECORDS": "120",
            "VIGIE_FEATURES_ARCHIVE_SECONDS": "0.2",
            "VIGIE_FEATURES_SWEEP_SECONDS": "0.1",
        }
        environ |= {f"VIGIE_FEATURES_{name.upper()}": value for name, value in settings.items()}
        self.child = WarmProcess("vigie_features", environment=environ, output=self.log)

    def __enter__(self) -> "FeaturesProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str) -> Any:
        """A JSON answer."""
        return self._answer(self._client.get(path))

    def post(self, path: str, **body: Any) -> Any:
        """A JSON answer."""
        return self._answer(self._client.post(path, json=body))

    def ready(self) -> bool:
        """Whether /readyz says so; fails when the process ended."""
        assert self.child.poll() is None, self.log.read_text()
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def unready(self) -> str:
        """What /readyz says is missing; empty when nothing is, or nobody answers yet."""
        try:
            answer = self._client.get("/readyz")
        except httpx.HTTPError:
            return ""
        return "" if answer.status_code == 200 else answer.text

    def applied(self, number: int, *, archived: bool = True) -> "FeaturesProcess":
        """Wait until the state (and the archive) hold the log up to `number`."""
        until("features to be ready", self.ready)

        def reached() -> bool:
            offsets = self.get("/internal/status")["offsets"]
            behind = offsets["events"].get("0", 0) < number
            return not behind and (not archived or offsets["archive"].get("0", 0) >= number)

        until(f"offset {number}", reached)
        return self

    def wait_killed(self) -> None:
        """Wait until a failpoint killed the process."""
        self._client.close()
        assert self.child.wait(60) == -signal.SIGKILL, self.log.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._client.close()
        if self.child.poll() is None:
            self.child.terminate()
        return self.child.wait(20)

    def _answer(self, response: httpx.Response) -> Any:
        assert response.status_code == 200, response.text
        return response.json()


def rows(data: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of features.db."""
    connection = sqlite3.connect(f"file:{data / 'features.db'}?mode=ro", uri=True)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


STATE = {
    "tiles": "SELECT member_id, blob, newest_us FROM tiles ORDER BY member_id",
    "customers": "SELECT * FROM customers ORDER BY customer_id",
    "members": "SELECT * FROM members ORDER BY member_id, from_us",
    "applied": "SELECT * FROM applied",
    "memberships": "SELECT * FROM memberships ORDER BY customer_id, key",
    "sizes": "SELECT * FROM segment_sizes ORDER BY key",
    "changes": "SELECT * FROM log_changes ORDER BY number",
    "segments": "SELECT * FROM log_segments ORDER BY number",
}


def state(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that features.db says, for comparison."""
    return {name: rows(data, sql) for name, sql in STATE.items()}
