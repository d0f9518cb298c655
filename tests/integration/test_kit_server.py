"""A real process on kit: health, internal calls and their errors, and an end within the drain time."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
import websockets.sync.client
from vigie_contracts.errors import Conflict, IncompatibleData, InvalidInput, NotFound, Unauthorized, Unavailable
from vigie_kit.client import ServiceClient, SyncServiceClient

from tests.servers import free_port

PROGRAM = Path(__file__).with_name("kit_process.py")


class Sum(msgspec.Struct):
    numbers: list[object]


class Total(msgspec.Struct):
    total: int


class Other(msgspec.Struct):
    something: str


def until_ready(url: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{url} was not ready within {seconds} s")


@contextmanager
def running(drain_seconds: float = 5) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(port), str(drain_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until_ready(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as (address, _process):
        yield address


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, float]:
    """Exit code, standard output, and seconds since the signal."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out, time.monotonic() - began


def test_sigterm_ends_open_streams_and_runs_the_teardown() -> None:
    with running() as (address, process):
        with httpx.stream("GET", f"{address}/stream", trust_env=False, timeout=30) as response:
            lines = response.iter_lines()
            assert next(lines) == "data: 1"
            with websockets.sync.client.connect(address.replace("http", "ws") + "/socket") as connection:
                assert connection.recv() == "hello"
                code, out, seconds = ended(process)
            assert "event: complete" in list(lines)
        assert (code, out) == (0, "started\nended\n")
        assert seconds < 4


def test_a_stream_that_does_not_listen_is_cut_at_the_drain_time() -> None:
    with running(drain_seconds=1) as (address, process):
        with httpx.stream("GET", f"{address}/deaf", trust_env=False, timeout=30) as response:
            lines = response.iter_lines()
            assert next(lines) == "data: 1"
            code, out, seconds = ended(process)
        assert (code, out) == (0, "started\nended\n")
        assert 0.9 < seconds < 5


def test_a_port_in_use_ends_with_an_error_after_the_teardown(url: str) -> None:
    port = url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), port, "1"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (3, "started\nended\n")
    assert "address already in use" in done.stderr


def test_health_tells_what_is_wrong(url: str) -> None:
    assert httpx.get(f"{url}/livez", trust_env=False).json() == {"live": True}
    ready = httpx.get(f"{url}/readyz", trust_env=False)
    assert ready.json() == {"ready": True, "checks": {"database": None, "draining": None}}


def test_an_unexpected_error_tells_the_wire_nothing(url: str) -> None:
    answer = httpx.get(f"{url}/fail", trust_env=False)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "VigieError",
        "status": 500,
        "code": "INTERNAL",
        "detail": "an unexpected error; the log of the service tells more",
        "retryable": False,
    }


def test_structs_travel_between_processes(url: str) -> None:
    client = SyncServiceClient(url, "the-token")
    assert client.post("/internal/add", Sum([1, 2, 3]), Total).total == 6
    client.close()


def test_errors_arrive_as_the_class_that_was_raised(url: str) -> None:
    client = SyncServiceClient(url, "the-token")
    with pytest.raises(InvalidInput, match=r"the request body is wrong: .*\$\.numbers"):
        client.post("/internal/add", Sum(["one"]), Total)
    with pytest.raises(Conflict, match="somebody else was first"):
        client.get("/internal/conflict", Total)
    with pytest.raises(IncompatibleData, match="something else than expected"):
        client.post("/internal/add", Sum([1]), Other)
    with pytest.raises(NotFound, match="GET /internal/nothing: Not Found"):
        client.get("/internal/nothing", Total)
    client.close()


def test_internal_routes_need_the_token(url: str) -> None:
    for token in ("wrong", "the-toke", "the-token2"):
        client = SyncServiceClient(url, token)
        with pytest.raises(Unauthorized, match="needs the service token"):
            client.post("/internal/add", Sum([1]), Total)
        client.close()


def test_a_service_that_is_down_is_unavailable() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    client = SyncServiceClient(address, "t")
    with pytest.raises(Unavailable, match="does not answer"):
        client.get("/internal/status", Total)
    client.close()


def test_the_asynchronous_client_does_the_same(url: str) -> None:
    async def calls() -> AsyncIterator[object]:
        client = ServiceClient(url, "the-token")
        yield (await client.post("/internal/add", Sum([4]), Total)).total
        try:
            await client.get("/internal/conflict", Total)
        except Conflict as error:
            yield error.message
        await client.aclose()

    async def collected() -> list[object]:
        return [item async for item in calls()]

    assert asyncio.run(collected()) == [4, "somebody else was first"]
