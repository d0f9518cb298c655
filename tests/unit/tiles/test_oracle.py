"""The oracle and the batch query, held against values worked out by hand from docs/features.md."""

from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from vigie_contracts.events import Event, LogRecord, MapChanged, MapMove, Position
from vigie_contracts.features import Component, FeatureSpec
from vigie_contracts.instants import DAY_US, HOUR_US, parse_instant
from vigie_tiles import oracle
from vigie_tiles.batch import Batch

from tests.unit.tiles.histories import Label, label_table
from tests.unit.tiles.tile_world import event, feature, identify, table

T = parse_instant("2026-03-10T12:30:00Z")
LOGIN = ("app.logged_in",)


def at(text: str) -> int:
    return parse_instant(f"2026-{text}Z")


def log_of(*records: LogRecord) -> list[tuple[Position, LogRecord]]:
    return [(Position(0, number), record) for number, record in enumerate(records, 1)]


class Engine(Protocol):
    def __call__(
        self,
        row: FeatureSpec,
        *records: LogRecord,
        t_us: int = T,
        zone: str = "UTC",
        customer: str = "m1",
        pos: int | None = None,
    ) -> int | None: ...


@pytest.fixture(params=["oracle", "batch"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """One engine's value of a feature for customer m1."""

    def by_oracle(
        row: FeatureSpec,
        *records: LogRecord,
        t_us: int = T,
        zone: str = "UTC",
        customer: str = "m1",
        pos: int | None = None,
    ) -> int | None:
        return oracle.value(row, log_of(*records), customer, t_us, zone, pos)

    def by_batch(
        row: FeatureSpec,
        *records: LogRecord,
        t_us: int = T,
        zone: str = "UTC",
        customer: str = "m1",
        pos: int | None = None,
    ) -> int | None:
        with Batch(tmp_path, table(row), zone, tail=log_of(*records)) as batch:
            vectors = batch.vectors(label_table([Label(customer, t_us)], [pos]))
        (value,) = vectors[row.key].to_pylist()
        return value  # type: ignore[no-any-return]

    return {"oracle": by_oracle, "batch": by_batch}[request.param]


def logins(*texts: str) -> list[Event]:
    return [event(at(text)) for text in texts]


@pytest.mark.parametrize(
    ("days", "inside", "outside"),
    [
        (1, "03-09T12:00:00", "03-09T11:59:59.999999"),
        (7, "03-03T12:00:00", "03-03T11:59:59.999999"),
        (30, "02-08T00:00:00", "02-07T23:59:59.999999"),
    ],
)
def test_a_window_begins_on_the_hour_or_at_midnight(days: int, inside: str, outside: str, ask: Engine) -> None:
    row = feature("n", "count", events=LOGIN, window_days=days)
    assert ask(row, *logins(inside, outside)) == 1


def test_an_event_at_t_is_not_visible_and_one_known_at_t_is(ask: Engine) -> None:
    row = feature("n", "count", events=LOGIN, window_days=1)
    assert ask(row, event(T)) == 0
    assert ask(row, event(T - 1, known_at_us=T)) == 1
    assert ask(row, event(T - 1, known_at_us=T + 1)) == 0


def test_a_day_window_of_paris_begins_an_hour_earlier_in_utc_across_the_change_of_clocks(ask: Engine) -> None:
    row = feature("n", "count", events=LOGIN, window_days=30)
    t = at("04-10T12:00:00")  # summer time; 30 days before it was winter time: midnight is 23:00Z
    assert ask(row, *logins("03-10T23:00:00", "03-10T22:59:59"), t_us=t, zone="Europe/Paris") == 1


def test_a_day_without_midnight_begins_when_the_clocks_have_jumped(ask: Engine) -> None:
    row = feature("n", "active_days", events=LOGIN, window_days=1)
    t = parse_instant("2018-11-04T10:00:00Z")
    before = event(parse_instant("2018-11-04T02:59:59Z"))  # 23:59:59 on the third
    after = event(parse_instant("2018-11-04T03:00:00Z"))  # 01:00 on the fourth
    assert ask(row, before, after, t_us=t, zone="America/Sao_Paulo") == 2
    month = feature("n", "count", events=LOGIN, window_days=30)
    later = parse_instant("2018-12-04T10:00:00Z")
    assert ask(month, before, after, t_us=later, zone="America/Sao_Paulo") == 1


def test_only_catalogued_names_and_equal_strings_match(ask: Engine) -> None:
    row = feature("n", "count", events=("transfer.made",), where={"direction": "in"}, window_days=7)
    values = ("in", "out", 1, None)
    found = [event(T - 5 + i, "transfer.made", properties={"direction": value}) for i, value in enumerate(values)]
    assert ask(row, *found, event(T - 9, "transfer.made", catalogued=False, properties={"direction": "in"})) == 1
    numbered = feature("n", "count", events=("n.changed",), where={"level": "1"}, window_days=7)
    levels = [event(T - 5 + i, "n.changed", properties={"level": value}) for i, value in enumerate((1, 1.0, "1"))]
    assert ask(numbered, *levels) == 1
    off = feature("n", "count", events=("n.changed",), where={"enabled": "false"}, window_days=7)
    assert ask(off, event(T - 5, "n.changed", properties={"enabled": False})) == 1
    assert ask(off, event(T - 5, "n.changed", properties={"enabled": 0})) == 0


def test_a_sum_takes_scaled_integers_and_nothing_for_an_absent_one(ask: Engine) -> None:
    row = feature("n", "sum", events=("card.used",), value_property="amount", window_days=30)
    paid = [event(T - 3, "card.used", measures={"amount": 1250}), event(T - 2, "card.used", measures={"amount": -250})]
    assert ask(row, *paid, event(T - 1, "card.used")) == 1000


@pytest.mark.parametrize(
    ("now", "before", "value"), [(0, 0, 1000), (2, 0, 10_000), (0, 3, 0), (2, 3, 666), (30, 1, 10_000), (3, 3, 1000)]
)
def test_a_trend_is_a_whole_permille(now: int, before: int, value: int, ask: Engine) -> None:
    row = feature("n", "trend", events=LOGIN, window_days=7)
    recent = [event(T - 1 - i) for i in range(now)]
    assert ask(row, *recent, *(event(T - 8 * DAY_US - i) for i in range(before))) == value


def test_an_event_on_the_edge_is_of_the_window_and_not_of_the_period_before(ask: Engine) -> None:
    row = feature("n", "trend", events=LOGIN, window_days=7)
    near, far = "03-03T12:00:00", "02-24T12:00:00"
    assert ask(row, *logins(near)) == 10_000
    assert ask(row, *logins(near, far)) == 1000
    assert ask(row, *logins(near, "02-24T11:59:59.999999")) == 10_000


def test_recency_never_falls_when_a_day_has_25_hours(ask: Engine) -> None:
    last, t_us = parse_instant("2026-11-01T04:00:00Z"), parse_instant("2026-11-03T04:59:00Z")  # the next day, 23:59
    row = feature("n", "recency", events=LOGIN)
    assert ask(row, event(last), t_us=t_us, zone="America/New_York") == 48


def test_a_rate_has_its_own_value_for_nothing_of_nothing(ask: Engine) -> None:
    row = feature(
        "n",
        "rate",
        events=("message.opened",),
        denominator=("message.sent",),
        window_days=7,
        zero_over_zero=0,
        x_over_zero=1000,
    )
    opened = [event(T - 1 - i, "message.opened") for i in range(2)]
    sent = [event(T - 9 - i, "message.sent") for i in range(3)]
    assert [ask(row), ask(row, *opened), ask(row, *sent), ask(row, *opened, *sent)] == [0, 1000, 0, 666]


def test_active_days_count_today_and_the_first_day_of_the_window(ask: Engine) -> None:
    row = feature("n", "active_days", events=LOGIN, window_days=7)
    assert ask(row, *logins("03-10T00:00:00", "03-10T09:00:00", "03-03T00:00:00", "03-02T23:59:59")) == 2


@pytest.mark.parametrize(
    ("days", "value"),
    [(("10", "09", "08", "06"), 3), (("09", "08"), 2), (("08", "07"), 0), ((), 0), (("10",), 1)],
)
def test_a_streak_may_end_yesterday(days: tuple[str, ...], value: int, ask: Engine) -> None:
    row = feature("n", "streak", events=LOGIN, window_days=30)
    assert ask(row, *logins(*(f"03-{day}T08:00:00" for day in days))) == value


def test_a_streak_ends_with_its_window(ask: Engine) -> None:
    row = feature("n", "streak", events=LOGIN, window_days=7)
    assert ask(row, *(event(T - 1 - day * DAY_US) for day in range(20))) == 8


def test_breadth_counts_names_once(ask: Engine) -> None:
    row = feature("n", "breadth", events=("app.logged_in", "card.used", "help.viewed"), window_days=30)
    assert ask(row, event(T - 1), event(T - 2), event(T - 3, "card.used"), event(T - 4, "other")) == 2


@pytest.mark.parametrize(
    ("ago_us", "value"),
    [
        (1, 0),
        (HOUR_US, 1),
        (48 * HOUR_US - 1, 47),
        (48 * HOUR_US, 48),
        (61 * HOUR_US, 72),  # the local day is three before
        (91 * DAY_US, 91 * 24),
        (92 * DAY_US, 91 * 24),  # from 92 days in steps of seven
        (98 * DAY_US, 98 * 24),
        (1000 * DAY_US, 366 * 24),
    ],
)
def test_recency_goes_in_whole_steps(ago_us: int, value: int, ask: Engine) -> None:
    assert ask(feature("n", "recency", events=LOGIN), event(T - ago_us)) == value


@pytest.mark.parametrize(
    ("days", "value"), [(0, 0), (91, 91), (92, 91), (97, 91), (98, 98), (3660, 3654), (3700, 3660)]
)
def test_tenure_counts_from_the_first(days: int, value: int, ask: Engine) -> None:
    row = feature("n", "tenure", events=("account.opened",))
    assert ask(row, event(T - 1 - days * DAY_US, "account.opened"), event(T - 1, "account.opened")) == value


def test_recency_tenure_and_attributes_of_a_silent_customer_are_null(ask: Engine) -> None:
    rows = [
        feature("r", "recency", events=LOGIN),
        feature("t", "tenure", events=LOGIN),
        feature("a", "attribute", attribute="age_band", categories=("a",)),
    ]
    assert [ask(row) for row in rows] == [None, None, None]


@pytest.mark.parametrize(
    ("value", "index"), [("b", 1), ("z", -1), (None, None), (3, 2), (3.0, 2), (3.5, -1), (True, 3), ([], -1)]
)
def test_an_attribute_is_the_index_of_its_category(value: object, index: int | None, ask: Engine) -> None:
    row = feature("a", "attribute", attribute="x", categories=("a", "b", "3", "true"))
    assert ask(row, identify(T - 1, x=value)) == index


@pytest.mark.parametrize(
    ("value", "whole"), [(True, 1), (2.9, 2), (-2.1, -3), ("2", None), (2**53, 2**53), (2**53 + 1, None), (None, None)]
)
def test_an_attribute_without_categories_is_floored(value: object, whole: int | None, ask: Engine) -> None:
    assert ask(feature("a", "attribute", attribute="x"), identify(T - 1, x=value)) == whole


def test_the_latest_statement_that_carries_the_trait_counts_and_ties_break_by_what_was_known(ask: Engine) -> None:
    row = feature("a", "attribute", attribute="x")
    old, new = identify(T - 9, x=1), identify(T - 8, x=2)
    assert ask(row, new, old, identify(T - 1, y=3)) == 2
    later = msgspec.structs.replace(new, known_at_us=T - 7, event_id="a", traits={"x": 5})
    assert ask(row, later, new) == 5


def test_engagement_is_the_sum_of_floored_parts(ask: Engine) -> None:
    days = Component(events=LOGIN, measure="active_days", weight=40, cap=4)
    parts = (days, Component(events=LOGIN, weight=25, cap=7))
    row = feature("e", "engagement", components=parts, window_days=7)
    assert ask(row, *logins("03-10T08:00:00", "03-10T09:00:00", "03-09T09:00:00")) == 40 * 2 // 4 + 25 * 3 // 7


def test_a_merge_counts_from_when_it_was_known_until_it_is_undone(ask: Engine) -> None:
    row = feature("n", "count", events=LOGIN, window_days=30)
    log = (
        event(T - DAY_US),
        event(T - DAY_US, member_id="m2"),
        MapChanged(moves=[MapMove("m2", "m2", "m1")], known_at_us=T, because="same e-mail"),
        MapChanged(moves=[MapMove("m2", "m1", "m2")], known_at_us=T + DAY_US, because="mistake"),
    )
    instants = [T - 1, T, T + DAY_US - 1, T + DAY_US]
    assert [ask(row, *log, t_us=t_us) for t_us in instants] == [1, 2, 2, 1]
    assert [ask(row, *log, t_us=t_us, customer="m2") for t_us in instants] == [1, 0, 0, 1]
    assert [ask(row, *log, t_us=T + 1, pos=pos) for pos in range(5)] == [0, 1, 1, 2, 2]


def test_a_day_that_has_begun_goes_on_when_clocks_go_back_across_midnight(ask: Engine) -> None:
    row = feature("n", "active_days", events=LOGIN, window_days=1)
    begun = event(parse_instant("2010-11-07T02:30:30Z"))  # 00:00:30 on the seventh; at 00:01 it was 23:01 again
    lived_twice = event(parse_instant("2010-11-07T02:45:00Z"))  # 23:15 on the sixth for the second time
    t = parse_instant("2010-11-07T12:00:00Z")
    assert ask(row, begun, lived_twice, t_us=t, zone="America/St_Johns") == 1
