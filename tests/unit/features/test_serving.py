"""The copy in Redis follows features.db: after acts, merges, their undoing and erasures both answer the same."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from vigie_contracts.errors import Conflict, IncompatibleData
from vigie_contracts.events import Erased, LogRecord, MapChanged, MapMove
from vigie_features import serving
from vigie_features.consumer import fold, forget
from vigie_features.domain import read_batch
from vigie_features.folding import put_live
from vigie_features.serving import ServingCopy
from vigie_features.store import Store
from vigie_kit.sqlite_log import LANE, SqliteLogReader
from vigie_tiles.reader import TileReader
from vigie_tiles.redis_tiles import RedisTiles

from tests.servers import redis_server
from tests.unit.features.features_world import LAYOUT, NOW_US, TABLE, EventsLog, records


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


class Side:
    """features.db, its log and its copy."""

    def __init__(self, data: Path, address: str) -> None:
        self.log = EventsLog(data)
        self.reader = SqliteLogReader(data / "ingest.db", "events")
        self.store = Store(data)
        self.store.create()
        with self.store.writing() as tx:
            put_live(tx, LAYOUT)
        self.copy = RedisTiles(address, str(data), LAYOUT)
        self.ready = True
        self.serving = ServingCopy(self.store, self.reader, self.copy, lambda: self.ready)
        self.tiles = TileReader(data / "features.db", LAYOUT)

    def apply(self, found: list[LogRecord]) -> None:
        """Append to the log and fold into features.db, as the service does."""
        applied = self.store.cursor()[LANE]
        self.log.append(found)
        batch = read_batch(self.reader.read({LANE: applied}, len(found)))
        with self.store.writing(erasing=bool(batch.erased)) as tx:
            tx.advance(applied, applied + len(found))
            fold(tx, LAYOUT, batch)
            forget(tx, batch)

    def follow(self) -> None:
        """Let the copy catch up, and check that it answers as features.db, at the same position."""
        while self.serving.step():
            pass
        asked = [f"m{number:02d}" for number in range(13)]
        origin, copied = (place.read(asked, TABLE.features, NOW_US) for place in (self.tiles, self.copy))
        assert copied.pos == origin.pos == self.store.cursor()
        assert np.array_equal(copied.matrix.values, origin.matrix.values)
        assert np.array_equal(copied.matrix.valid, origin.matrix.valid)
        assert copied.t_us.tolist() == origin.t_us.tolist()
        assert copied.present.tolist() == origin.present.tolist()

    def moved(self, moves: dict[str, str]) -> MapChanged:
        """The record that moves members from where they are now."""
        with self.store.snapshot() as snapshot:
            before = snapshot.customer_of(list(moves))
        made = [MapMove(member, before[member], customer) for member, customer in moves.items()]
        return MapChanged(moves=made, known_at_us=NOW_US - 1, because="same user id")

    def close(self) -> None:
        """Release files and sockets."""
        for opened in (self.copy, self.tiles, self.reader, self.store):
            opened.close()


@pytest.fixture
def side(tmp_path: Path, address: str) -> Iterator[Side]:
    found = Side(tmp_path, address)
    yield found
    found.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_copy_answers_as_features_db_after_every_batch(side: Side, seed: int) -> None:
    found, rng = records(seed), random.Random(seed)
    side.follow()
    while found:
        size = rng.randrange(1, 60)
        side.apply(found[:size])
        found = found[size:]
        side.follow()
    for moves in ({"m04": "m05", "m06": "m05"}, {"m04": "m04"}, {"m06": "m06", "m05": "m06"}, {"m05": "m05"}):
        side.apply([side.moved(moves)])
        side.follow()
    side.apply([Erased(erasure_id="r1", customer_id="m05", member_ids=["m05", "m06"], known_at_us=NOW_US - 1)])
    side.follow()
    assert not side.copy.read(["m05"], TABLE.features, NOW_US).present[0]


def test_a_lost_copy_is_filled_again_and_nobody_is_missing(side: Side, address: str) -> None:
    side.apply(records(4))
    side.follow()
    redis.Redis.from_url(address).flushall()
    assert side.copy.position(LANE) is None
    side.follow()


def test_after_a_replay_the_copy_is_replaced_also_at_the_same_position(side: Side, address: str) -> None:
    side.apply(records(3, count=40))
    side.follow()
    tiles = f"{side.copy.prefix}:{side.copy.live}:tiles"
    for member in redis.Redis.from_url(address).hkeys(tiles):
        if member.startswith(b"m"):
            redis.Redis.from_url(address).hset(tiles, member, b"damaged")
    assert side.serving.step() is False  # at its position it sees nothing to do
    with pytest.raises(IncompatibleData):
        side.copy.read(["m00", "m01", "m02", "m03"], TABLE.features, NOW_US)
    side.serving.fill_anew()
    side.follow()
    assert side.serving.step() is False


def test_a_copy_far_behind_is_filled_page_by_page(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LARGEST_STEP", 50)
    monkeypatch.setattr(serving, "PAGE", 3)
    found = records(5)
    side.apply(found[:20])
    side.follow()
    side.apply(found[20:])
    side.follow()


def test_during_a_rebuild_the_copy_stays_as_it_was(side: Side) -> None:
    found = records(6)
    side.apply(found[:200])
    side.follow()
    side.ready = False
    side.apply(found[200:])
    assert side.serving.step() is False
    assert side.copy.position(LANE) == 200
    side.ready = True
    side.follow()


def test_features_db_restored_from_a_backup_does_not_overwrite_a_newer_copy(side: Side) -> None:
    side.apply(records(7))
    side.follow()
    with side.store.writing() as tx:
        tx.advance(400, 300)
    with pytest.raises(Conflict, match=r"stands at 400, further than features\.db at 300: were data restored"):
        side.serving.step()
    assert side.copy.position(LANE) == 400
