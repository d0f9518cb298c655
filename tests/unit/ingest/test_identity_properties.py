"""Identities against the oracle: any order of calls, imports, undos, restarts; the map of now and of every instant."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.errors import Conflict, NotFound
from vigie_contracts.events import Position
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import DAY_US
from vigie_contracts.reads import CustomersRequest
from vigie_ingest.identity import DEFAULT_RULES, IdentityRules, NamespaceRule, Rules
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_tiles.batch import Batch

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import TABLE
from tests.unit.ingest.identity_oracle import Oracle
from tests.unit.ingest.ingest_world import NOW_US, World, track

LIMITS = st.sampled_from([(5, 3, 2), (4, 3, 1), (6, 2, 3)])
"""Most members, user ids and anonymous ids of a customer."""
USERS, DEVICES = st.sampled_from("abc"), st.sampled_from("xyz")
CALLS = st.one_of(
    *[st.tuples(st.just("track"), USERS, DEVICES)] * 3,
    st.tuples(st.just("track"), USERS, st.none()),
    st.tuples(st.just("track"), st.none() | st.just("null"), DEVICES),
    st.tuples(st.just("import"), st.none() | USERS, DEVICES, st.integers(1, 40)),
    *[st.tuples(st.just("alias"), USERS, st.none(), USERS)] * 2,
    st.tuples(st.just("alias"), USERS, st.none() | DEVICES, DEVICES),
    *[st.tuples(st.just("undo"), st.integers(0, 9))] * 2,
    st.tuples(st.just("wait"), st.integers(1, 3)),
    st.just(("restart",)),
)
HISTORIES = st.lists(CALLS, min_size=5, max_size=30)


@dataclass
class Played:
    """A world and its oracle after the same calls; `carried` are (event id, known at, member) in order."""

    world: World
    oracle: Oracle
    carried: list[tuple[str, int, str]] = field(default_factory=list)

    def instants(self) -> list[int]:
        """Every instant at which something was known, and one before all."""
        known = {at for _, at, _ in self.carried} | {change.known_at_us for change in self.world.merges()}
        return [0, *sorted(known)]

    def union(self, t_us: int) -> set[frozenset[str]]:
        """The oracle's customers at t, each as the union of its events known by then."""
        found: dict[frozenset[str], set[str]] = {}
        for event_id, known_us, member in self.carried:
            if known_us <= t_us:
                found.setdefault(self.oracle.customer(member, t_us), set()).add(event_id)
        return {frozenset(events) for events in found.values()}


def play(world: World, calls: list[tuple[object, ...]], limits: tuple[int, int, int]) -> Played:
    played = Played(world, Oracle(*limits))
    for place, (kind, *given_) in enumerate(calls):
        if kind == "wait":
            world.at(world.now_us + given_[0])
        elif kind == "restart":
            world.restart()
        elif kind == "undo":
            undo(played, given_[0])
        elif kind == "import":
            take(played, f"e{place}", *given_)
        else:
            send(played, f"e{place}", kind, *given_)
    return played


def send(played: Played, event_id: str, kind: str, user: str | None, device: str | None, *previous: str) -> None:
    world, more = played.world, {"type": kind, "previousId": previous[0]} if previous else {}
    world.send(track(event_id, user=user, anonymous=device, **more))
    user = None if user == "null" else user
    carry(played, event_id, "app", world.now_us, played.oracle.event(user, device, world.now_us, *previous))


def take(played: Played, event_id: str, user: str | None, device: str, days_ago: int) -> None:
    known_us = NOW_US - days_ago * DAY_US
    record = ImportRecord(
        kind="track", event_id=event_id, name="Logged In", effective_at_us=known_us, user_id=user, anonymous_id=device
    )
    played.world.take(record)
    carry(played, event_id, "file", known_us, played.oracle.event(user, device, known_us))


def carry(played: Played, event_id: str, source_id: str, known_us: int, member: str) -> None:
    played.carried.append((event_id, known_us, member))
    notes = [note for note in played.world.reads.receipt(event_id, source_id).notes if not note.startswith("userId")]
    assert len(notes) == len(played.oracle.said)
    for note, said in zip(notes, played.oracle.said, strict=True):
        assert said in note


def undo(played: Played, place: int) -> None:
    world, oracle = played.world, played.oracle
    if not oracle.records:
        return
    place %= len(oracle.records)
    reader = SqliteLogReader(world.folder / "ingest.db", "events")
    numbers = [entry.position.number for entry in reader.read({}, 10_000) if b'"type":"map"' in entry.payload]
    reader.close()
    expected = oracle.undo(place, world.now_us)
    try:
        world.undo(numbers[place], "a test")
        assert expected in ("undone", "restored")
    except Conflict:
        assert expected == "conflict"
    except NotFound:
        assert expected == "missing"


