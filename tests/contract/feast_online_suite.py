"""What stock Feast's online read must answer from every place where tiles are kept: subclass `OnlineSuite`.

The place is filled as its one writer fills it: state at a position, with the position that it follows on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from vigie_contracts.errors import Conflict
from vigie_contracts.events import Event
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import ClockSetting, from_micros, parse_instant
from vigie_kit import installation
from vigie_tiles import kernel, registration
from vigie_tiles.layout import Layout
from vigie_tiles.online_store import TileOnlineStore

from tests.unit.tiles.tile_world import DAY, HOUR, NOON, event, identify

CATALOGUE = """
[[micro_conversion]]
name = "app.logged_in"
category = "digital"
label = { en = "Logged in" }
[[micro_conversion]]
name = "card.used"
category = "payments"
label = { en = "Card used" }
properties.amount = { type = "money" }
[[attribute]]
name = "age_band"
type = "string"
attribute_class = "demographic"
"""
FEATURES = """
features = [
{ name = "logins", description = "", measure = "count", events = ["app.logged_in"], window_days = 7 },
{ name = "silence", description = "", measure = "recency", events = ["app.logged_in"] },
{ name = "days", description = "", measure = "active_days", events = ["app.logged_in"], window_days = 30 },
{ name = "spent", description="", measure = "sum", events = ["card.used"], value_property="amount", window_days = 30 },
{ name = "age", description="", measure = "attribute", attribute = "age_band", categories = ["18-34", "35-49"] },
]
"""
NAMES = ("logins", "silence", "days", "spent", "age")
NOBODY = {"logins": 0, "silence": None, "days": 0, "spent": 0, "age": None}
ZONE = "Europe/Paris"


@dataclass(frozen=True)
class Write:
    """State of members (None: erased) and moves member -> customer at `number`; the place stands at `expected`."""

    expected: int
    number: int
    tiles: Mapping[str, bytes | None] = field(default_factory=dict)
    moves: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Backend:
    """How a place is made for a data directory, and its stock FeatureStore."""

    write: Callable[[Write], None]
    store: Callable[[], FeatureStore]


class World:
    """Folds events as the features service does, and hands the state to the place under test."""

    def __init__(self, data: Path, feature_repo: Path, backend: Backend) -> None:
        self.data = data
        self.feature_repo = feature_repo
        self.layout = Layout(FeatureTable.load(feature_repo), ZONE)
        self.number = 0
        self.store = backend.store()
        self._backend = backend
        self._blobs: dict[str, bytes] = {}

    def fold(self, *events: Event) -> Write:
        """The write that brings these events, without writing it."""
        before = {row.member_id: self._blobs.get(row.member_id) for row in events}
        folded = {member: row.blob for member, row in kernel.fold(self.layout, before, events).items()}
        return Write(self.number, self.number + max(len(events), 1), folded)

    def write(self, *events: Event) -> Write:
        """Fold and write."""
        return self.put(self.fold(*events))

    def put(self, made: Write) -> Write:
        self._backend.write(made)
        self.number = made.number
        self._blobs |= {member: blob for member, blob in made.tiles.items() if blob is not None}
        return made

    def move(self, **moves: str) -> Write:
        """Moves of the map alone."""
        return self.put(Write(self.number, self.number + 1, moves=moves))

    def refused(self, late: Write) -> None:
        with pytest.raises(Conflict):
            self._backend.write(late)

    def clock(self, now_us: int) -> None:
        """The installation's clock stands at an instant; the rest of the installation stays."""
        set_clock(self.data, now_us)

    def ask(self, *customers: str, names: Sequence[str] = NAMES, full: bool = False) -> dict[str, list[Any]]:
        """Stock Feast's answer."""
        refs = [f"{registration.VIEW}:{name}" for name in names]
        rows = [{"customer_id": customer} for customer in customers]
        found: dict[str, list[Any]] = self.store.get_online_features(refs, rows, full_feature_names=full).to_dict()
        return found

    def one(self, customer: str) -> dict[str, Any]:
        """Values of one customer by name."""
        found = self.ask(customer)
        assert found.pop("customer_id") == [customer]
        return {name: value for name, (value,) in found.items()}


