"""What of an event is clear in the log, what is sealed, and who can open it."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import Event
from vigie_contracts.reads import CustomersRequest, Lookup
from vigie_ingest import store
from vigie_ingest.keystore import Keys

from tests.unit.ingest.ingest_world import World, identify, track

SECRETS = ("ann@bank.example", "Ann-Secret", "secret-note", "10.1.2.3", "Odd Name", "user-ann", "device-ann", "shoe")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def send_all(world: World) -> None:
    world.send(
        identify("i", user="user-ann", traits={"email": "ann@bank.example", "age_band": "65+", "shoe": "Ann-Secret"}),
        track("t", user="user-ann", anonymous="device-ann", event="transfer.made", context={"ip": "10.1.2.3"},
              properties={"amount": 12, "direction": "out", "note": "secret-note"}),
        track("o", user="user-ann", event="Odd Name", properties={"direction": "out"}),
    )  # fmt: skip


def test_the_log_shows_the_header_and_the_declared_fields_only(world: World) -> None:
    send_all(world)
    stated, moved, odd = [record for record in world.records() if isinstance(record, Event)]
    assert (stated.name, stated.traits, stated.user_id) == ("identify", {"age_band": "65+"}, None)
    assert (moved.name, moved.properties, moved.measures) == (
        "transfer.made",
        {"amount": 12, "direction": "out"},
        {"amount": 1200},
    )
    assert (moved.anonymous_id, moved.context, odd.name, odd.properties) == (None, {}, "", {})
    whole = world.events()
    assert whole[0].traits == {"email": "ann@bank.example", "age_band": "65+", "shoe": "Ann-Secret"}
    assert whole[1].properties == {"amount": 12, "direction": "out", "note": "secret-note"}
    assert (whole[1].context, whole[1].user_id, whole[1].anonymous_id) == (
        {"ip": "10.1.2.3"},
        "user-ann",
        "device-ann",
    )
    assert (whole[2].name, whole[2].properties) == ("Odd Name", {"direction": "out"})


def test_no_payload_and_no_attribute_row_holds_a_personal_value(world: World) -> None:
    send_all(world)
    with sqlite3.connect(world.folder / store.DATABASE) as db:
        kept = [bytes(row[0]) for row in db.execute("SELECT payload FROM log_events")]
        kept += [str(row[0]).encode() for row in db.execute("SELECT value FROM attributes")]
    assert not [secret for secret in SECRETS for one in kept if secret.encode() in one]
    (customer,) = world.reads.customers(
        CustomersRequest(lookups=[Lookup(namespace="user_id", value="user-ann")])
    ).customers
    assert customer is not None
    assert {row.name: row.value for row in customer.attributes} == {"age_band": "65+", "email": "ann@bank.example"}


def test_a_nested_value_of_a_declared_property_is_sealed(world: World) -> None:
    world.send(track("t", user="u", event="transfer.made", properties={"direction": {"name": "Ann"}}))
    (record,) = [record for record in world.records() if isinstance(record, Event)]
    assert record.properties == {}
    assert world.events()[0].properties == {"direction": {"name": "Ann"}}


def test_a_sealed_part_fits_its_own_header_only(world: World) -> None:
    world.send(track("1", user="u"), track("2", user="u"), track("3", user="v"))
    one, two, other = [record for record in world.records() if isinstance(record, Event)]
    for wrong in (two.sealed, other.sealed, one.sealed[:-1] + bytes([one.sealed[-1] ^ 1]), one.sealed[:9]):
        with pytest.raises(IncompatibleData, match="does not fit"):
            world.sealer.opened(msgspec.structs.replace(one, sealed=wrong))


def test_keys_are_durable_before_the_events_and_survive_a_restart(world: World) -> None:
    world.send(track("1", user="u"))
    keys = Keys(world.folder / "keys.db")
    assert keys.cipher(world.events()[0].member_id) is not None
    assert keys.id == world.sealer.keys.id
    assert (world.folder / "keys.db").stat().st_mode & 0o077 == 0
    keys.close()


def test_another_keys_file_is_refused_in_words(world: World, tmp_path: Path) -> None:
    bound = store.bind_keys(world.engine, world.sealer.keys.id)
    world.sealer.keys.require(bound)
    other = Keys(tmp_path / "other.db")
    with pytest.raises(IncompatibleData, match="VIGIE_INGEST_KEYS"):
        other.require(store.bind_keys(world.engine, other.id))
    other.close()
