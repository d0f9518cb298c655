"""What arrived: counts by source and name, first and last seen, shapes of properties without their values."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.arrivals import PropertyShape
from vigie_contracts.instants import DAY_US
from vigie_contracts.subjects import ErasureRequest
from vigie_ingest import store
from vigie_ingest.arrivals import shapes_of
from vigie_ingest.masking import masked, shown_name
from vigie_kit.failpoints import hit

from tests.unit.ingest.ingest_world import CATALOGUE, NOW_US, World, identify, track


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_arrivals_are_counted_by_source_kind_and_name(world: World) -> None:
    world.send(track("1", user="u"), track("2", user="u", event="Odd"), identify("3", user="u"))
    world.at(NOW_US + DAY_US)
    world.source_id = "web"
    world.send(track("1", user="u", event="Odd"))
    world.source_id = "app"
    world.send(
        track("2", user="u", event="Odd"), track("4", user="u", event="login"), track("5", user="u", event="Odd")
    )
    answer = world.reads.arrivals(10)
    assert answer.more == 0
    assert [
        (row.source_id, row.kind, row.name, row.catalogued, row.count, row.first_at_us, row.last_at_us)
        for row in answer.rows
    ] == [
        ("app", "track", "Odd", False, 2, NOW_US, NOW_US + DAY_US),
        ("app", "identify", "identify", False, 1, NOW_US, NOW_US),
        ("app", "track", "app.logged_in", True, 1, NOW_US, NOW_US),
        ("app", "track", "login", False, 1, NOW_US + DAY_US, NOW_US + DAY_US),
        ("web", "track", "Odd", False, 1, NOW_US + DAY_US, NOW_US + DAY_US),
    ]
    assert (len(world.reads.arrivals(2).rows), world.reads.arrivals(2).more) == (2, 3)


def test_shapes_grow_with_what_comes_and_survive_a_restart(world: World) -> None:
    world.send(track("1", user="u", event="Odd", properties={"plan": "Gold-12", "n": 5, "none": None}))
    world.restart()
    world.send(track("2", user="u", event="Odd", properties={"n": "five", "list": [1, 2], "ok": True, "x": 1.5}))
    (row,) = world.reads.arrivals(10).rows
    assert row.properties == {
        "plan": PropertyShape(types=["string"], example="Aaaa-99"),
        "n": PropertyShape(types=["integer", "string"], example="9"),
        "list": PropertyShape(types=["array"], example="2 items"),
        "ok": PropertyShape(types=["boolean"], example="true or false"),
        "x": PropertyShape(types=["number"], example="9.9"),
    }


def test_traits_are_the_shapes_of_identify(world: World) -> None:
    world.send(identify("1", user="u", traits={"email": "jean@example.org", "age_band": "30-39"}))
    (row,) = world.reads.arrivals(10).rows
    assert {name: shape.example for name, shape in row.properties.items()} == {
        "email": "aaaa@aaaaaaa.aaa",
        "age_band": "99-99",
    }


def test_a_failed_transaction_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        if name == "ingest.before_commit":
            raise OSError("the disk is full")
        hit(name)

    monkeypatch.setattr("vigie_ingest.appender.hit", fails)
    with pytest.raises(OSError, match="the disk is full"):
        world.send(track("1", user="u", event="Odd", properties={"n": 5}))
    monkeypatch.undo()
    assert world.reads.arrivals(10).rows == []
    world.send(track("1", user="u", event="Odd", properties={"n": 5}))
    (row,) = world.reads.arrivals(10).rows
    assert (row.count, list(row.properties)) == (1, ["n"])


def test_counts_of_an_earlier_version_are_taken_over(world: World, tmp_path: Path) -> None:
    with world.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql(
            "CREATE TABLE uncatalogued (source_id TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL,"
            " last_at_us INTEGER NOT NULL, PRIMARY KEY (source_id, name)) WITHOUT ROWID"
        )
        connection.exec_driver_sql("INSERT INTO uncatalogued VALUES ('app', 'Odd', 7, 5)")
        connection.exec_driver_sql("COMMIT")
    world.engine = store.open_database(tmp_path)
    world.restart()
    world.send(track("1", user="u", event="Odd"))
    (row,) = world.reads.arrivals(10).rows
    assert (row.count, row.first_at_us, row.last_at_us) == (8, 5, NOW_US)
    assert world.reads.counts()["uncatalogued"] == [{"source_id": "app", "name": "Odd", "count": 8}]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("amount", "amount"),
        ("Nom du produit", "Nom du produit"),
        ("utm_source.2", "utm_source.2"),
        ("jean@example.org", "aaaa@aaaaaaa.aaa"),
        ("card 4970", "aaaa 9999"),
        ("33612345678", "99999999999"),
        ("x" * 80, "a" * 24 + "…"),
    ],
)
def test_names_of_properties_that_may_be_personal_are_masked(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@given(st.text() | st.integers() | st.floats())
def test_no_letter_or_digit_of_a_value_is_shown(value: object) -> None:
    assert {character for character in masked(value) if character.isalnum()} <= set("aA9")
    assert len(masked(value)) <= 25


def test_shapes_are_bounded() -> None:
    assert len(shapes_of({f"p{n % 100}x{n // 100}": n for n in range(5_000)})) == 50
    assert CATALOGUE.resolve("Odd") is None


def test_an_erasure_forgets_names_that_nobody_else_sent(world: World) -> None:
    world.send(
        track("1", user="ann", event="Ann's act", properties={"n": 5}),
        track("2", user="ann", event="Odd"),
        track("3", user="bob", event="Odd"),
    )
    customer = world.customer_of("user_id", "ann")
    assert customer is not None
    world.eraser.erase(ErasureRequest(erasure_id="e1", customer_id=customer))
    assert [(row.name, row.count) for row in world.reads.arrivals(10).rows] == [("Odd", 1)]
    world.send(track("4", user="bob", event="Ann's act", properties={"n": 5}))
    assert {row.name: list(row.properties) for row in world.reads.arrivals(10).rows} == {"Odd": [], "Ann's act": ["n"]}
