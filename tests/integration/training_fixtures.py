"""A real MLflow server in its own process for the tests of training."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

DEADLINE_SECONDS = 240.0


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server on SQLite in `folder`, ended by its id; yields its address."""
    port = free_port()
    arguments = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow.log").open("ab") as log:
        child = subprocess.Popen(arguments, env=environ, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _await(address, child)
        yield address
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _await(address: str, child: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        if child.poll() is not None:
            raise AssertionError(f"MLflow ended with {child.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("MLflow did not come up")
