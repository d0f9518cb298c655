"""An erasure leaves tombstones, destroys keys, drops later copies, and touches nobody else."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vigie_contracts.errors import Conflict, NotFound
from vigie_contracts.events import Erased, Event, MapChanged, Tombstone
from vigie_contracts.instants import DAY_US
from vigie_contracts.reads import CustomersRequest
from vigie_contracts.subjects import ErasureRequest, Subject
from vigie_ingest import appender as appender_module
from vigie_ingest import erasing, erasure_store, store
from vigie_ingest.naming import Names
from vigie_ingest.shapes import cloudevents, hubspot, mparticle, salesforce, tealium, zoho
from vigie_ingest.shapes.envelope import Items, Origin, hashed_email
from vigie_kit.database import erasing as overwriting

from tests.unit.ingest.ingest_world import NOW_US, World, identify, track
from tests.unit.ingest.shapes_world import Read, deliver

EMAIL = "ann@bank.example"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def consent(**states: bool) -> dict[str, Any]:
    return {"consent": {"categoryPreferences": states}}


def fill(world: World) -> str:
    """Ann with two members, a statement, an attribute, an odd event and two in quarantine; Bob beside her."""
    world.send(track("1", anonymous="phone"), track("b1", user="bob"))
    world.send(
        identify("2", user="ann", anonymous="phone", traits={"email": EMAIL}, context=consent(marketing=True)),
        track("3", user="ann", event="Odd"),
        track("b2", user="bob", event="Odd"),
        track("q1", user="ann", timestamp="yesterday"),
        {"type": "track", "messageId": "q2", "event": 7, "properties": {"to": EMAIL}},
        track("bq", user="bob", timestamp="yesterday"),
        {"type": "group", "messageId": "4", "userId": "ann", "groupId": "company", "traits": {"vat": "77"}},
    )
    customer = world.customer_of("user_id", "ann")
    assert customer is not None
    return customer


def erase(world: World, customer: str, name: str = "e1") -> Any:
    return world.eraser.erase(ErasureRequest(erasure_id=name, customer_id=customer))


def subject(world: World, customer: str) -> Subject:
    with world.engine.connect() as connection:
        ids = erasure_store.ids_of(connection, customer)
    return Subject(customer_id=customer, member_ids=[str(one) for one in ids["members"]])


def found(world: World, asked: Subject) -> dict[str, int]:
    return {place.name: place.found for place in world.persons.holdings(asked).places}


def test_everything_of_the_person_goes_and_nothing_of_anybody_else(world: World) -> None:
    customer = fill(world)
    asked = subject(world, customer)
    assert found(world, asked) == {
        "members": 2,
        "map_history": 2,
        "links": 1,
        "refusals": 0,
        "identities": 2,
        "attributes": 1,
        "consents": 1,
        "accounts": 1,
        "timeline": 0,
        "unsettled receipts": 4,
        "log of events": 6,
        "quarantine": 2,
        "keys of sealed parts": 2,
    }
    before = world.records()
    told = erase(world, customer)
    after = world.records()
    assert set(found(world, asked).values()) == {0}
    assert after[-1] == Erased(erasure_id="e1", customer_id=customer, member_ids=asked.member_ids, known_at_us=NOW_US)
    assert told.number == len(after) == len(before) + 1
    bobs = [record for record in before if isinstance(record, Event) and record.member_id not in asked.member_ids]
    assert [record for record in after if not isinstance(record, Tombstone | Erased)] == bobs
    assert [row.event_id for row in world.quarantine.events(None, 10)] == ["bq"]
    assert world.reads.counts()["uncatalogued"] == [{"source_id": "app", "name": "Odd", "count": 1}]
    assert world.customer_of("user_id", "ann") is None
    assert world.reads.customers(CustomersRequest(customer_ids=[customer])).customers == [None]
    assert world.customer_of("user_id", "bob") is not None


def test_who_was_parted_from_the_person_stays_and_forgets_it(world: World) -> None:
    world.send(track("1", anonymous="tablet"), identify("2", user="ann", anonymous="tablet"))
    merge = world.merges()[0]
    undone = world.undo(2, "it was lent").number
    world.send(track("3", anonymous="tablet"))
    ann, tablet = world.customer_of("user_id", "ann"), world.customer_of("anonymous_id", "tablet")
    assert ann is not None
    asked = subject(world, ann)
    exported = world.persons.subject(asked).sections["links"].rows
    assert [(row["one_id"], row["other_id"]) for row in exported] == [("not this person's", ann)]
    erase(world, ann)
    assert set(found(world, asked).values()) == {0}
    assert world.customer_of("anonymous_id", "tablet") == tablet
    assert [event.event_id for event in world.events()] == ["1", "3"]
    for number in (2, undone):
        with pytest.raises(NotFound):
            world.undo(number, "again")
    world.send(identify("4", user="bob", anonymous="tablet"))
    assert world.customer_of("user_id", "bob") == tablet == merge.moves[0].to_customer_id


def test_a_refused_merge_goes_with_either_person_and_tells_neither_of_the_others_event(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="tablet"), identify("bobs-event", user="bob", anonymous="tablet"))
    ann, bob = world.customer_of("user_id", "ann"), world.customer_of("user_id", "bob")
    assert ann is not None
    assert bob is not None
    asked = subject(world, ann)
    (row,) = world.persons.subject(asked).sections["refusals"].rows
    assert row["reason"].startswith("the anonymous id is a shared device")
    assert "bobs-event" not in str(row)
    assert found(world, subject(world, bob))["refusals"] == 1
    erase(world, ann)
    assert set(found(world, asked).values()) == {0}
    assert found(world, subject(world, bob))["refusals"] == 0


def test_the_files_hold_neither_the_persons_values_nor_the_keys(world: World) -> None:
    customer = fill(world)
    members = subject(world, customer).member_ids
    with sqlite3.connect(world.folder / "keys.db") as db:
        keys = {row[0]: row[1] for row in db.execute("SELECT member_id, key FROM keys")}
    (bob,) = set(keys) - set(members)
    erase(world, customer)
    kept = b"".join(path.read_bytes() for path in sorted(world.folder.glob("*.db*")) if path.suffix != ".db-shm")
    assert [member for member, key in keys.items() if key in kept] == [bob]
    assert EMAIL.encode() not in kept
    assert b"bob" in kept


def test_a_retry_or_late_copy_is_dropped_for_ever_and_its_receipt_says_erased(world: World) -> None:
    customer = fill(world)
    erase(world, customer)
    copies = [track("1", anonymous="phone"), track("3", user="ann", event="Odd"), track("q1", user="ann")]
    assert world.send(*copies) == [0, 0, 0]
    world.restart()
    world.at(NOW_US + 100 * DAY_US)
    assert world.send(*copies) == [0, 0, 0]
    assert [world.reads.receipt(name, "app").verdict for name in ("1", "2", "3", "q1", "b1", "bq")] == [
        *["erased"] * 4,
        "accepted",
        "quarantined",
    ]
    assert world.reads.receipt("1", "app").duplicates == 2
    assert world.customer_of("user_id", "ann") is None


def test_copies_are_dropped_when_receipts_were_settled_and_when_hashes_collide(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "SETTLE_IDLE_AT", 1)
    monkeypatch.setattr(appender_module, "event_hash", lambda _source, _event: 7)
    world.send(track("1", user="ann"))
    world.send(track("2", user="bob"))
    world.appender.settle(idle=True)
    customer = world.customer_of("user_id", "ann")
    assert customer is not None
    assert found(world, subject(world, customer))["timeline"] == 1
    erase(world, customer)
    assert world.send(track("1", user="ann")) == [0]
    assert world.send(track("2", user="bob")) == [0]
    assert world.send(track("3", user="bob")) == [4]


def test_a_survey_made_before_is_completed_by_what_came_since(world: World) -> None:
    customer = fill(world)
    survey = world.persons.survey(customer)
    assert (len(survey.numbers), survey.end) == (6, len(world.records()))
    world.send(track("since", user="ann"))
    asked = subject(world, customer)
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer), survey)
    assert set(found(world, asked).values()) == {0}
    assert len([record for record in world.records() if isinstance(record, Tombstone)]) == 7


def test_a_survey_before_a_merge_is_not_relied_on(world: World) -> None:
    customer = fill(world)
    survey = world.persons.survey(customer)
    world.send(track("other", anonymous="tablet"), identify("join", user="ann", anonymous="tablet"))
    asked = subject(world, customer)
    assert len(asked.member_ids) == 3
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer), survey)
    assert set(found(world, asked).values()) == {0}


def test_a_returning_identity_is_a_new_member_with_a_new_key(world: World) -> None:
    customer = fill(world)
    old = subject(world, customer)
    erase(world, customer)
    world.restart()
    world.send(track("new", user="ann", anonymous="phone"))
    returned = world.customer_of("user_id", "ann")
    assert returned is not None
    assert returned not in old.member_ids
    assert world.events()[-1].user_id == "ann"
    with world.engine.connect() as connection:
        numbers = erasure_store.ids_of(connection, returned)["numbers"]
        assert not set(numbers) & set(erasure_store.erased_ids_of(connection, customer)["numbers"])


def test_erasing_again_answers_the_same_and_nobody_is_not_found(world: World) -> None:
    customer = fill(world)
    assert erase(world, customer) == erase(world, customer) == erase(world, customer, "e2")
    assert len([record for record in world.records() if isinstance(record, Erased)]) == 1
    with pytest.raises(NotFound):
        erase(world, "nobody", "e3")
    bob = world.customer_of("user_id", "bob")
    assert bob is not None
    with pytest.raises(Conflict, match="another customer"):
        erase(world, bob, "e1")


@pytest.mark.parametrize(
    "failpoint", ["ingest.before_keys_destroyed", "ingest.after_keys_destroyed", "ingest.before_erasure_commit"]
)
def test_an_interrupted_erasure_is_finished_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch, failpoint: str
) -> None:
    class Killed(BaseException):
        pass

    def hit(name: str) -> None:
        if name == failpoint:
            raise Killed

    customer = fill(world)
    asked = subject(world, customer)
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "hit", hit)
        with pytest.raises(Killed):
            erase(world, customer)
    assert not world.persons.holdings(asked).reached or failpoint == "ingest.before_erasure_commit"
    world.restart()
    world.eraser.resume()
    if failpoint == "ingest.before_erasure_commit":
        assert found(world, asked)["log of events"] == 6
        erase(world, customer)
    assert set(found(world, asked).values()) == {0}
    assert world.persons.holdings(asked).reached


def test_whom_an_older_copy_of_the_log_brings_back_is_erased_again_at_the_start(world: World, tmp_path: Path) -> None:
    customer = fill(world)
    asked = subject(world, customer)
    with sqlite3.connect(world.folder / store.DATABASE) as now, sqlite3.connect(tmp_path / "backup") as backup:
        now.backup(backup)
    erase(world, customer)
    with sqlite3.connect(tmp_path / "backup") as backup, sqlite3.connect(world.folder / store.DATABASE) as now:
        backup.backup(now)
    assert found(world, asked)["log of events"] == 6
    assert all(event.user_id != "ann" for event in world.events())
    world.restart()
    world.eraser.resume()
    assert set(found(world, asked).values()) == {0}
    assert world.reads.receipt("1", "app").verdict == "erased"


def test_the_export_holds_everything_in_words(world: World) -> None:
    customer = fill(world)
    data = world.persons.subject(subject(world, customer)).sections
    assert set(data) == {
        "members",
        "map_history",
        "links",
        "refusals",
        "identities",
        "attributes",
        "consents",
        "accounts",
        "events",
        "quarantine",
    }
    assert {row["value"] for row in data["identities"].rows} == {"ann", "phone"}
    assert data["attributes"].rows[0]["value"] == EMAIL
    assert data["accounts"].rows[0]["traits"] == {"vat": "77"}
    assert {row.get("event_id") for row in data["events"].rows if row["type"] == "event"} == {"1", "2", "3", "4"}
    odd = next(row for row in data["events"].rows if row.get("event_id") == "3" and row["type"] == "event")
    assert (odd["name"], odd["user_id"], odd["received_at"]) == ("Odd", "ann", "2026-03-01T12:00:00.000000Z")
    assert {row["event_id"] for row in data["quarantine"].rows} == {"q1", "q2"}
    assert any(isinstance(record, MapChanged) for record in world.records())


def test_every_table_is_declared_as_somebodys_or_nobodys(world: World) -> None:
    with overwriting(world.engine) as connection:
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").all()
    tables = {row[0] for row in rows} - {"log_events"}
    assert tables == {table.name for table in erasure_store.TABLES} | erasure_store.WITHOUT_PERSONS


SOAP = b"<ns:sObject><sf:Id>003</sf:Id><sf:Customer_Id__c>%s</sf:Customer_Id__c></ns:sObject>"
MAIL = hashed_email(EMAIL)


@pytest.mark.parametrize(
    ("source", "body", "of_ann"),
    [
        ("app", b'{"type":"track","userId":"ann"}', True),
        ("app", b'{"type":"track","userId":"ann","messag', True),
        ("app", b'{"type":"track","userId":"bob","properties":{"word":"ann"}}', False),
        ("app", b'{"type":"track","userId":"bob","messageId":"ann","groupId":"ann"}', False),
        ("mp", b'{"user_identities":{"customer_id":"ann"},"events":[7]}', True),
        ("mp", b'{"user_identities":{"customer_id":"bob"},"mpid":77}', True),
        ("mp", b'{"user_identities":{"email":"Ann@Bank.Example"}}', True),
        ("mp", b'{"user_identities":{"email":"joann@bank.example"}}', False),
        ("tealium", b'{"tealium_visitor_id":"phone","tealium_event":7}', True),
        ("hubspot", b'{"objectId":123,"portalId":9}', True),
        ("hubspot", b'{"mergedObjectIds":[1,123]}', True),
        ("hubspot", b'{"objectId":124,"portalId":123}', False),
        ("zoho", b'{"ids":["123"]}', False),
        ("salesforce", SOAP % b"ann", True),
        ("salesforce", SOAP % b"joann", False),
    ],
)
def test_a_quarantined_body_names_the_person_in_the_words_of_its_shape(source: str, body: bytes, of_ann: bool) -> None:
    assert Names({"ann", "phone", "hubspot:123", "mpid:77", MAIL}, set()).stand_in(source, body) is of_ann


def structured(body: bytes, origin: Origin) -> Items:
    return cloudevents.read(body, replace(origin, headers={"content-type": "application/cloudevents+json"}))


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (mparticle.read, {"user_identities": {"customer_id": "ann"}, "events": [
            {"event_type": "custom_event", "data": {"event_name": "x", "source_message_id": "m1"}}]}),
        (tealium.read, {"tealium_event": "x", "customer_id": "ann", "tealium_event_id": "t1"}),
        (hubspot.read, [{"objectId": 123, "subscriptionType": "contact.propertyChange", "propertyName": "customer_id",
                         "propertyValue": "ann", "eventId": 1, "occurredAt": NOW_US // 1_000}]),
        (salesforce.read, {"attributes": {"type": "Contact"}, "Id": "0035g00000ABCdEAAX", "Customer_Id__c": "ann",
                           "LastModifiedDate": "2026-02-01T00:00:00Z"}),
        (zoho.read, {"server_time": NOW_US // 1_000, "module": "Contacts", "operation": "update", "ids": ["1"],
                     "affected_fields": [{"1": ["Customer_Id"]}],
                     "affected_values": [{"record_id": "1", "values": {"Customer_Id": "ann"}}]}),
        (structured, {"specversion": "1.0", "id": "c1", "source": "/app", "type": "x", "userid": "ann"}),
    ],
)  # fmt: skip
def test_a_copy_in_another_shape_is_dropped_for_ever_as_one_of_segments_is(world: World, read: Read, body: Any) -> None:
    (number,) = deliver(world, read, body)[:1]
    assert number > 0
    event_id = world.events()[0].event_id
    customer = world.customer_of("user_id", "ann")
    assert customer is not None
    erase(world, customer)
    world.restart()
    assert set(deliver(world, read, body)) == {0}
    assert world.reads.receipt(event_id, "crm").verdict == "erased"
    assert world.customer_of("user_id", "ann") is None
    assert world.events() == []
