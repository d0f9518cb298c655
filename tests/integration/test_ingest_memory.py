"""A million events through one ingest: its memory stays flat once its caches are full."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from tests.integration.ingest_process import KEY, running

EVENTS, BATCH, CUSTOMERS = 1_000_000, 500, 20_000
WARM, MOST_GROWTH_MB = 300_000, 40


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
