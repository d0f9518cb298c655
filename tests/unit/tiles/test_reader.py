"""Reading features.db: one snapshot, each customer's own read instant, and the map of members."""

import sqlite3
import threading
from pathlib import Path

import pytest
from vigie_contracts.errors import IncompatibleData, Unavailable
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileReader

from tests.unit.tiles.tile_world import DAY, HOUR, NOON, event, feature, table, write_features_db

COUNT = feature("login_count_7d", "count", events=("app.logged_in",), window_days=7)
RECENCY = feature("login_recency", "recency", events=("app.logged_in",))
LAYOUT = Layout(table(COUNT, RECENCY), "Europe/Paris")
EVENTS = [
    event(NOON, member_id="m1"),
    event(NOON - DAY, member_id="m2"),
    event(NOON - 3 * DAY, member_id="m3"),
    event(NOON - 9 * DAY, member_id="m3"),
]


@pytest.fixture
def features_db(tmp_path: Path) -> Path:
    path = tmp_path / "features.db"
    write_features_db(path, LAYOUT, EVENTS, {"m2": "m1", "m4": "m9"}, number=41)
    return path


def test_customers_are_read_in_the_order_asked_with_their_members_joined(features_db: Path) -> None:
    reader = TileReader(features_db, LAYOUT)
    found = reader.read(["m3", "unknown", "m1", "m2", "m3"], (RECENCY, COUNT), NOON + 2 * HOUR)
    assert found.matrix.values.tolist() == [[24 * 3, 1], [0, 0], [2, 2], [0, 0], [24 * 3, 1]]
    assert found.matrix.valid.tolist() == [[True, True], [False, True], [True, True], [False, True], [True, True]]
    assert found.present.tolist() == [True, False, True, False, True]
    assert found.pos == {0: 41}
    assert found.t_us.tolist() == [NOON + 2 * HOUR] * 5
    reader.close()


def test_a_clock_behind_the_state_reads_just_after_it(features_db: Path) -> None:
    found = TileReader(features_db, LAYOUT).read(["m1", "m3", "unknown"], (RECENCY,), NOON - 2 * DAY)
    assert found.t_us.tolist() == [NOON + 1, NOON - 2 * DAY, NOON - 2 * DAY]
    assert found.matrix.values.tolist() == [[0], [24], [0]]


def test_the_map_says_whose_a_member_is(features_db: Path) -> None:
    reader = TileReader(features_db, LAYOUT)
    assert reader.customer_of(["m1", "m2", "m4", "m5"]) == {"m1": "m1", "m2": "m1", "m4": "m9", "m5": "m5"}


def test_an_undone_merge_gives_each_customer_its_own_again(features_db: Path) -> None:
    with sqlite3.connect(features_db) as connection:
        connection.execute("UPDATE members SET until_us = 5 WHERE member_id = 'm2'")
        connection.execute("INSERT INTO members VALUES ('m2', 'm2', 5, NULL)")
    found = TileReader(features_db, LAYOUT).read(["m1", "m2"], (COUNT,), NOON + 1)
    assert found.matrix.values.tolist() == [[1], [1]]


def test_a_thousand_customers_in_one_read(tmp_path: Path) -> None:
    path = tmp_path / "features.db"
    events = [event(NOON - copy, member_id=f"c{number}") for number in range(1000) for copy in range(number % 4)]
    write_features_db(path, LAYOUT, events)
    found = TileReader(path, LAYOUT).read([f"c{number}" for number in range(1000)], (COUNT,), NOON + 1)
    assert found.matrix.values[:, 0].tolist() == [number % 4 for number in range(1000)]
    assert found.present.tolist() == [number % 4 > 0 for number in range(1000)]


def test_a_read_sees_one_state_while_a_writer_commits(features_db: Path) -> None:
    """The position belongs to the tiles that were read: the writer keeps count and position equal."""
    path = features_db.parent / "moving.db"
    write_features_db(path, LAYOUT, [event(NOON - n, member_id="m1") for n in range(1)], number=1)
    reader, stop = TileReader(path, LAYOUT), threading.Event()
    writer = threading.Thread(target=_grow, args=(path, stop))
    writer.start()
    try:
        seen = [reader.read(["m1"], (COUNT,), NOON + 1) for _ in range(150)]
    finally:
        stop.set()
        writer.join()
    assert all(int(found.matrix.values[0, 0]) == found.pos[0] for found in seen)


def test_readers_in_several_threads(features_db: Path) -> None:
    reader, found = TileReader(features_db, LAYOUT), []
    threads = [
        threading.Thread(target=lambda: found.append(reader.read(["m1"], (COUNT,), NOON + 1).matrix.values[0, 0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2, 2, 2, 2]
    reader.close()
    assert reader.read(["m1"], (COUNT,), NOON + 1).matrix.values.tolist() == [[2]]


def test_what_is_not_there_yet_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is the features service running"):
        TileReader(tmp_path / "features.db", LAYOUT).read(["m1"], (COUNT,), NOON)
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(Unavailable, match="no such table"):
        TileReader(tmp_path / "empty.db", LAYOUT).read(["m1"], (COUNT,), NOON)


def test_tiles_of_another_table_are_said(features_db: Path) -> None:
    other = Layout(table(COUNT), "Europe/Paris")
    with pytest.raises(IncompatibleData, match="vigie replay tiles"):
        TileReader(features_db, other).read(["m1"], (COUNT,), NOON + 1)


def _grow(path: Path, stop: threading.Event) -> None:
    from vigie_tiles import kernel

    connection, number = sqlite3.connect(path, isolation_level=None), 1
    while not stop.is_set():
        number += 1
        connection.execute("BEGIN IMMEDIATE")
        (blob,) = connection.execute("SELECT blob FROM tiles WHERE member_id = 'm1'").fetchone()
        folded = kernel.fold(LAYOUT, {"m1": blob}, [event(NOON - number)])["m1"]
        connection.execute("UPDATE tiles SET blob = ? WHERE member_id = 'm1'", (folded.blob,))
        connection.execute("UPDATE applied SET number = ?", (number,))
        connection.execute("COMMIT")
    connection.close()
