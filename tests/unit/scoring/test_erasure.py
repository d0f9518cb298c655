"""Scoring forgets an erased person, tells it once, and no hint on its way brings the person back."""

import sqlite3

import msgspec
import pytest
from vigie_contracts.events import Erased, SegmentMoved
from vigie_contracts.scores import ChurnScore, ScoreUnavailable, decode_score
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_scoring import erasure_store

from tests.unit.scoring.scoring_world import ATTRITION, CLOSURE, INACTIVITY, RISKY, SAFE, World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, definitions=[CLOSURE, INACTIVITY, ATTRITION])
    made.champion()
    made.propensity()
    return made


def fill(world):
    """Ann and Bob with scores, decisions, memberships, contacts, products and consent."""
    for person in ("ann", "bob"):
        world.known(person, RISKY)
        world.event(person, "account.opened", product="current")
        world.event(person, "salary.received", amount=2_000, source="work")
        world.event(person, "offer.shown", offer="savings")
        world.consent(person, "analytics", "denied")
        moved = SegmentMoved(customer_id=person, key="loyal", version=1, entered=True, at_us=1)
        world.feature_segments.append(msgspec.json.encode(moved))
    world.run()


def erase(world, person="ann"):
    erased = Erased(erasure_id="e", customer_id=person, member_ids=[person], known_at_us=world.now_us)
    return world.record(erased)


def found(world, person="ann"):
    with world.store.reading() as snapshot:
        return {place.name: place.found for place in erasure_store.places(snapshot.connection, [person])}


def payloads(world):
    reader = SqliteLogReader(world.data / "scoring.db", "scores")
    entries = reader.read({}, 1_000)
    reader.close()
    return [entry.payload for entry in entries]


def test_everything_of_the_person_goes_and_the_others_keep_all(world):
    fill(world)
    held, bobs = found(world), found(world, "bob")
    absent = {"pending", "requests", "outcomes", "shadow_scores"}
    assert {name for name, count in held.items() if count == 0} <= absent
    erase(world)
    world.run()
    assert set(found(world).values()) == {0}
    assert found(world, "bob") == bobs
    kept = b"".join(path.read_bytes() for path in sorted(world.data.glob("scoring.db*")) if path.suffix != ".db-shm")
    assert b"bob" in kept


def test_whoever_was_told_a_score_is_told_once_that_it_ended(world):
    fill(world)
    erase(world)
    world.run()
    records = [decode_score(payload) for payload in payloads(world) if payload]
    (last,) = [record for record in records if record.current.customer_id == "ann"]
    assert isinstance(last.current, ScoreUnavailable)
    assert (last.current.reason, last.previous, last.is_update) == ("CONSENT_WITHDRAWN", None, True)
    assert payloads(world)[-1]
    assert payloads(world).count(b"") == 1
    assert [type(record.current) for record in records if record.current.customer_id == "bob"] == [ChurnScore]


def test_nobody_is_told_of_a_person_without_a_score(world):
    world.event("ann", days_ago=2)
    erase(world)
    world.run()
    assert payloads(world) == []


def test_hints_memberships_and_requests_on_their_way_do_not_bring_the_person_back(world):
    fill(world)
    cause = erase(world)
    world.changed("ann", cause)
    world.changed("bob", cause)
    moved = SegmentMoved(customer_id="ann", key="loyal", version=1, entered=True, at_us=1)
    world.feature_segments.append(msgspec.json.encode(moved))
    with world.store.transaction() as tx:
        tx.enqueue(["ann"])
    world.values["bob"] = SAFE
    world.run()
    assert set(found(world).values()) == {0}
    assert world.consumer.lags() == {"events": 0, "changes": 0, "feature_segments": 0}


def test_emptied_records_of_the_features_are_passed_over(world):
    world.known("bob", SAFE)
    world.changes.append(b"")
    world.feature_segments.append(b"")
    world.run()
    assert world.consumer.lags() == {"events": 0, "changes": 0, "feature_segments": 0}
    assert len(world.scores()) == 1


def test_an_erased_person_denies_every_purpose_so_that_nothing_kept_in_memory_is_delivered(world):
    fill(world)
    erase(world)
    world.run()
    with world.store.reading() as snapshot:
        denied = snapshot.deniers(["ann", "bob"])
    assert denied == {"ann": ["service", "analytics", "marketing", "profiling"], "bob": ["analytics"]}


def test_a_restart_after_an_erasure_changes_nothing(world):
    fill(world)
    erase(world)
    world.run()
    before = payloads(world)
    world.store.close()
    world.start()
    world.run()
    assert payloads(world) == before
    assert set(found(world).values()) == {0}


def test_every_table_is_declared_as_somebodys_or_nobodys(world):
    with sqlite3.connect(world.data / "scoring.db") as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    declared = {table.name for table in erasure_store.TABLES} | erasure_store.WITHOUT_PERSONS
    assert tables - {"log_scores", "log_segments"} == declared
