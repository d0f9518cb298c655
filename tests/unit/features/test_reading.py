"""Answers of the service and of the tile reader that scoring uses are the same values at the same read point."""

from pathlib import Path

import pytest
from vigie_contracts.errors import Unavailable
from vigie_contracts.reads import FeaturesRequest
from vigie_features.archive import Archive
from vigie_features.reading import Reading
from vigie_tiles.reader import TileReader

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import CATALOGUE, LAYOUT, NOW_US, TABLE, records


def reading(state: FeatureState, *, is_rebuilt: bool = True) -> Reading:
    return Reading(
        state.store,
        CATALOGUE,
        TABLE,
        LAYOUT,
        state.definitions,
        lambda: state.now_us,
        lambda: is_rebuilt,
        Archive(state.store.path.parent / "archive"),
    )


def test_the_service_and_the_tile_reader_answer_alike(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    state.consume(records(14))
    asked = [*state.customers(), "nobody", "m00"]
    answer = reading(state).features(FeaturesRequest(customer_ids=asked))
    reader = TileReader(state.store.path, LAYOUT)
    read = reader.read(asked, TABLE.features, NOW_US)
    assert [row.customer_id for row in answer.rows] == asked
    assert [row.present for row in answer.rows] == list(read.present)
    assert [row.read_point.t_us for row in answer.rows] == list(read.t_us)
    assert {tuple(row.read_point.pos.items()) for row in answer.rows} == {tuple(read.pos.items())}
    for row, values, valid in zip(answer.rows, read.matrix.values, read.matrix.valid, strict=True):
        assert row.values == [int(value) if known else None for value, known in zip(values, valid, strict=True)]
    reader.close()


def test_nothing_is_read_from_tiles_that_are_being_rebuilt(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    with pytest.raises(Unavailable, match="being rebuilt"):
        reading(state, is_rebuilt=False).features(FeaturesRequest(customer_ids=["m00"]))