@contextmanager
def a_world(limits: tuple[int, int, int]) -> Iterator[World]:
    members, users, devices = limits
    namespaces = [
        NamespaceRule(namespace="user_id", priority=1, limit=users),
        NamespaceRule(namespace="anonymous_id", priority=2, limit=devices),
    ]
    rules = Rules(IdentityRules(members=members, blocked=DEFAULT_RULES.blocked, namespace=namespaces))
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), rules=rules)
        yield world
        world.engine.dispose()


@settings(max_examples=80, deadline=None)
@given(calls=HISTORIES, limits=LIMITS)
def test_every_customer_at_every_instant_is_the_union_of_events_by_the_map_known_then(
    calls: list[tuple[object, ...]], limits: tuple[int, int, int]
) -> None:
    with a_world(limits) as world:
        played = play(world, calls, limits)
        events = world.events()
        assert [event.event_id for event in events] == [event_id for event_id, _, _ in played.carried]
        assert len(world.merges()) == len(played.oracle.records)
        for t_us in played.instants():
            owners = folded(world, t_us)
            found: dict[str, set[str]] = {}
            for event in events:
                if event.known_at_us <= t_us:
                    found.setdefault(owners.get(event.member_id, event.member_id), set()).add(event.event_id)
            assert {frozenset(group) for group in found.values()} == played.union(t_us)
        now = folded(world, 2**62)
        members = {event.member_id: owner for event, (_, _, owner) in zip(events, played.carried, strict=True)}
        names = {owner: member_id for member_id, owner in members.items()}
        answer = world.reads.customers(CustomersRequest(customer_ids=list(members)))
        for row in answer.customers:
            assert row is not None
            assert row.customer_id == now.get(row.asked, row.asked)
            customer = played.oracle.customer(members[row.asked])
            assert len(row.member_ids) == len(customer)
            oldest = played.oracle.oldest(customer)
            assert row.customer_id == names.get(oldest, row.customer_id)


def folded(world: World, t_us: int) -> dict[str, str]:
    """The map known at t as a consumer of the log sees it; a move begins where the one before it ended."""
    owners: dict[str, str] = {}
    for change in world.merges():
        if change.known_at_us <= t_us:
            for move in change.moves:
                assert owners.get(move.member_id, move.member_id) == move.from_customer_id
                owners[move.member_id] = move.to_customer_id
    return owners


@settings(max_examples=25, deadline=None)
@given(calls=HISTORIES, limits=LIMITS)
def test_features_follow_merges_and_undos_online_and_in_the_archives_query_at_every_instant(
    calls: list[tuple[object, ...]], limits: tuple[int, int, int]
) -> None:
    with a_world(limits) as world:
        played = play(world, calls, limits)
        state = FeatureState(world.folder)
        state.consume([])
        features = TABLE.select(["login_count_90d"])
        asked = {event.member_id: owner for event, (_, _, owner) in zip(world.events(), played.carried, strict=True)}
        place = list(TABLE.by_key).index("login_count_90d")
        vectors = state.vectors(NOW_US + DAY_US)
        counted = {customer: values[place] for customer, values in vectors.items()}
        expected = {}
        for member_id, owner in asked.items():
            customer = played.oracle.customer(owner)
            if played.oracle.oldest(customer) == owner:
                expected[member_id] = sum(carrier in customer for event, _, carrier in tracked(played, world))
        assert {customer: counted.get(customer) for customer in expected} == expected
        assert sum(counted.values()) == len(tracked(played, world))
        check_batch(played, features, asked)


def tracked(played: Played, world: World) -> list[tuple[str, int, str]]:
    """What was carried but for aliases, which no feature counts."""
    kinds = {event.event_id: event.kind for event in world.events()}
    return [row for row in played.carried if kinds[row[0]] == "track"]


def check_batch(played: Played, features, asked: dict[str, str]) -> None:
    """The archive's query at every instant: whoever is asked as a customer, the events of who were joined then."""
    reader = SqliteLogReader(played.world.folder / "ingest.db", "events")
    tail = [(Position(0, place), record) for place, record in enumerate(played.world.records(), 1)]
    reader.close()
    names = {owner: member_id for member_id, owner in asked.items()}
    rows, expected = [], []
    for known_us in played.instants()[1:]:
        for member_id, owner in asked.items():
            customer = played.oracle.customer(owner, known_us + 1)
            rows.append((member_id, known_us + 1))
            is_name = names.get(played.oracle.oldest(customer)) == member_id
            events = [at for _, at, carrier in tracked(played, played.world) if carrier in customer]
            expected.append(sum(at <= known_us for at in events) if is_name else 0)
    labels = pa.table({"customer_id": [row[0] for row in rows], "t_us": pa.array([row[1] for row in rows], pa.int64())})
    with Batch(played.world.folder / "archive", TABLE, "Europe/Paris", tail) as batch:
        assert batch.vectors(labels, features)["login_count_90d"].to_pylist() == expected
