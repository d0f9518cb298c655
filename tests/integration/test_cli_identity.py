"""`vigie identity` against a running ingest: explained, undone, restored, and refused in words."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from vigie_cli.connection import Connection
from vigie_cli.identity import explanation, undone
from vigie_contracts.errors import Conflict, NotFound
from vigie_kit.client import SyncServiceClient

from tests.integration.ingest_process import KEY, IngestProcess, running


class _Ingest:
    """Of a running system, ingest."""

    def __init__(self, process: IngestProcess) -> None:
        self._process = process

    def client(self, _service: str) -> SyncServiceClient:
        return self._process.client()


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[IngestProcess]:
    with running(tmp_path) as process:
        yield process


def test_a_merge_is_explained_undone_and_restored_by_its_number(ingest: IngestProcess) -> None:
    system = cast(Connection, _Ingest(ingest))
    message = {"type": "identify", "userId": "ann", "anonymousId": "tablet", "messageId": "m"}
    httpx.post(
        f"{ingest.url}/v1/identify", json=message, auth=(KEY, ""), trust_env=False, timeout=30
    ).raise_for_status()
    before = explanation(system, "ann")
    assert explanation(system, before.customer_id).members == before.members
    (merge,) = before.merges
    assert (merge.rule, merge.event and merge.event.event_id, merge.undone_number) == ("identified", "m", None)
    answer = undone(system, merge.number, "the tablet was lent")
    assert answer.undoes == merge.number
    assert explanation(system, "ann").customer_id != explanation(system, "tablet").customer_id
    with pytest.raises(Conflict, match="was undone already"):
        undone(system, merge.number, "again")
    undone(system, answer.number, "it was hers")
    assert explanation(system, "ann").customer_id == explanation(system, "tablet").customer_id == before.customer_id
    with pytest.raises(NotFound, match="nobody is known under 'bob'"):
        explanation(system, "bob")
