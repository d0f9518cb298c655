"""A storm of merges from one source: nothing is lost, everything is said, and another source notices nothing."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import msgspec
from vigie_contracts.reads import CustomersAnswer, CustomersRequest, ExplainAnswer, Lookup
from vigie_contracts.receipts import Receipt
from vigie_contracts.sources import NewKey, SourceCreate

from tests.integration.ingest_process import KEY, SOURCE, TOKEN, IngestProcess, running

KIOSKS, USERS_A_KIOSK, DEVICES, CHAIN, PLACEHOLDERS = 10, 30, 1_000, 100, 20
MOST_MEMBERS, MOST_USER_IDS = 32, 8
BATCH, SENDERS, QUIET_EVENTS = 20, 6, 5
LEAST_QUIET_CALLS = 5

Message = dict[str, Any]


def storm() -> list[Message]:
    """Hundreds of user ids on ten kiosks, hundreds of devices of one person, a chain of aliases, placeholders."""
    kiosks = [
        {"type": "identify", "userId": f"kiosk-user-{kiosk}-{user}", "anonymousId": f"kiosk-{kiosk}"}
        for user in range(USERS_A_KIOSK)
        for kiosk in range(KIOSKS)
    ]
    devices = [{"type": "identify", "userId": "hub", "anonymousId": f"device-{n}"} for n in range(DEVICES)]
    chain = [{"type": "alias", "previousId": f"alias-{n}", "userId": f"alias-{n + 1}"} for n in range(CHAIN)]
    seen = [{"type": "track", "event": "Logged In", "userId": f"alias-{n}"} for n in range(CHAIN + 1)]
    placeholders = [{"type": "identify", "userId": "null", "anonymousId": "0000"} for _ in range(PLACEHOLDERS)]
    rest: list[Message] = [*kiosks, *devices, *chain, *placeholders]
    random.Random(7).shuffle(rest)
    return [{**message, "messageId": f"storm-{n}"} for n, message in enumerate([*seen, *rest])]


def quiet(number: int) -> list[Message]:
    """A batch of ordinary events of one person on one device."""
    who = {"userId": f"quiet-{number}", "anonymousId": f"phone-{number}"}
    return [
        {"type": "page", "name": "Help", "messageId": f"quiet-{number}-{event}", **who} for event in range(QUIET_EVENTS)
    ]


async def sent(client: httpx.AsyncClient, key: str, messages: list[Message]) -> httpx.Response:
    return await client.post("/v1/batch", json={"batch": messages}, auth=(key, ""))


async def until_taken(client: httpx.AsyncClient, key: str, batches: "list[list[Message]]", waits: list[int]) -> None:
    """Send what is left, each batch again while it is refused, as an SDK does (but at once)."""
    while batches:
        batch = batches.pop(0)
        while (answer := await sent(client, key, batch)).status_code != 200:
            assert answer.status_code == 429
            assert answer.json()["code"] == "LIMIT_EXCEEDED"
            waits.append(int(answer.headers["retry-after"]))


async def both(process: IngestProcess, stormy: str) -> tuple[list[int], list[int]]:
    """(the pauses that the storm was told, the status of each quiet call while it lasted)."""
    messages = storm()
    waits: list[int] = []
    first, rest = messages[: CHAIN + 1], messages[CHAIN + 1 :]
    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(base_url=process.url, limits=limits, timeout=60, trust_env=False) as client:
        assert (await sent(client, stormy, first)).status_code == 200
        batches = [rest[start : start + BATCH] for start in range(0, len(rest), BATCH)]
        storming = asyncio.gather(*(until_taken(client, stormy, batches, waits) for _ in range(SENDERS)))
        codes: list[int] = []
        while not storming.done():
            codes.append((await sent(client, KEY, quiet(len(codes)))).status_code)
        await storming
    return waits, codes


def receipts(process: IngestProcess, messages: list[Message]) -> list[Receipt]:
    with httpx.Client(
        base_url=process.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30, trust_env=False
    ) as client:
        answers = [client.get(f"/v1/receipts/{message['messageId']}") for message in messages]
    return [msgspec.json.decode(answer.content, type=Receipt) for answer in answers]


def test_a_storm_of_merges_loses_nothing_and_another_source_notices_nothing(tmp_path: Path) -> None:
    with running(tmp_path, settings={"VIGIE_INGEST_QUEUE_EVENTS": "120"}) as process:
        system = process.client()
        stormy = system.post("/internal/sources/create", SourceCreate(source_id="stormy"), NewKey).write_key
        waits, codes = asyncio.run(both(process, stormy))
        assert set(codes) == {200}
        assert len(codes) >= LEAST_QUIET_CALLS
        assert waits, "the storm was never told to wait: it was no storm"
        assert min(waits) >= 1

        messages = storm()
        told = receipts(process, messages)
        assert Counter(receipt.verdict for receipt in told) == {
            "accepted": len(messages) - PLACEHOLDERS, "quarantined": PLACEHOLDERS,
        }  # fmt: skip
        assert all(receipt.reason for receipt in told if receipt.verdict == "quarantined")
        assert {receipt.source_id for receipt in told} == {"stormy"}
        calm = receipts(process, [message for number in range(len(codes)) for message in quiet(number)])
        assert {(receipt.verdict, receipt.source_id, len(receipt.notes)) for receipt in calm} == {
            ("accepted", SOURCE, 0)
        }

        notes = [note for receipt in told for note in receipt.notes]
        counts: dict[str, Any] = system.get("/internal/status", dict[str, Any])
        assert counts["problems"] == []
        assert counts["identity"]["shared_devices"] == KIOSKS
        assert sum("a shared device" in note for note in notes) == KIOSKS
        refused = [note for note in notes if note.startswith("the merge was refused: ")]
        assert len(refused) == counts["identity"]["merges_refused"]
        assert sum(f"at most {MOST_MEMBERS}" in note for note in refused) == DEVICES - (MOST_MEMBERS - 1)
        assert sum(f"'user_id', and the limit is {MOST_USER_IDS}" in note for note in refused) >= CHAIN // MOST_USER_IDS
        made = len(codes) + KIOSKS + DEVICES + CHAIN - len(refused)
        assert counts["identity"]["merges"] == made
        assert_nobody_has_more_than_the_limits(process, messages)


def assert_nobody_has_more_than_the_limits(process: IngestProcess, messages: list[Message]) -> None:
    """Whole customers, explained: their sizes, and that what was refused is told."""
    names = sorted({message["userId"] for message in messages if message["userId"] != "null"})
    system = process.client()
    found = {}
    for start in range(0, len(names), 100):
        lookups = [Lookup(namespace="user_id", value=name) for name in names[start : start + 100]]
        asked = CustomersRequest(lookups=lookups)
        answer = system.post("/internal/identity/explain", asked, ExplainAnswer)
        found |= {row.customer_id: row for row in answer.customers if row is not None}
        rows = system.post("/internal/customers", asked, CustomersAnswer).customers
        assert [row and row.customer_id for row in rows] == [row and row.customer_id for row in answer.customers]
    assert max(len(row.members) for row in found.values()) == MOST_MEMBERS
    users = [
        sum(identity.namespace == "user_id" for member in row.members for identity in member.identities)
        for row in found.values()
    ]
    assert max(users) <= MOST_USER_IDS
    assert sum(users) == len(names)
    hub = next(row for row in found.values() if len(row.members) == MOST_MEMBERS)
    assert (len(hub.refused), hub.refused_more) == (100, True)
