"""Every measure by hand, at its edges; docs/features.md is the contract."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vigie_contracts.errors import IncompatibleData, InvalidInput, LimitExceeded, PastReadPoint
from vigie_contracts.events import Event
from vigie_contracts.features import Component, FeatureTable
from vigie_contracts.instants import parse_instant
from vigie_tiles import kernel
from vigie_tiles.kernel.measures import attribute_value
from vigie_tiles.layout import Layout

from tests.unit.tiles.tile_world import DAY, HOUR, NOON, blob_of, event, feature, identify, one, table, values

LOGIN = ("app.logged_in",)
T = NOON + 1  # 2026-03-10 12:30:00.000001 UTC
MIDNIGHT = parse_instant("2026-03-10T00:00:00Z")
HOUR_START = NOON - HOUR // 2


@pytest.fixture(scope="module")
def feature_table(feature_repo: Path) -> FeatureTable:
    return FeatureTable.load(feature_repo)


def login(at_us: int, **fields: Any) -> Event:
    return event(at_us, **fields)


def count(days: int, **fields: Any) -> Any:
    return feature("n", "count", events=LOGIN, window_days=days, **fields)


@pytest.mark.parametrize(
    ("days", "edge"),
    [
        (1, HOUR_START - DAY),
        (7, HOUR_START - 7 * DAY),
        (30, MIDNIGHT - 30 * DAY),
        (90, MIDNIGHT - 90 * DAY),
    ],
)
def test_a_window_begins_at_its_edge(days: int, edge: int) -> None:
    assert one(count(days), [login(edge - 1)], T) == 0
    assert one(count(days), [login(edge)], T) == 1
    assert one(count(days), [login(edge - 1), login(edge), login(NOON)], T) == 2


def test_a_window_ends_before_the_read_instant_and_the_past_is_refused() -> None:
    assert one(count(1), [login(NOON)], NOON + 1) == 1
    with pytest.raises(PastReadPoint, match=r"2026-03-10T12:30:00.000000Z and cannot be read at 2026-03-10T12:30"):
        one(count(1), [login(NOON)], NOON)


def test_an_event_known_later_than_it_happened_moves_the_read_point() -> None:
    late = login(NOON - 5 * HOUR, known_at_us=NOON)
    assert one(count(1), [late], T) == 1
    with pytest.raises(PastReadPoint):
        one(count(1), [late], NOON)


def test_counts_decay_without_events() -> None:
    row, events = count(7), [login(NOON - hours * HOUR) for hours in (0, 30, 100)]
    assert [one(row, events, T + days * DAY) for days in (0, 3, 6, 7, 8)] == [3, 2, 1, 1, 0]


def test_local_days_follow_the_time_zone_and_hours_do_not() -> None:
    events = [login(parse_instant("2026-02-07T22:59:59Z")), login(parse_instant("2026-02-07T23:00:00Z"))]
    assert one(count(30), events, T, "Europe/Paris") == 1  # 8 February begins at 23:00Z in Paris
    assert one(count(30), events, T, "UTC") == 0
    hourly = [login(HOUR_START - DAY - 1), login(HOUR_START - DAY)]
    assert [one(count(1), hourly, T, zone) for zone in ("UTC", "Asia/Kolkata")] == [1, 1]


def test_only_catalogued_names_match_and_filters_compare_strings_and_booleans() -> None:
    events = [
        login(NOON, properties={"k": "yes"}),
        login(NOON - 1, properties={"k": True}),
        login(NOON - 2, properties={"k": 1}),
        login(NOON - 3),
        login(NOON - 4, catalogued=False, properties={"k": "yes"}),
        event(NOON - 5, "other", properties={"k": "yes"}),
    ]
    assert one(count(1), events, T) == 4
    assert one(count(1, where={"k": "yes"}), events, T) == 1
    assert one(count(1, where={"k": "true"}), events, T) == 1
    assert one(count(1, where={"k": "1"}), events, T) == 0
    assert one(count(1, where={"k": "yes", "other": "x"}), events, T) == 0


def test_a_sum_adds_scaled_integers_and_an_event_without_the_property_adds_nothing() -> None:
    row = feature("s", "sum", events=("card.used",), value_property="amount", window_days=7)
    amounts = [2**52, 2**52, -7, 0]
    events = [event(NOON - n, "card.used", measures={"amount": amount}) for n, amount in enumerate(amounts)]
    assert one(row, [*events, event(NOON - 9, "card.used")], T) == 2**53 - 7


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [(0, 0, 700), (2, 0, 5000), (0, 3, 0), (2, 3, 666), (3, 3, 1000), (30, 3, 9000)],
)
def test_a_trend_is_the_window_over_the_period_before_in_permille(now: int, before: int, expected: int) -> None:
    row = feature("t", "trend", events=LOGIN, window_days=7, zero_over_zero=700, x_over_zero=5000, cap=9000)
    edge = HOUR_START - 7 * DAY
    events = [login(edge + n) for n in range(now)] + [login(edge - 1 - n) for n in range(before)]
    assert one(row, [*events, login(edge - 7 * DAY - 1)], T) == expected


def test_the_previous_period_of_a_day_window_ends_where_the_window_begins() -> None:
    row = feature("t", "trend", events=LOGIN, window_days=30)
    edge, earlier = MIDNIGHT - 30 * DAY, MIDNIGHT - 60 * DAY
    assert one(row, [login(edge), login(edge - 1), login(earlier), login(earlier - 1)], T) == 500


def test_a_rate_filters_only_its_numerator() -> None:
    row = feature("r", "rate", events=("a",), where={"k": "x"}, denominator=("b",), window_days=30, zero_over_zero=7)
    opened = [event(NOON - n, "a", properties={"k": "x"}) for n in range(2)] + [event(NOON - 5, "a")]
    sent = [event(NOON - 10 - n, "b") for n in range(3)]
    assert [one(row, rows, T) for rows in (opened + sent, sent, opened)] == [666, 0, 10_000]
    assert one(row, [event(NOON, "c")], T) == 7


@pytest.mark.parametrize(("days", "expected"), [(1, 2), (7, 4), (30, 5), (90, 7)])
def test_active_days_use_day_edges_for_every_window(days: int, expected: int) -> None:
    ages = (0, 0, 1, 2, 7, 8, 64, 90, 91)
    events = [login(MIDNIGHT - age * DAY + n) for n, age in enumerate(ages)]
    assert one(feature("d", "active_days", events=LOGIN, window_days=days), events, T) == expected


@pytest.mark.parametrize(
    ("ages", "days", "expected"),
    [
        ((0, 1, 2, 4), 30, 3),
        ((1, 2, 3), 30, 3),
        ((2, 3), 30, 0),
        ((), 30, 0),
        (range(40), 7, 8),
        (range(1, 40), 7, 7),
        (range(91), 90, 91),
        (range(1, 91), 90, 90),
        ([*range(70), *range(71, 80)], 90, 70),
    ],
)
def test_a_streak_goes_back_from_today_or_yesterday(ages: Any, days: int, expected: int) -> None:
    events = [login(MIDNIGHT - age * DAY + 5) for age in ages] + [event(NOON, "other")]
    assert one(feature("s", "streak", events=LOGIN, window_days=days), events, T) == expected


def test_breadth_counts_names() -> None:
    row = feature("b", "breadth", events=("a", "b", "c"), window_days=1)
    events = [event(NOON, "a"), event(NOON - 1, "a"), event(NOON - 2, "b"), event(NOON - 2 * DAY, "c")]
    assert one(row, events, T) == 2


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        (1, 0),
        (HOUR - 1, 0),
        (HOUR, 1),
        (48 * HOUR - 1, 47),
        (48 * HOUR, 48),
        (59 * HOUR + HOUR // 2 - 1, 48),
        (59 * HOUR + HOUR // 2, 72),  # the third local midnight since
        (91 * DAY, 24 * 91),
        (92 * DAY, 24 * 91),
        (98 * DAY, 24 * 98),
        (364 * DAY, 24 * 364),
        (371 * DAY, 24 * 366),
        (4000 * DAY, 24 * 366),
    ],
)
def test_recency_in_hours_then_days_then_weeks(silent: int, expected: int) -> None:
    row = feature("r", "recency", events=LOGIN)
    assert one(row, [login(NOON), login(NOON - DAY)], NOON + silent) == expected


@pytest.mark.parametrize(("days", "expected"), [(0, 0), (91, 91), (92, 91), (98, 98), (3661, 3660), (9000, 3660)])
def test_tenure_in_days_then_weeks(days: int, expected: int) -> None:
    assert one(feature("t", "tenure", events=LOGIN), [login(NOON), login(NOON + 1)], NOON + days * DAY + 2) == expected


@pytest.mark.parametrize(
    ("value", "categories", "expected"),
    [
        ("b", ("a", "b"), 1),
        ("z", ("a", "b"), -1),
        (True, ("false", "true"), 1),
        (3, ("3",), 0),
        (3.0, ("3",), 0),
        (3.5, ("3.5",), -1),
        ([1], ("[1]", ""), -1),
        (None, ("a",), None),
        (True, (), 1),
        (-1.5, (), -2),
        (2**53, (), 2**53),
        (2**53 + 1, (), None),
        (1e300, (), None),
        ("7", (), None),
        ({}, (), None),
    ],
)
def test_an_attribute_as_an_integer(value: Any, categories: tuple[str, ...], expected: int | None) -> None:
    row = feature("a", "attribute", attribute="x", categories=categories)
    assert one(row, [identify(NOON, x=value)], T) == expected
    places = {name: place for place, name in enumerate(categories)} if categories else None
    assert attribute_value(value, places) == expected


def test_the_latest_attribute_counts_over_all_members_and_null_clears_it() -> None:
    row = feature("a", "attribute", attribute="x")
    stated = [
        identify(NOON - 5, x=1, y=9),
        event(NOON, "identify", kind="identify", member_id="m2", traits={"x": 2}, known_at_us=NOON - 3),
        event(NOON, "identify", kind="identify", member_id="m3", traits={"x": 3}, known_at_us=NOON - 2),
        event(NOON, "identify", kind="identify", member_id="m3", source_id="b", traits={"x": 4}, known_at_us=NOON - 2),
        event(NOON, "track", traits={"x": 5}),
    ]
    assert [one(row, stated[:n], T) for n in range(1, 6)] == [1, 2, 3, 4, 4]
    assert one(row, [*stated, identify(NOON + 1, x=None)], NOON + 2) is None


def test_engagement_adds_whole_parts_of_capped_counts_and_days() -> None:
    parts = (
        Component(events=LOGIN, weight=60, cap=7),
        Component(events=LOGIN, measure="active_days", weight=40, cap=3),
        Component(events=("a", "b"), weight=10, cap=1),
    )
    row = feature("e", "engagement", components=parts, window_days=7)
    events = [login(NOON), login(NOON - 1), login(NOON - DAY)]
    assert one(row, events, T) == 60 * 3 // 7 + 40 * 2 // 3
    assert one(row, [*events, event(NOON, "a"), event(NOON, "b")], T) == 25 + 26 + 10


def test_a_customer_without_events_has_the_declared_defaults(feature_table: FeatureTable) -> None:
    layout = Layout(feature_table, "Europe/Paris")
    matrix = kernel.finalise(layout, feature_table.features, [[], []], NOON)
    for column, row in enumerate(feature_table.features):
        expected = [(row.default or 0, row.default is not None)] * 2
        assert list(zip(matrix.values[:, column], matrix.valid[:, column], strict=True)) == expected


def test_rows_keep_their_order_over_many_chunks_and_each_has_its_own_instant() -> None:
    layout = Layout(table(count(30), feature("r", "recency", events=LOGIN)), "UTC")
    blobs = [[blob_of(layout, [login(NOON - n) for n in range(rows)])] if rows else [] for rows in range(5)] * 230
    t_us = [NOON + 1 + row % 7 * DAY * 5 for row in range(len(blobs))]
    matrix = kernel.finalise(layout, layout.table.features, blobs, t_us)
    assert matrix.values.shape == (1150, 2)
    assert matrix.values[:, 0].tolist() == [row % 5 if row % 7 * 5 <= 30 else 0 for row in range(1150)]
    assert matrix.valid[:, 1].tolist() == [row % 5 != 0 for row in range(1150)]
    alone = [kernel.finalise(layout, layout.table.features, [blobs[n]], t_us[n]).values[0] for n in range(40)]
    assert (np.array(alone) == matrix.values[:40]).all()


def test_features_come_in_the_order_asked_for() -> None:
    rows = (count(1), feature("m", "count", events=LOGIN, window_days=90), feature("r", "recency", events=LOGIN))
    layout = Layout(table(*rows), "UTC")
    blob = blob_of(layout, [login(NOON), login(NOON - 40 * DAY)])
    assert kernel.finalise(layout, rows[::-1], [[blob]], T).values.tolist() == [[0, 2, 1]]
    assert kernel.finalise(layout, rows[1:2], [[blob]], T).values.tolist() == [[2]]
    assert kernel.finalise(layout, (), [[blob]], T).values.shape == (1, 0)
    assert kernel.finalise(layout, rows, [], T).values.shape == (0, 3)


def test_members_are_joined_up_to_32() -> None:
    layout = Layout(table(count(1), feature("t", "tenure", events=LOGIN)), "UTC")
    blobs = [blob_of(layout, [login(NOON - n * HOUR)]) for n in range(33)]
    matrix = kernel.finalise(layout, layout.table.features, [blobs[:32]], NOON + 9 * DAY)
    assert matrix.values.tolist() == [[0, 10]]
    with pytest.raises(LimitExceeded, match="33 members"):
        kernel.finalise(layout, layout.table.features, [blobs], NOON + 9 * DAY)


def test_a_feature_that_the_tiles_do_not_keep_is_refused() -> None:
    layout = Layout(table(count(7)), "UTC")
    for row in (count(30), feature("t", "trend", events=LOGIN, window_days=7)):
        with pytest.raises(InvalidInput, match=r"do not keep what this feature needs of app\.logged_in"):
            kernel.finalise(layout, (row,), [[]], T)


def test_tiles_of_another_table_or_zone_are_refused_with_what_to_do() -> None:
    blob = blob_of(Layout(table(count(7)), "UTC"), [login(NOON)])
    for other in (Layout(table(count(30)), "UTC"), Layout(table(count(7)), "Europe/Paris")):
        with pytest.raises(IncompatibleData, match="vigie replay tiles"):
            kernel.finalise(other, other.table.features, [[blob]], T)
    kept = Layout(table(count(7), feature("again", "count", events=LOGIN, window_days=7)), "UTC")
    assert kernel.finalise(kept, kept.table.features, [[blob]], T).values.tolist() == [[1, 1]]


def test_all_shipped_features_can_be_read(feature_table: FeatureTable) -> None:
    layout = Layout(feature_table, "Europe/Paris")
    found = values(layout, [login(NOON - n * DAY) for n in range(10)], T)
    assert (found["login_count_1d"], found["login_count_7d"], found["login_count_30d"]) == (2, 8, 10)
    assert (found["active_days_7d"], found["login_recency"]) == (8, 0)
