"""The next change: never late for any feature, and exact where a hand can say it."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.errors import PastReadPoint
from vigie_contracts.events import Event
from vigie_contracts.instants import format_instant
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from tests.unit.tiles.test_kernel_fold import LAYOUTS, TABLE, ZONES, histories
from tests.unit.tiles.tile_world import DAY, HOUR, NOON, blob_of, event, feature, table

A = ("a",)


@given(histories(members=("m1", "m2")), st.sampled_from(ZONES), st.integers(0, 500 * DAY), st.integers(0, 2**32))
@settings(max_examples=250, deadline=None)
def test_no_value_moves_before_the_next_change(events: list[Event], zone: str, later: int, seed: int) -> None:
    layout, t = LAYOUTS[zone], NOON + 1 + later
    folded = kernel.fold(layout, {"m1": None, "m2": None}, events)
    blobs = [[row.blob for row in folded.values()]]
    moment = int(kernel.next_change(layout, blobs, t)[0])
    assert moment > t
    until = min(moment, t + 4000 * DAY)
    for at in (until - 1, random.Random(seed).randrange(t, until)):
        now, then = (kernel.finalise(layout, TABLE.features, blobs, instant) for instant in (t, at))
        assert now.values.tolist() == then.values.tolist()
        assert now.valid.tolist() == then.valid.tolist()


@pytest.mark.parametrize(
    ("row", "zone", "silent", "expected"),
    [
        (feature("f", "count", events=A, window_days=1), "UTC", 1, "2026-03-11T13:00"),
        (feature("f", "count", events=A, window_days=7), "Asia/Kolkata", 1, "2026-03-17T13:00"),
        (feature("f", "trend", events=A, window_days=1), "UTC", 2 * DAY, "2026-03-12T13:00"),
        (feature("f", "count", events=A, window_days=30), "Europe/Paris", 1, "2026-04-09T22:00"),
        (feature("f", "trend", events=A, window_days=30), "UTC", 31 * DAY, "2026-05-10T00:00"),
        (feature("f", "active_days", events=A, window_days=1), "UTC", 1, "2026-03-12T00:00"),
        (feature("f", "streak", events=A, window_days=30), "UTC", DAY, "2026-03-12T00:00"),
        (feature("f", "recency", events=A), "UTC", 90 * 60 * 10**6, "2026-03-10T14:30"),
        (feature("f", "recency", events=A), "UTC", 3 * DAY, "2026-03-14T00:00"),
        (feature("f", "recency", events=A), "UTC", 100 * DAY, "2026-06-23T00:00"),
        (feature("f", "tenure", events=A), "UTC", 3 * HOUR, "2026-03-11T00:00"),
        (feature("f", "tenure", events=A), "UTC", 93 * DAY, "2026-06-16T00:00"),
    ],
)
def test_the_next_change_by_hand(row: Any, zone: str, silent: int, expected: str) -> None:
    layout, t = Layout(table(row), zone), NOON + silent
    blobs = [[blob_of(layout, [event(NOON, "a")])]]
    moment = int(kernel.next_change(layout, blobs, t)[0])
    assert format_instant(moment)[:16] == expected
    before, after = (kernel.finalise(layout, (row,), blobs, at).values[0, 0] for at in (moment - 1, moment))
    assert before != after


@pytest.mark.parametrize(
    ("row", "silent"),
    [
        (feature("f", "count", events=A, window_days=7), 8 * DAY),
        (feature("f", "count", events=A, window_days=90), 91 * DAY),
        (feature("f", "recency", events=A), 371 * DAY),
        (feature("f", "tenure", events=A), 3661 * DAY),
        (feature("f", "attribute", attribute="x"), 1),
    ],
)
def test_what_can_not_move_any_more_has_no_next_change(row: Any, silent: int) -> None:
    layout = Layout(table(row), "UTC")
    blobs = [[blob_of(layout, [event(NOON, "a")])], []]
    assert kernel.next_change(layout, blobs, NOON + silent).tolist() == [kernel.NEVER_US] * 2


def test_the_next_change_of_the_past_is_refused() -> None:
    layout = LAYOUTS["UTC"]
    with pytest.raises(PastReadPoint):
        kernel.next_change(layout, [[blob_of(layout, [event(NOON, "a")])]], NOON)
