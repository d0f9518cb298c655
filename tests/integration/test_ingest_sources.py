"""Sources and keys of a real ingest process: made, rotated, disabled, limited, and fair to each other."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from click.testing import CliRunner
from vigie_cli import connection as cli_connection
from vigie_cli.commands.sources import sources
from vigie_cli.connection import Connection
from vigie_contracts.errors import NotFound
from vigie_contracts.sources import KeyRotate, NewKey, SourceCreate, SourceRow, SourceSwitch, SourceUpdate
from vigie_kit.client import SyncServiceClient

from tests.integration.ingest_process import KEY, SOURCE, IngestProcess, running

PAGE = "https://app.bank.example"
CALLS = 50


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[IngestProcess]:
    with running(tmp_path) as process:
        yield process


def create(ingest: IngestProcess, source_id: str, **more: Any) -> str:
    asked = SourceCreate(source_id=source_id, **more)
    return ingest.client().post("/internal/sources/create", asked, NewKey).write_key


def batch(prefix: str, size: int) -> dict[str, Any]:
    return {"batch": [{"type": "page", "userId": "u", "messageId": f"{prefix}-{n}"} for n in range(size)]}


def send(ingest: IngestProcess, key: str, prefix: str, size: int = 1, **headers: str) -> httpx.Response:
    return ingest.post("/v1/batch", batch(prefix, size), auth=(key, ""), headers=headers)


def test_a_rotated_key_counts_for_its_overlap_and_all_of_it_survives_a_kill(ingest: IngestProcess) -> None:
    client = ingest.client()
    old = create(ingest, "web")
    assert send(ingest, old, "a").status_code == 200
    rotated = client.post("/internal/sources/rotate", KeyRotate(source_id="web", overlap_seconds=3_600), NewKey)
    assert [send(ingest, key, key).status_code for key in (old, rotated.write_key)] == [200, 200]
    ingest.kill()
    ingest.start()
    assert [send(ingest, key, f"{key}2").status_code for key in (old, rotated.write_key)] == [200, 200]
    last = client.post("/internal/sources/rotate", KeyRotate(source_id="web", overlap_seconds=0), NewKey)
    assert [send(ingest, key, f"{key}3").status_code for key in (old, rotated.write_key, last.write_key)] == [
        401,
        401,
        200,
    ]
    assert {event.source_id for event in ingest.events()} == {"web"}
    assert len(ingest.events()) == 6


def test_a_disabled_source_and_a_page_of_another_origin_are_told_so_on_every_route(ingest: IngestProcess) -> None:
    client = ingest.client()
    key = create(ingest, "web", origins=[PAGE])
    assert send(ingest, key, "a", Origin=PAGE).status_code == 200
    evil = send(ingest, key, "b", Origin="https://evil.example")
    assert evil.status_code == 403
    assert evil.json()["code"] == "FORBIDDEN"
    assert "pages of https://evil.example may not send for the source 'web'" in evil.json()["message"]
    assert evil.headers["access-control-allow-origin"] == "*"
    other = {"Origin": "https://evil.example"}
    tealium = ingest.post("/event", {"tealium_event": "x"}, headers={"X-Write-Key": key, **other})
    mparticle = ingest.post("/v2/events", {"events": []}, auth=(key, ""), headers=other)
    assert (tealium.status_code, mparticle.status_code) == (403, 403)
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = httpx.options(f"{ingest.url}/v1/t", headers=asked, trust_env=False)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] in ("*", PAGE)
    client.post("/internal/sources/switch", SourceSwitch(source_id="web", disabled=True), SourceRow)
    refused = send(ingest, key, "c", Origin=PAGE)
    assert (refused.status_code, "is disabled" in refused.json()["message"]) == (403, True)
    assert send(ingest, KEY, "d").status_code == 200
    assert [event.event_id for event in ingest.events()] == ["a-0", "d-0"]
    with pytest.raises(NotFound):
        client.post("/internal/sources/switch", SourceSwitch(source_id="x", disabled=True), SourceRow)


def test_a_source_over_its_rate_is_told_when_to_come_back_and_others_are_not(ingest: IngestProcess) -> None:
    slow = create(ingest, "slow", events_per_second=1)
    assert send(ingest, slow, "a", 300).status_code == 200
    refused = send(ingest, slow, "b")
    assert refused.status_code == 429
    assert refused.json()["code"] == "LIMIT_EXCEEDED"
    assert 250 < int(refused.headers["retry-after"]) <= 300
    assert send(ingest, KEY, "c").status_code == 200
    unlimited = SourceUpdate(source_id="slow", events_per_second=None)
    ingest.client().post("/internal/sources/update", unlimited, SourceRow)
    assert send(ingest, slow, "b").status_code == 200
    assert len(ingest.events()) == 302


def test_a_noisy_source_is_told_to_wait_while_every_call_of_a_quiet_one_is_taken(tmp_path: Path) -> None:
    with running(tmp_path, settings={"VIGIE_INGEST_QUEUE_EVENTS": "200"}) as process:
        keys = {"noisy": create(process, "noisy"), "quiet": create(process, "quiet")}

        async def call(client: httpx.AsyncClient, source: str, prefix: str, size: int) -> int:
            answer = await client.post("/v1/batch", json=batch(prefix, size), auth=(keys[source], ""))
            assert answer.status_code in (200, 429)
            assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1
            return answer.status_code

        async def noise(client: httpx.AsyncClient, worker: int, stop: asyncio.Event) -> list[int]:
            found: list[int] = []
            while not stop.is_set():
                found.append(await call(client, "noisy", f"n{worker}-{len(found)}", 100))
            return found

        async def both() -> tuple[list[int], list[int]]:
            limits = httpx.Limits(max_connections=40)
            async with httpx.AsyncClient(base_url=process.url, limits=limits, timeout=60, trust_env=False) as client:
                stop = asyncio.Event()
                workers = [asyncio.create_task(noise(client, worker, stop)) for worker in range(12)]
                quiet = [await call(client, "quiet", f"q{number}", 1) for number in range(CALLS)]
                stop.set()
                return quiet, [code for codes in await asyncio.gather(*workers) for code in codes]

        quiet, noisy = asyncio.run(both())
        assert quiet == [200] * CALLS
        assert noisy.count(429) > 0
        assert noisy.count(200) > 0
        by_source = [event.source_id for event in process.events()]
        assert by_source.count("quiet") == CALLS
        assert by_source.count("noisy") == 100 * noisy.count(200)


@pytest.mark.parametrize("packed", [False, True])
def test_bodies_beyond_the_limits_of_bytes_and_events_are_refused_and_the_next_is_taken(
    tmp_path: Path, packed: bool
) -> None:
    limits = {
        "VIGIE_INGEST_MAX_BODY_BYTES": "20000",
        "VIGIE_INGEST_QUEUE_BYTES": "80000",
        "VIGIE_INGEST_MAX_BATCH_EVENTS": "10",
    }
    with running(tmp_path, settings=limits) as process:

        def post(body: dict[str, Any]) -> httpx.Response:
            text = json.dumps(body).encode()
            headers = {"Content-Encoding": "gzip"} if packed else {}
            content = gzip.compress(text) if packed else text
            return httpx.post(
                f"{process.url}/v1/b", content=content, headers=headers, auth=(KEY, ""), trust_env=False, timeout=30
            )

        assert post(batch("a", 10)).status_code == 200
        assert post(batch("b", 11)).status_code == 413
        assert post({"batch": [], "pad": "x" * 20_000}).status_code == 413
        assert post(batch("c", 1)).status_code == 200


class _System:
    """Of a running system, ingest."""

    def __init__(self, process: IngestProcess) -> None:
        self._process = process

    def client(self, _service: str) -> SyncServiceClient:
        return self._process.client()


def test_the_command_creates_lists_updates_rotates_disables_and_enables(
    ingest: IngestProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_connection, "connect", lambda _data: cast(Connection, _System(ingest)))

    def run(*words: str) -> str:
        done = CliRunner().invoke(sources, [*words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    made = json.loads(run("create", "web", "--origin", PAGE, "--rate", "100", "--json"))
    assert send(ingest, made["write_key"], "a").status_code == 200
    told = run("rotate", "web", "--overlap", "2h")
    key = next(word for word in told.split() if word.startswith("wk_"))
    assert send(ingest, key, "b").status_code == 200
    assert "2 h" in told
    run("update", "web", "--any-origin", "--no-rate", "--weight", "5")
    rows = {row["source_id"]: row for row in json.loads(run("list", "--json"))}
    assert list(rows) == [SOURCE, "web"]
    assert (rows["web"]["origins"], rows["web"]["events_per_second"], rows["web"]["weight"]) == ([], None, 5)
    assert [key["bootstrap"] for key in rows[SOURCE]["keys"]] == [True]
    assert "web" in run("list")
    run("disable", "web")
    assert send(ingest, key, "c").status_code == 403
    run("enable", "web")
    assert send(ingest, key, "c").status_code == 200
