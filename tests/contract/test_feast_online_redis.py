"""The copy of the tiles in a real Redis passes the same suite, and says when it is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from feast import FeatureStore
from vigie_contracts.errors import Conflict, InvalidInput, Unavailable
from vigie_contracts.features import FeatureTable
from vigie_kit import installation
from vigie_tiles import registration
from vigie_tiles.layout import Layout
from vigie_tiles.redis_tiles import Delta, RedisTiles

from tests.contract.feast_online_suite import NOBODY, ZONE, Backend, OnlineSuite, World, Write
from tests.servers import free_port, redis_server
from tests.unit.tiles.tile_world import HOUR, NOON, event


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def copy(address: str, data: Path, feature_repo: Path) -> Iterator[RedisTiles]:
    """The copy of this data directory, filled while nobody had acted."""
    layout = Layout(FeatureTable.load(feature_repo), ZONE)
    made = RedisTiles(address, installation.load(data).created_at, layout)
    made.refill(0, 0, [])
    yield made
    made.close()


class TestRedisTiles(OnlineSuite):
    @pytest.fixture
    def backend(self, address: str, data: Path, feature_repo: Path, copy: RedisTiles) -> Backend:
        customer_of: dict[str, str] = {}

        def write(made: Write) -> None:
            after = customer_of | dict(made.moves)
            touched = {*made.moves, *made.moves.values(), *(customer_of.get(member, member) for member in made.moves)}
            joined = {
                customer: [member for member, at in after.items() if at == customer != member] for customer in touched
            }
            moved = {member: None if at == member else at for member, at in made.moves.items()}
            copy.commit(0, made.expected, made.number, Delta(made.tiles, moved, joined))
            customer_of.update(made.moves)

        return Backend(write, lambda: registration.store(data, feature_repo, address))

    @pytest.mark.parametrize("part", ["tiles", "moved", "joined", "applied"])
    def test_a_copy_that_lost_a_part_answers_nothing_until_it_is_filled_again(
        self, world: World, copy: RedisTiles, address: str, part: str
    ) -> None:
        made = world.write(event(NOON - HOUR, member_id="c1"))
        client = redis.Redis.from_url(address)
        for key in client.scan_iter(f"{copy.prefix}:*:{part}"):
            client.delete(key)
        assert copy.position(0) is None
        with pytest.raises(Unavailable, match="holds no whole copy of these tiles; the features service fills it"):
            world.one("c1")
        with pytest.raises(Conflict):
            copy.commit(0, made.number + 1, made.number + 2, Delta())
        copy.refill(0, made.number, [Delta(tiles=made.tiles)])
        assert world.one("c1")["logins"] == 1
        assert copy.position(0) == made.number

    def test_filling_again_replaces_everything_at_once_and_never_by_an_older_state(
        self, world: World, copy: RedisTiles, address: str
    ) -> None:
        old = world.write(event(NOON - HOUR, member_id="c1"), event(NOON - HOUR, member_id="gone"))
        world.write(event(NOON - 2 * HOUR, member_id="c1"))
        with pytest.raises(Conflict, match="were data restored from a backup"):
            copy.refill(0, old.number, [Delta(tiles=old.tiles)])
        assert world.ask("c1", "gone")["logins"] == [2, 1]

        def parts() -> Iterator[Delta]:
            yield Delta(tiles={"c1": old.tiles["c1"]})
            assert world.ask("c1", "gone")["logins"] == [2, 1]
            yield Delta(moved={"c2": "c1"}, joined={"c1": ["c2"]})

        copy.refill(0, world.number, parts())
        assert world.one("c1")["logins"] == 1
        assert world.one("gone") == NOBODY
        assert not list(redis.Redis.from_url(address).scan_iter("*filling*"))

    def test_another_installation_has_a_copy_of_its_own(
        self, world: World, address: str, copy: RedisTiles, feature_repo: Path
    ) -> None:
        world.write(event(NOON - HOUR, member_id="c1"))
        table = FeatureTable.load(feature_repo)
        other = RedisTiles(address, "another installation", Layout(table, ZONE))
        assert other.position(0) is None
        with pytest.raises(Unavailable):
            other.read(["c1"], table.features, NOON)
        other.refill(0, 7, [])
        assert not other.read(["c1"], table.features, NOON).present[0]
        other.close()
        assert copy.position(0) == 1
        assert world.one("c1")["logins"] == 1

    def test_readers_follow_the_table_of_the_newest_copy_and_the_old_copy_is_gone(
        self, world: World, address: str, copy: RedisTiles, feature_repo: Path, data: Path
    ) -> None:
        world.write(event(NOON - HOUR, member_id="c1"))
        table = FeatureTable.load(feature_repo)
        shorter = FeatureTable(table.features[:1])
        newest = RedisTiles(address, installation.load(data).created_at, Layout(shorter, ZONE))
        assert newest.position(0) is None
        held = newest.read(["c1"], table.features, NOON).matrix
        assert held.values.tolist() == copy.read(["c1"], table.features, NOON).matrix.values.tolist()
        newest = RedisTiles(address, installation.load(data).created_at, Layout(shorter, ZONE))
        newest.refill(0, 7, [])
        assert copy.position(0) is None
        found = copy.read(["c1"], table.features, NOON)
        assert (found.pos, found.present.tolist()) == ({0: 7}, [False])
        assert not found.matrix.valid[:, 1:].any()
        assert {
            key.split(b":")[-2].decode() for key in redis.Redis.from_url(address).keys(f"{copy.prefix}:*:tiles")
        } == {newest.live}
        newest.close()

    def test_a_redis_that_is_not_there_is_said_in_a_sentence(self, data: Path, feature_repo: Path) -> None:
        layout, port = Layout(FeatureTable.load(feature_repo), ZONE), free_port()
        nowhere = RedisTiles(f"redis://127.0.0.1:{port}/0", "", layout)
        with pytest.raises(Unavailable, match=rf"Redis at 127\.0\.0\.1:{port} does not answer .*: is it running\?"):
            nowhere.read(["c1"], layout.table.features, NOON)
        with pytest.raises(InvalidInput, match="write redis://host:port/0"):
            RedisTiles("localhost:6379", "", layout)

    def test_the_shipped_settings_read_from_redis_where_the_variable_is_set(
        self, world: World, address: str, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.write(event(NOON - HOUR, member_id="c1"))
        monkeypatch.setenv("VIGIE_DATA", str(data))
        shipped = Path(__file__).resolve().parents[2] / "feature_repo/feature_store.yaml"
        (world.feature_repo / "feature_store.yaml").write_text(shipped.read_text())
        asked = ["customer_tiles:logins"], [{"customer_id": "c1"}]
        with pytest.raises(Unavailable, match=r"features\.db cannot be read"):
            FeatureStore(repo_path=world.feature_repo).get_online_features(*asked)
        monkeypatch.setenv("VIGIE_REDIS_URL", address)
        assert FeatureStore(repo_path=world.feature_repo).get_online_features(*asked).to_dict()["logins"] == [1]
