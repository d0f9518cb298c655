"""Local days: their first instants, in zones that make it hard."""

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US, HOUR_US, format_instant, from_micros, parse_instant
from vigie_tiles.local_days import local_days


def number(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days


def midnight(zone: str, day: str) -> str:
    return format_instant(int(local_days(zone).midnight(np.array([number(day)]))[0]))[:19]


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("UTC", "2026-03-10", "2026-03-10T00:00:00"),
        ("Asia/Kolkata", "2026-03-10", "2026-03-09T18:30:00"),
        ("Asia/Kathmandu", "2026-03-10", "2026-03-09T18:15:00"),
        ("Europe/Paris", "2026-03-29", "2026-03-28T23:00:00"),
        ("Europe/Paris", "2026-03-30", "2026-03-29T22:00:00"),
        ("America/Sao_Paulo", "2017-10-15", "2017-10-15T03:00:00"),  # 00:00 was skipped: the day begins at 01:00
        ("America/Havana", "2025-11-02", "2025-11-02T04:00:00"),  # 00:00 comes twice: the first counts
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00"),  # 30 December 2011 did not exist
    ],
)
def test_a_local_day_begins_at_its_first_instant(zone: str, day: str, first: str) -> None:
    assert midnight(zone, day) == first


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_of_23_and_25_hours(day: str, hours: int) -> None:
    days = np.array([number(day), number(day) + 1])
    first, following = local_days("Europe/Paris").midnight(days).tolist()
    assert following - first == hours * HOUR_US


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
)
def test_days_agree_with_the_calendar_of_python(zone: str) -> None:
    first = parse_instant("2010-01-01T00:00:00Z")
    instants = np.arange(first, first + 900 * DAY_US, 7 * HOUR_US + 1_234_567)
    local = [from_micros(at).astimezone(ZoneInfo(zone)).date() for at in instants.tolist()]
    assert local_days(zone).day(instants).tolist() == [(day - date(1970, 1, 1)).days for day in local]


def test_midnight_is_the_first_instant_of_its_day() -> None:
    days = np.arange(number("1960-01-01"), number("2099-12-31"))
    found = local_days("Europe/Paris")
    assert found.day(found.midnight(days)).tolist() == days.tolist()
    assert found.day(found.midnight(days) - 1).tolist() == (days - 1).tolist()


def test_what_happened_before_the_table_lies_on_the_day_before_it() -> None:
    long_ago = np.array([parse_instant("1875-03-01T00:00:00Z"), parse_instant("1959-12-31T12:00:00Z")])
    assert local_days("Europe/Paris").day(long_ago).tolist() == [number("1959-12-31")] * 2


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", "Europe"])
def test_a_name_that_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not the name of a time zone"):
        local_days(name)
