"""Measures of habit, of peaks and of adoption: all three engines, held against values worked out by hand."""

import tempfile
from pathlib import Path
from typing import Protocol

import pytest
from vigie_contracts.events import Event, Position
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import parse_instant
from vigie_tiles import oracle
from vigie_tiles.batch import Batch

from tests.unit.tiles.histories import Label, label_table, write_archive
from tests.unit.tiles.tile_world import event, feature, one, table

T = parse_instant("2026-03-10T12:30:00Z")
"""A Tuesday."""
LOGIN = ("app.logged_in",)


def at(text: str) -> int:
    return parse_instant(f"2026-{text}Z")


class Engine(Protocol):
    def __call__(self, row: FeatureSpec, *events: Event, t_us: int = T, zone: str = "UTC") -> int | None: ...


@pytest.fixture(params=["oracle", "batch", "kernel"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """One engine's value of a feature for customer m1."""

    def by_oracle(row: FeatureSpec, *events: Event, t_us: int = T, zone: str = "UTC") -> int | None:
        return oracle.value(row, _log(events), "m1", t_us, zone)

    def by_batch(row: FeatureSpec, *events: Event, t_us: int = T, zone: str = "UTC") -> int | None:
        archive = write_archive(Path(tempfile.mkdtemp(dir=tmp_path)), _log(events))
        with Batch(archive, table(row), zone) as batch:
            found: int | None = batch.vectors(label_table([Label("m1", t_us)]))[row.key].to_pylist()[0]
        return found

    def by_kernel(row: FeatureSpec, *events: Event, t_us: int = T, zone: str = "UTC") -> int | None:
        return one(row, events, t_us, zone)

    engines: dict[str, Engine] = {"oracle": by_oracle, "batch": by_batch, "kernel": by_kernel}
    return engines[request.param]


def _log(events: tuple[Event, ...]) -> list[tuple[Position, Event]]:
    return [(Position(0, number), found) for number, found in enumerate(events, 1)]


@pytest.mark.parametrize(
    ("days", "value"),
    [
        ((), 31),
        (("03-10",), 30),
        (("02-08",), 30),
        (("02-07",), 31),
        (("03-10", "03-01", "02-20", "02-08"), 11),
        (("03-05",), 25),
        (("02-12",), 26),
    ],
    ids=["silence", "today", "the first day", "the day before it", "between", "before", "since"],
)
def test_the_longest_gap_counts_silent_days_of_the_window(days: tuple[str, ...], value: int, ask: Engine) -> None:
    row = feature("f", "longest_gap", events=LOGIN, window_days=30)
    assert ask(row, *(event(at(f"{day}T09:00:00")) for day in days)) == value


@pytest.mark.parametrize(
    ("recent", "before", "value"), [(7, 83, 1000), (0, 5, 0), (0, 0, 777), (1, 0, 9000), (1, 2, 4285), (14, 0, 9000)]
)
def test_the_baseline_holds_a_week_against_ninety_days(recent: int, before: int, value: int, ask: Engine) -> None:
    row = feature("f", "baseline", events=LOGIN, window_days=7, zero_over_zero=777, cap=9000)
    acts = [event(at("03-09T00:00:00") + n) for n in range(recent)] + [
        event(at("01-01T00:00:00") + n) for n in range(before)
    ]
    assert ask(row, *acts) == value


def test_the_greatest_value_leaves_with_its_day_and_what_has_none_counts_for_nothing(ask: Engine) -> None:
    row = feature("f", "max", events=LOGIN, window_days=30, value_property="amount")
    old = event(at("02-08T00:00:00"), measures={"amount": 500})
    acts = [old, event(at("03-01T10:00:00"), measures={"amount": -7}), event(at("03-02T10:00:00"))]
    assert ask(row, *acts) == 500
    assert ask(row, *acts[1:]) == -7
    assert ask(row, *acts, t_us=at("03-11T00:00:00")) == -7
    assert ask(row, acts[2]) is None


def test_the_weekday_is_local_and_the_smaller_of_equals(ask: Engine) -> None:
    row = feature("f", "weekday", events=LOGIN, window_days=30)
    sunday_late, monday = event(at("03-08T23:30:00")), event(at("03-09T10:00:00"))
    assert ask(row, sunday_late) == 7
    assert ask(row, sunday_late, zone="Europe/Paris") == 1
    assert ask(row, sunday_late, monday) == 1
    assert ask(row, sunday_late, event(at("03-08T10:00:00")), monday) == 7
    assert ask(row) is None


def test_the_share_of_the_weekend_is_a_whole_permille(ask: Engine) -> None:
    row = feature("f", "weekend_share", events=LOGIN, window_days=30, zero_over_zero=5)
    acts = [event(at(f"03-0{day}T10:00:00")) for day in (6, 7, 8, 9, 5, 4)]
    assert ask(row, *acts) == 333
    assert ask(row) == 5


@pytest.mark.parametrize(
    ("zone", "text", "hour"),
    [
        ("UTC", "03-09T17:59:59", 17),
        ("Europe/Paris", "03-09T23:30:00", 0),
        ("Asia/Kolkata", "03-09T18:45:00", 23),
        ("Asia/Kolkata", "03-09T19:00:00", 0),
    ],
)
def test_the_hour_is_that_of_the_utc_hour_in_the_local_day(zone: str, text: str, hour: int, ask: Engine) -> None:
    row = feature("f", "hour", events=LOGIN, window_days=7)
    assert ask(row, event(at(text)), zone=zone) == hour


def test_the_hour_of_most_acts_is_the_smaller_of_equals_and_never_above_23(ask: Engine) -> None:
    row = feature("f", "hour", events=LOGIN, window_days=1)
    assert ask(row, event(at("03-10T09:00:00")), event(at("03-10T08:59:59")), event(at("03-10T11:00:00"))) == 8
    last = parse_instant("2026-11-02T04:30:00Z")  # the 25th hour of a day in New York
    assert ask(row, event(last), t_us=last + 1, zone="America/New_York") == 23
    assert ask(row) is None


def test_adoption_counts_local_days_from_the_first_to_the_nth_use(ask: Engine) -> None:
    row = feature("f", "nth", events=LOGIN, nth=3)
    acts = [event(at(f"01-{day}T22:30:00")) for day in ("20", "02", "09", "30")]
    assert ask(row, *acts) == 18
    assert ask(row, *acts[:2]) is None
    twice = [event(at("01-02T10:00:00"), event_id=name) for name in "abc"]
    assert ask(row, *twice) == 0


def test_the_last_value_is_of_the_latest_event_that_has_one_and_ties_break_by_the_order_key(ask: Engine) -> None:
    row = feature("f", "last", events=LOGIN, value_property="amount")
    first, last = at("03-01T10:00:00"), at("03-09T10:00:00")
    late = event(first, measures={"amount": 3}, known_at_us=last + 5)
    assert ask(row, event(last, measures={"amount": 8}), late, event(last + 1)) == 8
    tied = [event(last, event_id=name, measures={"amount": n}) for name, n in (("b", 2), ("c", 1), ("a", 9))]
    assert ask(row, *tied) == 1
    assert ask(row, event(last)) is None
