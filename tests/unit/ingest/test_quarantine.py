"""Releasing from quarantine: by today's rules, known at the release, once; refused events change nothing."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from vigie_contracts.errors import InvalidInput, NotFound
from vigie_contracts.imports import ImportRecord
from vigie_contracts.quarantine import QuarantineCount, ReleaseAnswer, ReleaseRequest
from vigie_contracts.subjects import ErasureRequest
from vigie_ingest import store
from vigie_ingest.identity import DEFAULT_RULES, Rules
from vigie_ingest.messages import Normaliser, read
from vigie_ingest.quarantine import Quarantine

from tests.unit.ingest.ingest_world import CATALOGUE, NOW_US, World, track

LATER_US = NOW_US + 3_600_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def release(world: World, number: int, event: dict[str, Any] | None = None) -> ReleaseAnswer:
    world.writer.start()
    try:
        return asyncio.run(world.quarantine.release(ReleaseRequest(id=number, event=event)))
    finally:
        world.writer.stop()
        world.restart()


def test_a_mended_event_counts_from_its_release_at_the_time_that_it_happened(world: World) -> None:
    sent = track("1", user="u", event="transfer.made", properties={"amount": "a lot"})
    world.send(sent, track("2", user="u"))
    world.at(LATER_US)
    mended = {**sent, "properties": {"amount": 12.5}}
    assert release(world, 1, mended) == ReleaseAnswer(id=1, source_id="app", event_id="1", verdict="accepted", number=2)
    event = world.events()[-1]
    assert (event.event_id, event.measures) == ("1", {"amount": 1250})
    assert (event.received_at_us, event.effective_at_us, event.known_at_us) == (NOW_US, NOW_US, LATER_US)
    assert world.reads.receipt("1", "app").verdict == "accepted"
    (kept,) = world.quarantine.events(None, state="released")
    assert msgspec.json.decode(kept.body) == sent
    assert (kept.message, kept.number) == (kept.body, 2)
    assert world.quarantine.events(None, state="waiting") == []
    assert kept.released_at == "2026-03-01T13:00:00.000000Z"
    assert world.quarantine.counts() == [QuarantineCount(source_id="app", code="bad_number", waiting=0, released=1)]


def test_an_event_is_released_once_whoever_brings_the_good_copy(world: World) -> None:
    bad = track("1", user="u", timestamp="yesterday")
    world.send(bad)
    accepted = ReleaseAnswer(id=1, source_id="app", event_id="1", verdict="accepted", number=1)
    assert release(world, 1, track("1", user="u")) == accepted
    again = msgspec.structs.replace(accepted, already=True)
    assert release(world, 1, track("1", user="u")) == release(world, 1) == again
    world.send(track("2", user="u", timestamp="yesterday"))
    world.send(track("2", user="u"))
    assert release(world, 2) == ReleaseAnswer(
        id=2, source_id="app", event_id="2", verdict="accepted", number=2, already=True
    )
    assert [event.event_id for event in world.events()] == ["1", "2"]
    assert world.send(bad) == [0]


def test_two_releases_at_once_take_it_once_and_answer_the_same(world: World) -> None:
    bad = track("1", user="u", timestamp="yesterday")
    world.send(bad)
    asked = ReleaseRequest(id=1, event=track("1", user="u"))

    async def twice() -> list[ReleaseAnswer]:
        return await asyncio.gather(world.quarantine.release(asked), world.quarantine.release(asked))

    world.writer.start()
    first, second = asyncio.run(twice())
    world.writer.stop()
    assert [(one.verdict, one.number) for one in (first, second)] == [("accepted", 1)] * 2
    assert len(world.events()) == 1


def test_what_is_mended_has_what_its_batch_and_its_path_said(world: World) -> None:
    nameless = {"event": "Logged In", "messageId": "1", "context": {"page": {"path": "/"}},
                "timestamp": "2026-03-01T11:00:00Z"}  # fmt: skip
    library = {"library": {"name": "own"}}
    world.send(
        {"type": "track", **nameless}, sentAt="2026-03-01T11:59:00Z", context={**library, "page": "its own wins"}
    )
    world.appender.append(
        world.normaliser.items(read(msgspec.json.encode({**nameless, "messageId": "2"}), "track"), "app", NOW_US)
    )
    second, first = world.quarantine.events(None)
    assert msgspec.json.decode(first.message) == {
        **nameless, "type": "track", "sentAt": "2026-03-01T11:59:00Z", "context": {**library, **nameless["context"]}
    }  # fmt: skip
    assert msgspec.json.decode(second.message) == {**nameless, "messageId": "2", "type": "track"}
    assert release(world, 1, {**msgspec.json.decode(first.message), "userId": "u"}).verdict == "accepted"
    (event,) = world.events()
    assert event.effective_at_us == NOW_US - 59 * 60_000_000


def test_a_batchs_context_that_names_a_person_is_emptied_with_them(world: World) -> None:
    world.send({"type": "identify", "messageId": "0", "userId": "ann-1"})
    world.send({"type": "track", "messageId": "1"}, context={"userId": "ann-1"})
    customer = world.customer_of("user_id", "ann-1")
    assert customer is not None
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer))
    assert world.quarantine.events(None) == []
    kept = b"".join(path.read_bytes() for path in world.folder.glob("ingest.db*") if path.suffix != ".db-shm")
    assert b"ann-1" not in kept


def test_a_file_of_an_earlier_version_gains_the_columns_and_releases_its_events(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / store.DATABASE) as file:
        file.execute(
            "CREATE TABLE quarantine (id INTEGER PRIMARY KEY, source_id TEXT NOT NULL, event_id TEXT NOT NULL,"
            " received_at_us INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,"
            " released_at_us INTEGER)"
        )
        body = msgspec.json.encode(track("1", user="u"))
        rows = [(1, "app", "1", NOW_US, "unknown_type", "then it was", body, None),
                (2, "app", "2", NOW_US, "unknown_type", "then it was", body, NOW_US)]  # fmt: skip
        file.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    world = World(tmp_path)
    assert release(world, 1) == ReleaseAnswer(id=1, source_id="app", event_id="1", verdict="accepted", number=1)
    assert release(world, 2) == ReleaseAnswer(id=2, source_id="app", event_id="2", verdict="accepted", already=True)


def test_what_is_still_wrong_stays_and_says_why(world: World) -> None:
    world.send(track("1", user="u", timestamp="yesterday"))
    again = release(world, 1)
    assert (again.verdict, again.code) == ("quarantined", "malformed")
    assert release(world, 1, {"type": "track", "event": "x"}).code == "no_user_anon_id"
    with pytest.raises(InvalidInput, match="give the whole event with its `type`"):
        release(world, 1, {"event": "x", "userId": "u"})
    with pytest.raises(InvalidInput, match="keeps its messageId, '1'"):
        release(world, 1, track("other", user="u"))
    with pytest.raises(NotFound, match="no event 9"):
        release(world, 9)
    assert world.events() == []
    assert len(world.quarantine.events(None)) == 1


def test_an_event_is_released_as_it_lies_when_the_rules_have_changed(world: World, tmp_path: Path) -> None:
    sent = track("1", user="guest")
    world.send(sent)
    assert world.quarantine.events(None)[0].code == "blocked_identity"

    rules = Rules(msgspec.structs.replace(DEFAULT_RULES, blocked=[]))
    normaliser = Normaliser(CATALOGUE, rules)
    world.quarantine = Quarantine(world.engine, normaliser, world.writer, world.clock)
    assert release(world, 1).verdict == "accepted"


def test_an_imported_record_is_released_as_a_record(world: World) -> None:
    record = ImportRecord(event_id="r1", kind="track", name="transfer.made", effective_at_us=NOW_US - 5, user_id="u",
                          properties={"amount": "?"})  # fmt: skip
    world.take(record)
    good = {"type": "track", "event": "transfer.made", "userId": "u", "properties": {"amount": 3}}
    assert release(world, 1).code == "bad_number"
    assert release(world, 1, good).verdict == "accepted"
    assert world.events()[0].event_id == "r1"


def test_lists_are_by_source_and_reason_and_page_by_id(world: World) -> None:
    world.send(*(track(str(number), user="u", timestamp="yesterday") for number in range(5)), track("n", user="null"))
    assert [row.id for row in world.quarantine.events(None, 2)] == [6, 5]
    assert [row.id for row in world.quarantine.events(3, 2)] == [2, 1]
    assert [row.event_id for row in world.quarantine.events(None, code="blocked_identity")] == ["n"]
    assert world.quarantine.events(None, source_id="other") == []


def test_a_released_event_leaves_nothing_behind_when_its_person_is_erased(world: World) -> None:
    world.send(track("1", user="ann-1", timestamp="yesterday"))
    release(world, 1, track("1", user="ann-1"))
    customer = world.customer_of("user_id", "ann-1")
    assert customer is not None
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer))
    assert world.quarantine.events(None) == []
    with pytest.raises(NotFound):
        release(world, 1, track("1", user="ann-1"))
    kept = b"".join(path.read_bytes() for path in world.folder.glob("ingest.db*") if path.suffix != ".db-shm")
    assert b"ann-1" not in kept


def test_what_named_nobody_goes_with_the_person_whose_event_it_became(world: World) -> None:
    sent = {"type": "track", "event": "x", "messageId": "1", "properties": {"note": "her secret"}}
    world.send(sent, {**sent, "messageId": "2", "properties": {"note": "somebody else"}})
    release(world, 1, {**sent, "userId": "ann-1"})
    customer = world.customer_of("user_id", "ann-1")
    assert customer is not None
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer))
    assert [row.event_id for row in world.quarantine.events(None)] == ["2"]
    kept = b"".join(path.read_bytes() for path in world.folder.glob("ingest.db*") if path.suffix != ".db-shm")
    assert b"her secret" not in kept
    assert b"somebody else" in kept


def test_a_released_record_of_a_file_is_known_at_its_release(world: World) -> None:
    record = ImportRecord(event_id="r1", kind="track", name="transfer.made", effective_at_us=NOW_US - 5, user_id="null")
    world.take(record)
    world.at(LATER_US)
    rules = Rules(msgspec.structs.replace(DEFAULT_RULES, blocked=[]))
    world.quarantine = Quarantine(world.engine, Normaliser(CATALOGUE, rules), world.writer, world.clock)
    assert release(world, 1).verdict == "accepted"
    (event,) = world.events()
    assert (event.known_at_us, event.effective_at_us, event.backfilled) == (LATER_US, NOW_US - 5, True)
