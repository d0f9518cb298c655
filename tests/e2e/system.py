"""A whole Vigie in a folder of its own: `vigie up --json` as a child process, on free ports."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests import warm
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


@dataclass
class System:
    """Start with `with System(folder) as system:`; `addresses` is the line that `vigie up --json` printed."""

    folder: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port_base: int = field(default_factory=lambda: free_port(5))
    addresses: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "System":
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def vigie(self, *arguments: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a `vigie` command against this data directory."""
        environment = {**os.environ, **self.environment, "VIGIE_DATA": str(self.data)}
        done = warm.run("vigie_cli", *arguments, environment=environment, timeout=timeout)
        if check:
            assert done.returncode == 0, f"vigie {' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def start(self) -> None:
        """Start everything and wait for the line of addresses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "up.log").open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "vigie_cli",
                    "up",
                    "--data",
                    str(self.data),
                    "--port-base",
                    str(self.port_base),
                    "--json",
                    *self.arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, **self.environment},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"vigie up ended: {(self.folder / 'up.log').read_text()[-4000:]}"
        self.addresses = json.loads(line)

    def stop(self) -> None:
        """SIGTERM and wait; the exit code must be 0."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process = None
        assert code == 0, f"vigie up ended with {code}: {(self.folder / 'up.log').read_text()[-4000:]}"

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer of a query."""
        answer = httpx.post(
            f"{self.addresses['gateway']}/graphql",
            json={"query": query, "variables": variables},
            timeout=30,
            headers={"Authorization": f"Bearer {self.addresses['token']}"},
            trust_env=False,
        )
        return answer.json()

    def send(self, *items: dict[str, Any]) -> None:
        """One batch as an SDK would send it; must be acknowledged."""
        answer = httpx.post(
            f"{self.addresses['ingest']}/v1/batch",
            json={"batch": list(items)},
            auth=(self.addresses["write_key"], ""),
            timeout=30,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text

    def status(self, service: str) -> dict[str, Any]:
        """`/internal/status` of a service."""
        token = json.loads((self.data / "secrets.json").read_text())["service_token"]
        answer = httpx.get(
            f"{self.addresses[service]}/internal/status", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        return answer.json()
