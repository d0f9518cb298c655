"""A whole Vigie in a folder of its own: `vigie up --json` as a child process, on free ports."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def free_port_base(count: int = 5) -> int:
    """A port from which `count` ports in a row are free now."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = probe.getsockname()[1]
        if base + count < 60_000 and all(_is_free(base + offset) for offset in range(count)):
            return base
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def until(what: str, look: Callable[[], T | None], seconds: float = 60.0) -> T:
    """Look until something (not None, not False) is there; an error that says what was awaited otherwise."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class System:
    """Start with `with System(folder) as system:`; `addresses` is the line that `vigie up --json` printed."""

    folder: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port_base: int = field(default_factory=free_port_base)
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
        done = subprocess.run(
            [sys.executable, "-m", "vigie_cli", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=timeout,
            env={**os.environ, **self.environment, "VIGIE_DATA": str(self.data)},
            check=False,
        )
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
