"""Consuming and sweeping on one store: values by the oracle, one hint a customer, nobody missed, the offset fences."""

import random
from pathlib import Path

import msgspec
import pytest
from vigie_contracts.errors import Conflict
from vigie_contracts.events import Change, Event, LogRecord, MapChanged, MapMove, Position, SegmentMoved
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.segments import EXCLUSIVE_FAMILIES, evaluate
from vigie_features import engagement
from vigie_features.domain import customer_reads
from vigie_features.store import CHANGES, DUE, SEGMENTS, Snapshot
from vigie_features.sweep import WATERMARK
from vigie_kit.sqlite_log import SqliteLogReader

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import CATALOGUE, LAYOUT, NOW_US, TABLE, event, records
from tests.unit.features.features_world import SEGMENTS as DECLARED
from tests.unit.query_plans import reading_all, statements


def changes(state: FeatureState, after: int = 0) -> list[Change]:
    log = SqliteLogReader(state.store.path, CHANGES)
    return [msgspec.json.decode(entry.payload, type=Change) for entry in log.read({0: after}, 100_000)]


def moves(state: FeatureState) -> list[SegmentMoved]:
    log = SqliteLogReader(state.store.path, SEGMENTS)
    return [msgspec.json.decode(entry.payload, type=SegmentMoved) for entry in log.read({}, 100_000)]


def standing(state: FeatureState) -> dict[str, set[str]]:
    with state.store.snapshot() as snapshot:
        found = snapshot.memberships(state.customers())
    return {customer_id: set(keys) for customer_id, keys in found.items()}


def expected_segments(state: FeatureState) -> dict[str, set[str]]:
    """By the contract's evaluation of single customers, the first only of each exclusive family."""
    found: dict[str, set[str]] = {}
    for customer_id, vector in state.vectors(state.now_us).items():
        values = dict(zip(TABLE.by_key, vector, strict=True))
        taken: set[str] = set()
        found[customer_id] = set()
        for spec in (segment.spec for segment in DECLARED.without_scores if evaluate(segment.tree, values)):
            if spec.family not in taken:
                found[customer_id].add(spec.key)
            taken |= {spec.family} & EXCLUSIVE_FAMILIES
    return found


def last_causes(found: list[LogRecord]) -> dict[str, Position]:
    """The last position that touched each customer, by the final map."""
    owner: dict[str, str] = {}
    for record in found:
        if isinstance(record, MapChanged):
            owner |= {move.member_id: move.to_customer_id for move in record.moves}
    causes: dict[str, Position] = {}
    for number, record in enumerate(found, start=1):
        if isinstance(record, Event):
            causes[owner.get(record.member_id, record.member_id)] = Position(0, number)
        elif isinstance(record, MapChanged):
            causes |= {move.to_customer_id: Position(0, number) for move in record.moves}
    return causes


