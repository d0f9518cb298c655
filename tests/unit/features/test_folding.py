"""Folding for a changed feature table beside the tiles that are served."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import Erased
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_features.folding import NEXT_FEATURES, Folding, awaited, next_applied, put_live
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_tiles.kernel import finalise
from vigie_tiles.layout import Layout
from vigie_tiles.live import LIVE, Following, finalise_live, live_hash, rows_of

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import LAYOUT, NOW_US, TABLE, records

MORE = FeatureSpec(
    name="articles_in_7d", description="", measure="count", events=("article.read",), window_days=7,
    where={"direction": "in"},
)  # fmt: skip
DERIVED = replace(TABLE.by_key["login_count_30d"], name="logins_again_30d")


def folding(state: FeatureState, done: list[Layout], page: int = 40) -> Folding:
    """What the service has, whose switch puts the next tiles in place."""

    def switch(layout: Layout) -> None:
        with state.store.writing(erasing=True) as tx:
            put_live(tx, layout)
        done.append(layout)

    reader = SqliteLogReader(state.log.path, "events")
    return Folding(state.store, reader, LAYOUT.time_zone, page, switch)


def aimed(state: FeatureState, one: Folding, *rows: FeatureSpec) -> list[str]:
    with state.store.writing() as tx:
        return one.aim(tx, FeatureTable((*TABLE.features, *rows)))


def blobs(state: FeatureState, table: str) -> dict[str, bytes]:
    with state.store.snapshot() as snapshot:
        found = snapshot.connection.exec_driver_sql(f"SELECT member_id, blob FROM {table}").fetchall()
    return dict((row[0], row[1]) for row in found)


@pytest.mark.parametrize("late", [0, 150])
def test_the_next_tiles_are_those_that_the_new_table_would_have_made(tmp_path: Path, late: int) -> None:
    state, found, done = FeatureState(tmp_path), records(3), list[Layout]()
    state.consume(found[: len(found) - late])
    one = folding(state, done)
    assert aimed(state, one, MORE) == [MORE.key]
    assert one.step()
    state.consume(found[len(found) - late :])  # the served tiles go on meanwhile
    while one.step():
        pass
    (layout,) = done
    fresh = FeatureState(tmp_path, folder="fresh", layout=layout)
    fresh.consume(found)
    assert blobs(state, "tiles") == blobs(fresh, "tiles") != {}
    assert blobs(state, "tiles_next") == {}
    with state.store.snapshot() as snapshot:
        assert snapshot.setting(LIVE) == live_hash(layout)
        assert (awaited(snapshot), snapshot.setting(NEXT_FEATURES)) == ([], None)


def test_a_row_that_needs_no_other_cells_is_live_at_once(tmp_path: Path) -> None:
    state, done = FeatureState(tmp_path), list[Layout]()
    state.consume(records(3))
    before = blobs(state, "tiles")
    one = folding(state, done)
    assert aimed(state, one, DERIVED) == [DERIVED.key]
    assert one.step()
    assert [layout.table.features[-1] for layout in done] == [DERIVED]
    assert blobs(state, "tiles") == before
    assert not one.step()


def test_who_is_erased_while_it_folds_leaves_nothing_in_either_table(tmp_path: Path) -> None:
    state, found, done = FeatureState(tmp_path), records(3), list[Layout]()
    state.consume(found)
    one = folding(state, done)
    aimed(state, one, MORE)
    for _ in range(4):
        one.step()
    assert "m05" in blobs(state, "tiles_next")
    state.consume([Erased(erasure_id="e", customer_id="m05", member_ids=["m05"], known_at_us=NOW_US)])
    assert "m05" not in blobs(state, "tiles_next")
    while one.step():
        pass
    assert len(done) == 1
    assert "m05" not in blobs(state, "tiles")


def test_another_table_meanwhile_begins_anew_and_the_old_one_ends_it(tmp_path: Path) -> None:
    state, done = FeatureState(tmp_path), list[Layout]()
    state.consume(records(3))
    one = folding(state, done)
    aimed(state, one, MORE)
    one.step()
    assert aimed(state, one, MORE) == [MORE.key]
    with state.store.snapshot() as snapshot:
        assert next_applied(snapshot) > 0  # the same table again goes on
    assert aimed(state, one, MORE, DERIVED) == [MORE.key, DERIVED.key]
    with state.store.snapshot() as snapshot:
        assert next_applied(snapshot) == 0
    assert aimed(state, one) == []
    assert not one.step()
    assert blobs(state, "tiles_next") == {}
    assert done == []


def test_data_that_an_older_version_was_rebuilding_are_refused(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    with state.store.writing() as tx:
        tx.set("rebuild_until", "12")
    with pytest.raises(IncompatibleData, match="start that version until it is ready"):
        folding(state, []).prepare(LAYOUT)


def test_what_is_not_live_is_null_and_the_rest_is_as_ever(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    state.consume(records(3))
    rows = [[blob] for blob in blobs(state, "tiles").values()]
    other = replace(TABLE.by_key["login_count_7d"], window_days=30)  # the same name by another definition
    asked = [MORE, TABLE.by_key["login_count_30d"], other]
    found = finalise_live(LAYOUT, asked, rows, NOW_US)
    alone = finalise(LAYOUT, [asked[1]], rows, NOW_US)
    assert not found.valid[:, [0, 2]].any()
    assert np.array_equal(found.values[:, [1]], alone.values)
    assert found.valid[:, 1].all()


def test_a_reader_follows_the_live_table() -> None:
    following, more = Following(LAYOUT), Layout(FeatureTable((*TABLE.features, MORE)), LAYOUT.time_zone)
    assert following.at(None, lambda: "") is LAYOUT
    assert following.at(live_hash(LAYOUT), lambda: "") is LAYOUT
    assert following.at(live_hash(more), lambda: rows_of(more.table)).hash == more.hash
    assert following.now.live == live_hash(more)
