"""An installation of Vigie of its own for the walk-through: `vigie up --json` as a child process, on free ports."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from vigie_cli.connection import Connection, connect
from vigie_contracts.errors import Unavailable

T = TypeVar("T")
VIGIE = (sys.executable, "-m", "vigie_cli")
PORTS = 5
STOP_SECONDS = 90.0


class InstallationProcess:
    """`with InstallationProcess(folder, feature_repo) as vigie:` starts all services and stops them at the end."""

    def __init__(self, folder: Path, feature_repo: Path, *arguments: str) -> None:
        self.data = folder / "data"
        self._folder = folder
        self._command = [*VIGIE, "up", "--data", str(self.data), "--feature-repo", str(feature_repo), *arguments]
        self.connection: Connection
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [*self._command, "--port-base", str(free_port_base()), "--json"]
        with (self._folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment())
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
            if not line:
                raise Unavailable(f"Vigie did not start; {self._folder / 'up.log'} says why")
            json.loads(line)
            self.connection = connect(self.data)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and wait; what does not end in time is left to its own watchdog."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def status(self, service: str) -> dict[str, Any]:
        """`/internal/status` of a service."""
        client = self.connection.client(service)
        try:
            found: dict[str, Any] = client.get("/internal/status", dict[str, Any])
            return found
        finally:
            client.close()

    def send(self, items: list[dict[str, Any]]) -> None:
        """One `POST /v1/batch` as an app's SDK sends it; Unavailable unless it is acknowledged."""
        answer = httpx.post(
            f"{self.connection.addresses.ingest}/v1/batch",
            json={"batch": items},
            auth=(self.connection.credentials.write_key, ""),
            timeout=60,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise Unavailable(f"ingest answered {answer.status_code}: {answer.text[:300]}")

    def graphql(self, query: str) -> dict[str, Any]:
        """The data of a query; Unavailable with the errors when there are any."""
        answer = httpx.post(
            f"{self.connection.addresses.gateway}/graphql",
            json={"query": query},
            headers={"Authorization": f"Bearer {self.connection.credentials.api_token}"},
            timeout=60,
            trust_env=False,
        )
        body: dict[str, Any] = answer.json()
        if body.get("errors") or not body.get("data"):
            raise Unavailable(f"the gateway answered {json.dumps(body)[:600]}")
        found: dict[str, Any] = body["data"]
        return found


def until(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Look until something is there; Unavailable, saying what was awaited, after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.25)
    raise Unavailable(f"not within {seconds:.0f} s: {what}")


def _environment() -> dict[str, str]:
    """Ours, without what MLflow's client and a developer's settings leave in it: they would point to another Vigie."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("VIGIE_", "MLFLOW_"))}


def free_port_base() -> int:
    """A port from which PORTS ports in a row are free now."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = int(probe.getsockname()[1])
        if base + PORTS < 60_000 and all(_is_free(base + offset) for offset in range(PORTS)):
            return base
    raise Unavailable(f"no {PORTS} free ports in a row on this machine")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