def test_memberships_are_what_the_predicates_say_of_the_current_values(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    state.consume(records(5))
    assert standing(state) == expected_segments(state)


def test_the_segments_log_replays_to_the_standing_memberships_and_sizes(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    for at in range(3):
        state.now_us = NOW_US + at * 20 * DAY_US
        state.consume(records(5)[at * 130 : (at + 1) * 130])
        state.sweep()
    replayed: dict[str, set[str]] = {}
    for move in moves(state):
        keys = replayed.setdefault(move.customer_id, set())
        assert (move.key in keys) != move.entered
        (keys.add if move.entered else keys.remove)(move.key)
    assert {customer_id: keys for customer_id, keys in replayed.items() if keys} == standing(state)
    with state.store.snapshot() as snapshot:
        sizes = snapshot.sizes()
    members = [key for keys in standing(state).values() for key in keys]
    assert {key: size for key, size in sizes.items() if size} == {key: members.count(key) for key in members}


def test_each_batch_hints_each_touched_customer_once_with_its_last_cause(tmp_path: Path) -> None:
    state, found = FeatureState(tmp_path, batch_records=1_000), records(6)
    state.consume(found)
    hints = changes(state)
    assert len({hint.customer_id for hint in hints}) == len(hints)
    current = {hint.customer_id: hint.cause for hint in hints if hint.customer_id in state.customers()}
    assert current == last_causes(found)
    with state.store.snapshot() as snapshot:
        newest = {row.customer_id: row.newest_us for row in snapshot.due(2**63 - 1, 1_000)}
    assert {hint.customer_id: hint.not_before_us - 1 for hint in hints if hint.customer_id in newest} == newest


def test_the_batch_size_does_not_change_the_state(tmp_path: Path) -> None:
    found, vectors, segments = records(7), [], []
    for size in (7, 400):
        state = FeatureState(tmp_path / str(size), batch_records=size)
        state.consume(found)
        vectors.append(state.vectors(NOW_US))
        segments.append(standing(state))
    assert vectors[0] == vectors[1]
    assert segments[0] == segments[1]


def test_another_writer_that_moved_the_offset_is_fenced_and_nothing_is_applied_twice(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    state.consume(records(8, count=30))
    before = state.vectors(NOW_US)
    with pytest.raises(Conflict, match="no longer 12"):
        clear_and_advance(state, 12, 40)
    assert state.vectors(NOW_US) == before
    assert state.store.cursor() == {0: 30}


def clear_and_advance(state: FeatureState, expected: int, number: int) -> None:
    with state.store.writing() as tx:
        tx.clear_tiles()
        tx.advance(expected, number)


def test_a_merge_moves_the_member_and_its_undo_brings_it_back(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    at = NOW_US - HOUR_US
    state.consume(
        [
            event("a", "app.logged_in", at, event_id="1"),
            event("b", "app.logged_in", at, event_id="2"),
            MapChanged(moves=[MapMove("b", "b", "a")], known_at_us=at, because="same user id"),
        ]
    )
    logins = list(TABLE.by_key).index("login_count_30d")
    merged = {customer_id: vector[logins] for customer_id, vector in state.vectors(NOW_US).items()}
    state.consume([MapChanged(moves=[MapMove("b", "a", "b")], known_at_us=at + 1, because="undone")])
    undone = {customer_id: vector[logins] for customer_id, vector in state.vectors(NOW_US).items()}
    assert (merged, undone) == ({"a": 2}, {"a": 1, "b": 1})
    assert [(hint.customer_id, hint.why) for hint in changes(state)] == [
        ("a", "map"),
        ("b", "map"),
        ("a", "map"),
        ("b", "map"),
    ]
    assert standing(state).keys() == {"a", "b"}


def test_no_customer_whose_features_moved_is_missed_by_the_sweep(tmp_path: Path) -> None:
    state, rng = FeatureState(tmp_path), random.Random(9)
    state.consume(records(9))
    for _ in range(60):
        earlier, steps = state.now_us, rng.choice((HOUR_US // 3, HOUR_US, 7 * HOUR_US, DAY_US, 9 * DAY_US))
        before = state.vectors(earlier)
        last = len(changes(state))
        state.now_us += rng.randrange(1, steps)
        after = state.vectors(state.now_us)
        state.sweep()
        visited = {hint.customer_id for hint in changes(state, last)}
        assert {customer_id for customer_id in after if after[customer_id] != before[customer_id]} <= visited
    assert standing(state) == expected_segments(state)


def test_the_sweep_reads_the_rows_that_are_due_and_no_other(tmp_path: Path) -> None:
    state, rng = FeatureState(tmp_path, page=3), random.Random(10)
    state.consume(records(10, members=40, count=300))
    read = due = 0
    for _ in range(30):
        state.now_us += rng.randrange(8 * HOUR_US)
        with state.store.snapshot() as snapshot:
            due += len(snapshot.due(state.now_us, 1_000))
        read += state.sweep()
        with state.store.snapshot() as snapshot:
            assert snapshot.due(state.now_us, 1) == []
    assert due > 100
    assert read <= due * 1.01
    with state.store.snapshot() as snapshot:
        plan = snapshot.explain(DUE, (state.now_us, 10))
    assert plan == ["SEARCH customers USING INDEX customers_by_next_change (next_change_at_us<?)"]


def test_every_statement_goes_by_an_index(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    found = statements(state.store._engine)
    state.consume(records(10, members=40, count=600))
    state.now_us += 3 * DAY_US
    state.sweep()
    assert any(sql.startswith("UPDATE members") for sql in found)
    assert reading_all(state.store._engine, found) == []


def test_after_an_outage_everybody_is_visited_once_for_now(tmp_path: Path) -> None:
    state = FeatureState(tmp_path, page=4)
    state.consume(records(11))
    last = len(changes(state))
    state.now_us += 30 * DAY_US
    state.sweep()
    hints = changes(state, last)
    assert sorted(hint.customer_id for hint in hints) == state.customers()
    assert {(hint.why, hint.cause) for hint in hints} == {("sweep", None)}
    with state.store.snapshot() as snapshot:
        assert snapshot.setting(WATERMARK) == str(state.now_us)


def test_an_idle_sweep_commits_its_watermark_once_a_business_minute(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    marks = []
    for seconds in (0, 30, 61, 90, 122):
        state.now_us = NOW_US + seconds * 1_000_000
        state.sweep()
        with state.store.snapshot() as snapshot:
            marks.append(int(snapshot.setting(WATERMARK) or 0) - NOW_US)
    assert marks == [0, 0, 61_000_000, 61_000_000, 122_000_000]


@pytest.mark.parametrize("window_days", [1, 7, 30])
def test_engagement_counts_what_the_events_say(tmp_path: Path, window_days: int) -> None:
    state, found = FeatureState(tmp_path), records(12)
    state.consume(found)
    prepared = engagement.Engagement(LAYOUT, CATALOGUE, window_days)
    with state.store.snapshot() as snapshot:
        reads = _reads(snapshot, state)
    owner = _owners(found)
    days = LAYOUT.days
    for row in prepared.read(reads):
        acts = [one for one in found if isinstance(one, Event)]
        own = [one for one in acts if owner.get(one.member_id, one.member_id) == row.customer_id]
        if window_days in (1, 7):
            edges = [(NOW_US // HOUR_US - 24 * window_days * back) * HOUR_US for back in (1, 2)]
        else:
            today = days.day(_array(NOW_US))
            edges = [int(days.midnight(today - window_days * back)[0]) for back in (1, 2)]
        for counted in row.micro_conversions:
            at = [one.effective_at_us for one in own if one.name == counted.name]
            assert counted.count == sum(edges[0] <= one for one in at)
            assert counted.previous_count == sum(edges[1] <= one < edges[0] for one in at)
            assert counted.last_at_us == max(at)
        listed = {counted.name for counted in row.micro_conversions}
        assert {one.name for one in own if one.catalogued and one.effective_at_us >= edges[0]} == listed - {
            counted.name for counted in row.micro_conversions if counted.count == 0
        }


def _array(value: int) -> "engagement.Ints":
    import numpy as np

    return np.array([value], dtype=np.int64)


def _reads(snapshot: Snapshot, state: FeatureState) -> list[engagement.CustomerRead]:
    members = snapshot.members_of(state.customers())
    tiles = snapshot.tiles([member_id for found in members.values() for member_id in found])
    return customer_reads(members, tiles, state.now_us)


def _owners(found: list[LogRecord]) -> dict[str, str]:
    return {move.member_id: move.to_customer_id for one in found if isinstance(one, MapChanged) for move in one.moves}