def set_clock(data: Path, now_us: int) -> None:
    """Keep `created_at`, which names an installation, and set the clock to stand at an instant."""
    clock = ClockSetting(time.time_ns() // 1000, now_us, 0.0)
    if not (data / installation.FILE).exists():
        installation.create(data, time_zone=ZONE, clock=clock)
        return
    import msgspec

    moved = msgspec.structs.replace(installation.load(data), clock=clock)
    (data / installation.FILE).write_bytes(msgspec.json.format(msgspec.json.encode(moved)))


class OnlineSuite:
    """Inherit, and define the fixture `backend`."""

    @pytest.fixture
    def feature_repo(self, tmp_path: Path) -> Path:
        made = tmp_path / "feature_repo"
        made.mkdir()
        (made / "catalogue.toml").write_text(CATALOGUE)
        (made / "features.toml").write_text(FEATURES)
        return made

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        made = tmp_path / "data"
        made.mkdir()
        set_clock(made, NOON)
        return made

    @pytest.fixture
    def backend(self, data: Path, feature_repo: Path) -> Backend:
        raise NotImplementedError

    @pytest.fixture
    def world(self, data: Path, feature_repo: Path, backend: Backend) -> World:
        registration.apply(data, feature_repo)
        return World(data, feature_repo, backend)

    @pytest.fixture(params=["Asia/Kolkata", "America/Sao_Paulo"])
    def process_zone(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """The process runs in another zone than UTC and than the institution."""
        monkeypatch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
        monkeypatch.undo()
        time.tzset()

    def test_rows_keep_the_order_asked_for_also_twice(self, world: World) -> None:
        world.write(*(event(NOON - HOUR * hour, member_id=f"c{hour}") for hour in range(1, 41)))
        asked = [f"c{(place * 17) % 41}" for place in range(82)]
        found = world.ask(*asked)
        assert found["customer_id"] == asked
        hours = [int(name[1:]) for name in asked]
        assert found["silence"] == [None if hour == 0 else hour for hour in hours]
        assert found["logins"] == [0 if hour == 0 else 1 for hour in hours]

    def test_a_customer_without_events_has_no_recency_and_counts_of_0(self, world: World) -> None:
        assert world.one("nobody") == NOBODY
        world.write(event(NOON - HOUR, member_id="somebody"))
        assert world.one("nobody") == NOBODY
        assert world.ask("nobody", "somebody")["silence"] == [None, 1]

    def test_nine_thousand_customers_are_one_read(self, world: World) -> None:
        world.write(event(NOON - HOUR, member_id="c4999"), event(NOON - 2 * HOUR, member_id="c8999"))
        view = world.store.get_feature_view(registration.VIEW)
        keys = [
            EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=f"c{place}")]) for place in range(9000)
        ]
        found = TileOnlineStore().online_read(world.store.config, view, keys, ["silence"])
        told = [
            (place, row["silence"].int64_val)
            for place, (_, row) in enumerate(found)
            if row and row["silence"] != Value()
        ]
        assert len(found) == 9000
        assert told == [(4999, 1), (8999, 2)]

    def test_an_older_write_never_replaces_a_newer_one(self, world: World) -> None:
        old = world.write(event(NOON - 2 * HOUR, member_id="c1"))
        late = world.fold(event(NOON - 9 * HOUR, "card.used", member_id="c1", measures={"amount": 5}))
        world.write(event(NOON - HOUR, member_id="c1"), event(NOON - HOUR, member_id="c2"))
        before = world.ask("c1", "c2")
        assert before["logins"] == [2, 1]
        for refused in (late, old, Write(world.number + 1, world.number + 2, late.tiles)):
            world.refused(refused)
            assert world.ask("c1", "c2") == before
        world.write(event(NOON - HOUR // 2, member_id="c1"))
        assert world.ask("c1", "c2")["logins"] == [3, 1]

    def test_of_two_writers_at_the_same_position_exactly_one_is_taken(self, world: World, backend: Backend) -> None:
        def taken(made: Write) -> bool:
            try:
                backend.write(made)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            for turn in range(20):
                rivals = [
                    Write(turn, turn + 1, world.fold(event(NOON - HOUR * hours, member_id="c1")).tiles)
                    for hours in (1, 2)
                ]
                won = list(pool.map(taken, rivals))
                assert sorted(won) == [False, True]
                assert world.ask("c1", "c2")["silence"] == [won.index(True) + 1, None]

    def test_a_correction_with_the_same_newest_instant_is_kept(self, world: World) -> None:
        world.write(event(NOON - HOUR, "card.used", member_id="c1", measures={"amount": 5}))
        world.write(event(NOON - HOUR, "card.used", member_id="c1", event_id="second", measures={"amount": 6}))
        assert world.one("c1")["spent"] == 11

    def test_values_decay_with_the_clock_and_without_a_write(self, world: World) -> None:
        world.write(
            event(NOON - 6 * DAY, member_id="c1"),
            event(NOON - HOUR, member_id="c1"),
            event(NOON - HOUR, "card.used", member_id="c1", measures={"amount": 700}),
            identify(NOON - DAY, age_band="35-49"),
        )
        seen = []
        for days in (0, 2, 8, 31, 400):
            world.clock(NOON + days * DAY)
            found = world.ask("c1", "m1")
            seen.append((found["logins"][0], found["silence"][0], found["days"][0], found["spent"][0], found["age"][1]))
        assert seen == [
            (2, 1, 2, 700, 1),
            (1, 48, 2, 700, 1),
            (0, 192, 2, 700, 1),
            (0, 744, 0, 0, 1),
            (0, 8784, 0, 0, 1),
        ]

    def test_a_state_ahead_of_the_clock_is_read_right_after_its_newest_event(self, world: World) -> None:
        world.write(event(NOON + DAY, member_id="ahead"), event(NOON - HOUR, member_id="c1"))
        assert world.ask("ahead", "c1")["logins"] == [1, 1]
        response = world.store.get_online_features(
            [f"{registration.VIEW}:logins"], [{"customer_id": name} for name in ("ahead", "c1", "nobody")]
        )
        stamps = [stamp.ToMicroseconds() for stamp in response.proto.results[-1].event_timestamps]
        assert [stamp // 1_000_000 for stamp in stamps] == [
            (NOON + DAY) // 1_000_000,
            NOON // 1_000_000,
            NOON // 1_000_000,
        ]

    def test_days_are_the_institutions_whatever_the_zone_of_the_process(self, world: World, process_zone: str) -> None:
        late_evening, after_midnight = parse_instant("2026-03-08T22:50:00Z"), parse_instant("2026-03-08T23:10:00Z")
        assert from_micros(late_evening).astimezone().tzname() not in ("UTC", "CET")
        world.write(event(late_evening, member_id="c1"), event(after_midnight, member_id="c1"))
        world.write(event(parse_instant("2026-03-09T22:50:00Z"), member_id="c2"), event(after_midnight, member_id="c2"))
        assert world.ask("c1", "c2")["days"] == [2, 1]
        view = world.store.get_feature_view(registration.VIEW)
        key = EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val="c1")])
        ((stamp, _),) = TileOnlineStore().online_read(world.store.config, view, [key], ["days"])
        assert stamp is not None
        assert stamp == from_micros(NOON)
        assert stamp.tzinfo is UTC
        assert stamp > datetime(2026, 3, 9, tzinfo=UTC)

    def test_every_feature_service_answers_the_same_by_name(self, world: World) -> None:
        world.write(event(NOON - HOUR, member_id="c1"), identify(NOON - DAY, age_band="18-34"))
        world.move(m1="c1")
        expected = {"logins": 1, "silence": 1, "days": 1, "spent": 0, "age": 0}
        assert world.one("c1") == expected
        rows = [{"customer_id": "c1"}, {"customer_id": "nobody"}]
        services = world.store.list_feature_services()
        assert {service.name for service in services} == set(registration.SERVICES)
        for service in services:
            found = world.store.get_online_features(service, rows).to_dict()
            assert found == {"customer_id": ["c1", "nobody"]} | {name: [expected[name], NOBODY[name]] for name in NAMES}
        full = world.ask("c1", names=("logins",), full=True)
        assert full == {"customer_id": ["c1"], "customer_tiles__logins": [1]}

    def test_a_merged_customer_is_the_sum_of_its_members_until_the_merge_is_undone(self, world: World) -> None:
        world.write(
            event(NOON - HOUR, member_id="a"),
            event(NOON - 2 * DAY, member_id="b"),
            event(NOON - 3 * DAY, member_id="c"),
            event(NOON - DAY, "card.used", member_id="b", measures={"amount": 40}),
        )
        world.move(b="a", c="a")
        merged = world.ask("a", "b", "c")
        assert (merged["logins"], merged["silence"], merged["spent"]) == ([3, 0, 0], [1, None, None], [40, 0, 0])
        world.write(event(NOON - HOUR // 2, member_id="c"))
        assert world.ask("a")["logins"] == [4]
        world.move(b="b", c="b")
        undone = world.ask("a", "b", "c")
        assert (undone["logins"], undone["silence"], undone["spent"]) == ([1, 3, 0], [1, 0, None], [0, 40, 0])

    def test_an_erased_customer_is_a_customer_without_events(self, world: World) -> None:
        world.write(event(NOON - HOUR, member_id="a"), event(NOON - HOUR, member_id="b"))
        world.put(Write(world.number, world.number + 1, tiles={"a": None}))
        assert world.one("a") == NOBODY
        assert world.one("b")["logins"] == 1
