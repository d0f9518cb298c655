"""One transaction: duplicates, quarantine, positions, known_at, profiles, consent, receipts."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from vigie_contracts.events import PURPOSES
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import DAY_US, SECOND_US
from vigie_contracts.reads import CustomersRequest, Lookup, TimelineRequest
from vigie_ingest import appender as appender_module
from vigie_ingest import store
from vigie_ingest.usecases import Receipt

from tests.unit.ingest.ingest_world import NOW_US, World, identify, track
from tests.unit.query_plans import reading_all, statements


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def customer(world: World, user: str) -> Any:
    answer = world.reads.customers(CustomersRequest(lookups=[Lookup(namespace="user_id", value=user)]))
    return answer.customers[0]


def row(event_id: str, effective_us: int, **more: Any) -> ImportRecord:
    fields = {
        "kind": "track",
        "event_id": event_id,
        "effective_at_us": effective_us,
        "name": "Logged In",
        "user_id": "u",
    }
    return ImportRecord(**{**fields, **more})


def test_positions_rise_by_one_and_events_keep_what_was_sent(world: World) -> None:
    assert world.send(track("1", user="u"), track("2", user="v")) == [1, 2]
    assert world.send(track("3", user="u", event="Odd", properties={"a": [1]})) == [3]
    first, second, third = world.events()
    assert first.member_id == third.member_id != second.member_id
    assert (third.name, third.catalogued, third.properties) == ("Odd", False, {"a": [1]})
    assert (first.name, first.catalogued, first.source_id, first.event_id) == ("app.logged_in", True, "app", "1")


@pytest.mark.parametrize(("made_with", "kept"), [(None, 8_192), (4_096, 4_096)])
def test_a_new_file_has_larger_pages_and_an_older_one_is_written_with_its_own(
    tmp_path: Path, made_with: int | None, kept: int
) -> None:
    if made_with is not None:
        with closing(sqlite3.connect(tmp_path / store.DATABASE)) as older:
            older.executescript(f"PRAGMA page_size = {made_with}; PRAGMA journal_mode = WAL; CREATE TABLE other (a)")
    world = World(tmp_path)
    assert world.send(track("1", user="u"), track("1", user="u")) == [1, 0]
    with world.engine.connect() as connection:
        pragmas = ("page_size", "journal_mode", "synchronous")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == [kept, "wal", 2]


def test_a_duplicate_is_dropped_within_a_batch_across_batches_and_after_a_restart(world: World) -> None:
    assert world.send(track("1", user="u"), track("1", user="other")) == [1, 0]
    assert world.send(track("1", user="u")) == [0]
    world.restart()
    assert world.send(track("1", user="u")) == [0]
    assert [event.user_id for event in world.events()] == ["u"]
    assert world.reads.receipt("1", "app").duplicates == 3


def test_the_same_id_of_another_source_is_another_event(world: World) -> None:
    world.send(track("1", user="u"))
    world.source_id = "web"
    assert world.send(track("1", user="u")) == [2]
    assert [event.source_id for event in world.events()] == ["app", "web"]


def test_an_id_is_free_again_after_fourteen_days(world: World) -> None:
    world.send(track("1", user="u"))
    world.at(NOW_US + 14 * DAY_US - 1)
    assert world.send(track("1", user="u")) == [0]
    world.at(NOW_US + 14 * DAY_US)
    assert world.send(track("1", user="u")) == [2]
    assert world.send(track("1", user="u")) == [0]


def test_a_files_record_is_a_duplicate_for_ever(world: World) -> None:
    world.take(row("r1", NOW_US - DAY_US))
    world.at(NOW_US + 100 * DAY_US)
    assert world.take(row("r1", NOW_US - DAY_US)) == [0]


def test_deduplication_and_timeline_are_the_same_settled_or_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender_module, "SETTLE_IDLE_AT", 1)
    for number in range(5):
        world.send(track(str(number), user="u"))
    before = world.reads.timeline(TimelineRequest(customer_id=customer(world, "u").customer_id))
    world.appender.settle(idle=True)
    world.send(track("5", user="u"))
    assert world.send(*(track(str(number), user="u") for number in range(6))) == [0] * 6
    after = world.reads.timeline(TimelineRequest(customer_id=customer(world, "u").customer_id))
    assert [event.event_id for event in before.events] == ["4", "3", "2", "1", "0"]
    assert [event.event_id for event in after.events] == ["5", "4", "3", "2", "1", "0"]


def test_two_events_whose_hashes_collide_are_both_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender_module, "event_hash", lambda _source, _event: 7)
    assert [world.send(track(name, user="u")) for name in ("a", "b", "c")] == [[1], [2], [3]]
    assert [world.send(track(name, user="u")) for name in ("a", "b", "c")] == [[0], [0], [0]]


def test_a_quarantined_event_is_kept_whole_and_a_good_copy_is_accepted(world: World) -> None:
    bad = track("1", user="u", timestamp="yesterday")
    assert world.send(bad, track("2", user="u")) == [-1, 1]
    assert world.send(bad) == [0]
    receipt = world.reads.receipt("1", "app")
    assert (receipt.verdict, receipt.code, receipt.duplicates) == ("quarantined", "malformed", 1)
    (kept,) = world.quarantine.events(None, 10)
    assert '"timestamp":"yesterday"' in kept.body
    assert world.send(track("1", user="u")) == [2]
    assert world.reads.receipt("1", "app").verdict == "accepted"
    world.restart()
    assert world.send(track("1", user="u")) == [0]


def test_known_at_is_stamped_in_the_append_and_never_decreases(world: World) -> None:
    world.send(track("1", user="u"))
    world.at(NOW_US - 3_600 * SECOND_US)
    world.restart()
    world.send(track("2", user="u"))
    world.at(NOW_US + 1)
    world.send(track("3", user="u"))
    assert [event.known_at_us for event in world.events()] == [NOW_US, NOW_US, NOW_US + 1]


def test_imported_history_is_known_at_the_mappings_instant(world: World) -> None:
    world.take(
        row("1", NOW_US - 5 * DAY_US),
        row("2", NOW_US - 5 * DAY_US, known_at_us=NOW_US - 2 * DAY_US),
        row("3", NOW_US - 5 * DAY_US, known_at_us=NOW_US + DAY_US),
        row("4", NOW_US + 1),
    )
    assert [(event.event_id, event.known_at_us, event.backfilled) for event in world.events()] == [
        ("1", NOW_US - 5 * DAY_US, True),
        ("2", NOW_US - 2 * DAY_US, True),
        ("3", NOW_US, True),
    ]
    assert world.reads.receipt("4", "file").code == "in_the_future"
    world.send(track("5", user="u"))
    assert (world.events()[-1].known_at_us, world.events()[-1].backfilled) == (NOW_US, False)


def test_a_receipt_says_by_how_much_the_time_was_corrected(world: World) -> None:
    world.send(track("1", user="u", timestamp="2026-03-01T11:00:00Z"), sentAt="2026-03-01T11:58:00Z")
    assert world.reads.receipt("1", "app") == Receipt(
        event_id="1",
        verdict="accepted",
        source_id="app",
        position=world.reads.receipt("1", "app").position,
        received_at="2026-03-01T12:00:00.000000Z",
        known_at="2026-03-01T12:00:00.000000Z",
        effective_at="2026-03-01T11:02:00.000000Z",
        corrected_seconds=120.0,
    )
    assert world.reads.receipt("2", "app").verdict == "unknown"
    assert world.reads.receipt("1", "web").verdict == "unknown"


def test_attributes_are_the_latest_by_effective_instant_whatever_the_order_of_arrival(world: World) -> None:
    world.send(identify("1", user="u", timestamp="2026-02-01T00:00:00Z", traits={"ageBand": "25-34", "income": 2}))
    world.send(identify("2", user="u", timestamp="2026-01-01T00:00:00Z", traits={"age_band": "18-24", "vip": "yes"}))
    found = {attribute.name: attribute for attribute in customer(world, "u").attributes}
    assert {name: attribute.value for name, attribute in found.items()} == {
        "age_band": "25-34",
        "income": 2,
        "vip": True,
    }
    assert found["income"].attribute_class == "transactional"
    world.send(identify("3", user="u", traits={"income": None, "email": "a@b.example", "shoe": 1}))
    found = {attribute.name: attribute for attribute in customer(world, "u").attributes}
    assert {name: attribute.pii for name, attribute in found.items()} == {
        "age_band": None,
        "vip": None,
        "email": "contact",
    }


def preferences(**states: bool) -> dict[str, Any]:
    return {"consent": {"categoryPreferences": states}}


def consent(world: World, user: str) -> dict[str, tuple[str, bool]]:
    return {row.purpose: (row.state, row.allowed) for row in customer(world, user).consents}


def test_consent_is_appended_when_it_changes_and_the_latest_statement_counts(world: World) -> None:
    world.send(track("1", user="u", timestamp="2026-01-10T00:00:00Z", context=preferences(profiling=True)))
    world.send(track("2", user="u", timestamp="2026-01-20T00:00:00Z", context=preferences(profiling=True)))
    world.send(track("3", user="u", timestamp="2026-01-15T00:00:00Z", context=preferences(profiling=False)))
    assert [(said.state, said.event_id) for said in world.consents()] == [("granted", "1")]
    assert consent(world, "u")["profiling"] == ("granted", True)
    world.send(identify("4", user="u", context=preferences(profiling=False, marketing=True)))
    assert [(said.purpose, said.state) for said in world.consents()[1:]] == [
        ("marketing", "granted"),
        ("profiling", "denied"),
    ]
    assert consent(world, "u") == {
        "service": ("unset", True),
        "analytics": ("unset", True),
        "marketing": ("granted", True),
        "profiling": ("denied", False),
    }
    assert tuple(consent(world, "u")) == PURPOSES


def test_any_members_denial_denies_for_the_customer(world: World) -> None:
    world.send(track("1", anonymous="a", context=preferences(marketing=False)))
    world.send(identify("2", user="u", context=preferences(marketing=True)))
    assert consent(world, "u")["marketing"] == ("granted", True)
    world.send(identify("3", user="u", anonymous="a"))
    assert consent(world, "u")["marketing"] == ("denied", False)


def test_the_timeline_pages_through_all_members_newest_first(world: World) -> None:
    world.send(
        track("1", anonymous="a", timestamp="2026-02-01T00:00:00Z"),
        track("2", user="u", timestamp="2026-02-03T00:00:00Z", event="transfer.made", properties={"amount": 1}),
        track("3", user="u", anonymous="a", timestamp="2026-02-02T00:00:00Z"),
        track("4", user="u", timestamp="2026-02-02T00:00:00Z", event="Odd"),
    )
    customer_id = customer(world, "u").customer_id
    first = world.reads.timeline(TimelineRequest(customer_id=customer_id, limit=2)).events
    assert [event.event_id for event in first] == ["2", "4"]
    last = (first[-1].effective_at_us, first[-1].number)
    rest = world.reads.timeline(TimelineRequest(customer_id=customer_id, before=last)).events
    assert [event.event_id for event in rest] == ["3", "1"]
    money = world.reads.timeline(TimelineRequest(customer_id=customer_id, categories=["money"])).events
    assert [(event.event_id, event.measures) for event in money] == [("2", {"amount": 100})]


def test_uncatalogued_names_and_verdicts_are_counted(world: World) -> None:
    world.send(
        track("1", user="u", event="Odd"), track("2", user="u", event="Odd"), track("2", user="u"), {"type": "x"}
    )
    counts = world.reads.counts()
    assert counts["counts"] == {"accepted": 2, "duplicate": 1, "quarantined": 1}
    assert counts["uncatalogued"] == [{"source_id": "app", "name": "Odd", "count": 2}]


def test_a_failed_transaction_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    world.send(track("1", user="u"))
    with monkeypatch.context() as patch:
        patch.setattr(appender_module.store, "put_meta", fail)
        with pytest.raises(OSError, match="full"):
            world.send(track("2", user="v", anonymous="a"))
    assert [event.event_id for event in world.events()] == ["1"]
    assert world.customer_of("user_id", "v") is None
    assert world.send(track("2", user="v", anonymous="a"))[0] == 3


def test_every_statement_of_a_transaction_goes_by_an_index(world: World) -> None:
    found = statements(world.engine)
    world.send(
        track("1", anonymous="a"), track("2", user="u", context=preferences(profiling=True)), track("3", user="null")
    )
    world.send(identify("4", user="u", anonymous="a", traits={"income": 3}), track("2", user="u"), track("3", user="v"))
    world.send(
        identify("5", user="v", anonymous="a"), {"type": "group", "messageId": "6", "userId": "u", "groupId": "g"}
    )
    world.send({"type": "alias", "messageId": "7", "userId": "u", "previousId": "v"})
    assert any(sql.startswith("UPDATE members") for sql in found)
    assert reading_all(world.engine, found) == []
