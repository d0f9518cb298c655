"""The oracle: docs/features.md read aloud, one customer and one feature at a time, slow and plain.

It shares no code with the stream kernel or the batch query; it exists to prove both right.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from vigie_contracts.events import Event, LogRecord, MapChanged, Position
from vigie_contracts.features import FeatureSpec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATE_HOUR = 21
Record = tuple[Position, LogRecord]


def value(
    feature: FeatureSpec, log: Sequence[Record], customer_id: str, t_us: int, time_zone: str, pos: int | None = None
) -> int | None:
    """The feature's value of a customer at (t, pos), from all records of the log (lane 0)."""
    moment = _Moment(t_us, time_zone)
    applied = [(position, record) for position, record in log if pos is None or position.number <= pos]
    members = members_at(applied, customer_id, t_us)
    visible = [
        record
        for _, record in applied
        if isinstance(record, Event)
        and record.member_id in members
        and record.known_at_us <= t_us
        and record.effective_at_us < t_us
    ]
    return moment.measure(feature, visible)


def members_at(log: Iterable[Record], customer_id: str, t_us: int) -> set[str]:
    """The members of a customer by the moves known at t; a member that never moved is its own customer."""
    owner: dict[str, str] = {}
    for _, record in sorted(log, key=lambda pair: pair[0].number):
        if isinstance(record, MapChanged) and record.known_at_us <= t_us:
            for move in record.moves:
                owner[move.member_id] = move.to_customer_id
    members = {member for member, customer in owner.items() if customer == customer_id}
    return members if owner.get(customer_id, customer_id) != customer_id else members | {customer_id}


