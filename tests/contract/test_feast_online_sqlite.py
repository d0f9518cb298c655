"""Tiles in features.db pass the suite of online reads."""

from pathlib import Path

import pytest
from vigie_contracts.events import MapMove
from vigie_features.domain import Moved, StoredTile
from vigie_features.store import Store
from vigie_tiles import codec, registration

from tests.contract.feast_online_suite import Backend, OnlineSuite, Write


class TestSqliteTiles(OnlineSuite):
    @pytest.fixture
    def backend(self, data: Path, feature_repo: Path) -> Backend:
        features = Store(data)
        features.create()

        def write(made: Write) -> None:
            with features.writing() as tx:
                tx.advance(made.expected, made.number)
                kept = {member: blob for member, blob in made.tiles.items() if blob is not None}
                tx.save_tiles({member: StoredTile(blob, codec.newest_us(blob)) for member, blob in kept.items()})
                tx.forget([member for member in made.tiles if member not in kept])
                for member, customer in made.moves.items():
                    tx.move_member(Moved(MapMove(member, member, customer), made.number))

        return Backend(write, lambda: registration.store(data, feature_repo))
