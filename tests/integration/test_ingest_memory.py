"""Memory: flat over a million events, and bounded by 429 however much comes at once."""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from vigie_contracts.sources import NewKey, SourceCreate

from tests.integration.ingest_process import KEY, IngestProcess, running

EVENTS, BATCH, CUSTOMERS = 1_000_000, 500, 20_000
WARM, MOST_GROWTH_MB = 300_000, 40
FLOOD, FLOOD_EVENTS, QUEUE_BYTES, MOST_FLOOD_MB = 60, 400, 20_000_000, 150
"""A flood of 240 MB at once grew ingest by 47 MB beside this queue, by 434 MB beside one that takes everything."""


def _batch(first: int) -> bytes:
    def event(number: int) -> dict[str, Any]:
        properties = {"duration_seconds": number % 900, "screen": "accounts"}
        names = {"messageId": f"e{number}", "userId": f"customer-{number * 7919 % CUSTOMERS}"}
        return {"type": "track", "event": "session.ended", **names, "properties": properties}

    return msgspec.json.encode({"writeKey": KEY, "batch": [event(first + place) for place in range(BATCH)]})


@pytest.mark.large
@pytest.mark.timeout(3_600)
def test_memory_is_flat_over_a_million_events(tmp_path: Path) -> None:
    with running(tmp_path) as process, httpx.Client(trust_env=False, timeout=60) as client:
        assert process.process is not None
        ingest = psutil.Process(process.process.pid)
        seen: dict[int, int] = {}
        for first in range(0, EVENTS, BATCH):
            client.post(f"{process.url}/v1/batch", content=_batch(first)).raise_for_status()
            if (first + BATCH) % 100_000 == 0:
                seen[first + BATCH] = ingest.memory_info().rss >> 20
                print(f"{first + BATCH:>9,} events: {seen[first + BATCH]} MB resident", flush=True)
        assert max(mb for events, mb in seen.items() if events > WARM) - seen[WARM] < MOST_GROWTH_MB
        assert process.client().get("/internal/status", dict[str, Any])["counts"]["accepted"] == EVENTS


class _Peak:
    """The most memory that a process had while this was open, in MB above what it had before."""

    def __init__(self, process: IngestProcess) -> None:
        assert process.process is not None
        self._of = psutil.Process(process.process.pid)
        self._before = self._most = self._of.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def growth_mb(self) -> int:
        return (self._most - self._before) >> 20

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._most = max(self._most, self._of.memory_info().rss)


async def _flood(process: IngestProcess, noisy: str) -> tuple[Counter[int], Counter[int]]:
    """The statuses of bodies of 4 MB that come all at once, and of a quiet source's calls meanwhile."""
    text = "y" * 10_000

    def large(name: int) -> bytes:
        event = {"type": "track", "event": "x", "userId": "u", "properties": {"text": text}}
        return msgspec.json.encode({"batch": [{**event, "messageId": f"{name}-{n}"} for n in range(FLOOD_EVENTS)]})

    limits = httpx.Limits(max_connections=FLOOD + 1)
    async with httpx.AsyncClient(base_url=process.url, limits=limits, timeout=60, trust_env=False) as client:

        async def send(name: int) -> int:
            answer = await client.post("/v1/batch", content=large(name), auth=(noisy, ""))
            assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1
            return answer.status_code

        flood = asyncio.gather(*(send(name) for name in range(FLOOD)))
        quiet: Counter[int] = Counter()
        while not flood.done():
            small = {"batch": [{"type": "page", "userId": "q", "messageId": f"q-{quiet.total()}"}]}
            quiet[(await client.post("/v1/batch", json=small, auth=(KEY, ""))).status_code] += 1
        return Counter(await flood), quiet


def test_a_flood_is_told_to_wait_before_memory_grows_and_a_quiet_source_is_not(tmp_path: Path) -> None:
    with running(tmp_path, settings={"VIGIE_INGEST_QUEUE_BYTES": str(QUEUE_BYTES)}) as process:
        noisy = process.client().post("/internal/sources/create", SourceCreate(source_id="noisy"), NewKey).write_key
        with _Peak(process) as peak:
            codes, quiet = asyncio.run(_flood(process, noisy))
        assert peak.growth_mb < MOST_FLOOD_MB
        assert set(codes) == {200, 429}
        assert codes[429] > FLOOD / 2
        assert set(quiet) == {200}
        counts = process.client().get("/internal/status", dict[str, Any])["sources"]
        assert counts["noisy"] == {"accepted": codes[200] * FLOOD_EVENTS}