class _Moment:
    def __init__(self, t_us: int, time_zone: str) -> None:
        self.t_us = t_us
        self.time_zone = time_zone
        self.today = self.day(t_us)

    def day(self, instant_us: int) -> date:
        """The local date; where clocks went back across midnight, still the day that had begun before."""
        at = EPOCH + timedelta(microseconds=instant_us)
        local = at.astimezone(_zone(self.time_zone))
        if local.hour < LATE_HOUR:
            return local.date()
        return max((at - timedelta(minutes=back)).astimezone(_zone(self.time_zone)).date() for back in range(121))

    def edge(self, days: int, window_days: int) -> int:
        if window_days in (1, 7):
            at = EPOCH + timedelta(microseconds=self.t_us) - timedelta(hours=24 * days)
            return _micros(at.replace(minute=0, second=0, microsecond=0))
        return _first_instant(self.today - timedelta(days=days), self.time_zone)

    def measure(self, feature: FeatureSpec, visible: list[Event]) -> int | None:
        days = feature.window_days or 0
        matching = [event for event in visible if _matches(event, feature.events, feature.where)]
        measure = feature.measure
        if measure == "count":
            return len(self.inside(matching, days))
        if measure == "sum":
            return sum(event.measures.get(feature.value_property or "", 0) for event in self.inside(matching, days))
        if measure == "trend":
            before = [e for e in matching if self.edge(2 * days, days) <= e.effective_at_us < self.edge(days, days)]
            return _ratio(feature, len(self.inside(matching, days)), len(before))
        if measure == "rate":
            below = [event for event in visible if _matches(event, feature.denominator, {})]
            return _ratio(feature, len(self.inside(matching, days)), len(self.inside(below, days)))
        if measure == "active_days":
            return len(self.days(matching, days))
        if measure == "breadth":
            return len({event.name for event in self.inside(matching, days)})
        if measure in ("max", "weekday", "weekend_share", "hour"):
            return self.habit(feature, self.inside(matching, days))
        return self.other(feature, matching, visible, days)

    def other(self, feature: FeatureSpec, matching: list[Event], visible: list[Event], days: int) -> int | None:
        match feature.measure:
            case "streak":
                return self.streak(matching, days)
            case "longest_gap":
                return self.longest_gap(matching, days)
            case "baseline":
                return self.baseline(feature, matching, days)
            case "recency":
                return self.recency(matching)
            case "tenure":
                return self.tenure(matching)
            case "nth":
                return self.until_nth(matching, feature.nth or 0)
            case "last":
                return _last(matching, feature.value_property or "")
            case "attribute":
                return _attribute(feature, visible)
        return self.engagement(feature, visible, days)

    def engagement(self, feature: FeatureSpec, visible: list[Event], days: int) -> int:
        total = 0
        for part in feature.components:
            events = [event for event in visible if _matches(event, part.events, {})]
            x = len(self.inside(events, days)) if part.measure == "count" else len(self.days(events, days))
            total += part.weight * min(x, part.cap) // part.cap
        return total

    def inside(self, events: list[Event], days: int) -> list[Event]:
        return [event for event in events if event.effective_at_us >= self.edge(days, days)]

    def days(self, events: list[Event], days: int) -> set[date]:
        first = self.today - timedelta(days=days)
        return {day for event in events if first <= (day := self.day(event.effective_at_us)) <= self.today}

    def streak(self, events: list[Event], days: int) -> int:
        active = self.days(events, days)
        day = self.today if self.today in active else self.today - timedelta(days=1)
        length = 0
        while day in active:
            length += 1
            day -= timedelta(days=1)
        return length

    def longest_gap(self, events: list[Event], days: int) -> int:
        active, gaps, gap = self.days(events, days), [0], 0
        for back in range(days + 1):
            gap = 0 if self.today - timedelta(days=back) in active else gap + 1
            gaps.append(gap)
        return max(gaps)

    def baseline(self, feature: FeatureSpec, events: list[Event], days: int) -> int:
        own = len([event for event in events if event.effective_at_us >= self.edge(90, 90)])
        if own == 0:
            return feature.zero_over_zero
        return min(feature.cap, 1000 * 90 * len(self.inside(events, days)) // (days * own))

    def habit(self, feature: FeatureSpec, inside: list[Event]) -> int | None:
        if feature.measure == "max":
            values = [e.measures[feature.value_property or ""] for e in inside if feature.value_property in e.measures]
            return max(values) if values else None
        if feature.measure == "hour":
            return _most([self.hour(event.effective_at_us) for event in inside])
        weekdays = [self.day(event.effective_at_us).isoweekday() for event in inside]
        if feature.measure == "weekday":
            return _most(weekdays)
        if not weekdays:
            return feature.zero_over_zero
        return 1000 * len([day for day in weekdays if day >= 6]) // len(weekdays)

    def hour(self, instant_us: int) -> int:
        begun = instant_us - instant_us % 3_600_000_000
        return min(23, (begun - _first_instant(self.day(begun), self.time_zone)) // 3_600_000_000)

    def until_nth(self, events: list[Event], nth: int) -> int | None:
        instants = sorted(event.effective_at_us for event in events)
        return (self.day(instants[nth - 1]) - self.day(instants[0])).days if len(instants) >= nth else None

    def recency(self, events: list[Event]) -> int | None:
        if not events:
            return None
        last = max(event.effective_at_us for event in events)
        hours = (self.t_us - last) // 3_600_000_000
        days = (self.today - self.day(last)).days
        if hours < 48:
            return hours
        return max(48, 24 * days) if days <= 91 else 24 * min(366, 7 * (days // 7))

    def tenure(self, events: list[Event]) -> int | None:
        if not events:
            return None
        days = (self.today - self.day(min(event.effective_at_us for event in events))).days
        return days if days <= 91 else min(3660, 7 * (days // 7))


@lru_cache
def _zone(name: str) -> ZoneInfo:
    """From the pinned tzdata package, whatever the machine's own zone files say."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=4096)
def _first_instant(day: date, time_zone: str) -> int:
    """The first minute whose local date is `day` or, where that day was skipped, a later one."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=16)
    while at.astimezone(_zone(time_zone)).date() < day:
        at += timedelta(minutes=1)
    return _micros(at)


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _matches(event: Event, names: tuple[str, ...], where: dict[str, str]) -> bool:
    if not event.catalogued or event.name not in names:
        return False
    for key, wanted in where.items():
        found = event.properties.get(key)
        if isinstance(found, bool):
            found = "true" if found else "false"
        if not isinstance(found, str) or found != wanted:
            return False
    return True


def _most(values: list[int]) -> int | None:
    """The most frequent value, the smallest of equally frequent ones."""
    return min(set(values), key=lambda value: (-values.count(value), value)) if values else None


def _last(events: list[Event], name: str) -> int | None:
    carrying = [event for event in events if name in event.measures]
    return max(carrying, key=lambda event: event.order_key).measures[name] if carrying else None


def _ratio(feature: FeatureSpec, above: int, below: int) -> int:
    if below == 0:
        return feature.zero_over_zero if above == 0 else feature.x_over_zero
    return min(feature.cap, 1000 * above // below)


def _attribute(feature: FeatureSpec, visible: list[Event]) -> int | None:
    name = feature.attribute or ""
    stating = [event for event in visible if event.kind == "identify" and name in event.traits]
    if not stating:
        return None
    found: Any = max(stating, key=lambda event: event.order_key).traits[name]
    if found is None:
        return None
    if feature.categories:
        return _category(found, feature.categories)
    if isinstance(found, bool):
        return int(found)
    if not isinstance(found, int | float) or not math.isfinite(found) or abs(found) > 2**53:
        return None
    return math.floor(found)


def _category(found: Any, categories: tuple[str, ...]) -> int:
    if isinstance(found, bool):
        text = "true" if found else "false"
    elif isinstance(found, str):
        text = found
    elif isinstance(found, int | float) and found == math.floor(found):
        text = str(int(found))
    else:
        return -1
    return list(categories).index(text) if text in categories else -1
