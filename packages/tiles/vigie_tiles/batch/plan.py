"""The SQL of the batch engine: event sets as bits, edges of windows, aggregates, and the value of each feature."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import BASELINE_DAYS, HOUR_WINDOW_DAYS, FeatureSpec
from vigie_contracts.instants import HOUR_US

DAY_BITS = 91
BITS_A_COLUMN = 62
MOST_NAMES_BY_BITS = 120


class Plan:
    """Which event sets, edges and aggregates a list of features needs, and the SQL of each value."""

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        self.sets: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], int] = {}
        self.measures: list[str] = []
        self.hour_edges: set[int] = set()
        self.day_edges: set[int] = set()
        self.needs_hours = any(feature.measure == "hour" for feature in features)
        self.counts_names = any(feature.measure == "breadth" for feature in features)
        self.breaks_ties = any(feature.measure == "last" for feature in features)
        self.aggregates: dict[str, str] = {}
        self.values: list[tuple[FeatureSpec, str]] = []
        self._features = [feature for feature in features if feature.measure != "attribute"]
        self.names = sorted({name for feature in self._features for name in _names_of(feature)})
        for feature in self._features:
            self.values.append((feature, self._value(feature)))

    def name_rows(self) -> pa.Table:
        """By event name: its index `n`, and in `u0`, `u1` … the bits of the event sets that take every event of it."""
        columns: dict[str, list[Any]] = {"name": self.names, "n": list(range(len(self.names)))}
        for column in range(self._columns):
            bits = dict.fromkeys(self.names, 0)
            for (names, where), number in self.sets.items():
                if not where and number // BITS_A_COLUMN == column:
                    for name in names:
                        bits[name] |= 1 << number % BITS_A_COLUMN
            columns[f"u{column}"] = list(bits.values())
        types = {"name": pa.string()}
        return pa.table({name: pa.array(found, types.get(name, pa.int64())) for name, found in columns.items()})

    def bit_columns(self) -> list[str]:
        """SQL of the bit masks of an event's sets, `BITS_A_COLUMN` sets each, over a row of `name_rows`."""
        columns = [[f"u{column}"] for column in range(self._columns)]
        for (names, where), number in self.sets.items():
            if not where:
                continue
            tests = [f"name IN ({', '.join(text(name) for name in names)})"]
            for key, value in where:
                path = text('$."' + plain(key) + '"')
                tests.append(f"json_type(properties, {path}) IN ('VARCHAR', 'BOOLEAN')")
                tests.append(f"json_extract_string(properties, {path}) = {text(value)}")
            bit = 1 << number % BITS_A_COLUMN
            columns[number // BITS_A_COLUMN].append(f"(CASE WHEN {' AND '.join(tests)} THEN {bit} ELSE 0 END)")
        return [" | ".join(column) for column in columns]

    @property
    def _columns(self) -> int:
        return len(self.sets) // BITS_A_COLUMN + 1

    def _value(self, feature: FeatureSpec) -> str:
        make: dict[str, Callable[[FeatureSpec], str]] = {
            "count": lambda row: self._count(row.events, row.where, row.window_days or 0),
            "sum": self._sum,
            "trend": self._trend,
            "rate": self._rate,
            "active_days": self._active_days,
            "streak": self._streak,
            "longest_gap": self._longest_gap,
            "baseline": self._baseline,
            "max": self._max,
            "weekday": lambda row: self._most(self._counted(row, "(e.day + 3) % 7", 7), 1),
            "weekend_share": self._weekend_share,
            "hour": lambda row: self._most(self._counted(row, "e.hour", 24), 0),
            "nth": self._nth,
            "last": self._last,
            "breadth": self._breadth,
            "recency": self._recency,
            "tenure": self._tenure,
            "engagement": self._engagement,
        }
        return make[feature.measure](feature)

    def _member(self, names: tuple[str, ...], where: dict[str, str]) -> str:
        number = self.sets.setdefault((names, tuple(sorted(where.items()))), len(self.sets))
        return f"(e.b{number // BITS_A_COLUMN} & {1 << number % BITS_A_COLUMN}) != 0"

    def _edge(self, days: int, window_days: int) -> str:
        (self.hour_edges if window_days in HOUR_WINDOW_DAYS else self.day_edges).add(days)
        return f"e{days}"

    def _aggregated(self, sql: str) -> str:
        for name, known in self.aggregates.items():
            if known == sql:
                return name
        name = f"a{len(self.aggregates)}"
        self.aggregates[name] = sql
        return name

    def _count(self, names: tuple[str, ...], where: dict[str, str], window_days: int) -> str:
        edge = self._edge(window_days, window_days)
        return self._aggregated(f"count(*) FILTER (WHERE {self._member(names, where)} AND e.eff >= l.{edge})")

    def _previous(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        near, far = self._edge(days, days), self._edge(2 * days, days)
        return self._aggregated(
            f"count(*) FILTER (WHERE {self._member(feature.events, feature.where)}"
            f" AND e.eff >= l.{far} AND e.eff < l.{near})"
        )

    def _inside(self, feature: FeatureSpec, also: str = "") -> str:
        """FILTER of the feature's events in its window."""
        days = feature.window_days or 0
        edge = self._edge(days, days)
        return f"FILTER (WHERE {self._member(feature.events, feature.where)} AND e.eff >= l.{edge}{also})"

    def _measured(self, feature: FeatureSpec) -> str:
        """The column of the feature's property, null in an event without it."""
        name = feature.value_property or ""
        if name not in self.measures:
            self.measures.append(name)
        return f"e.v{self.measures.index(name)}"

    def _sum(self, feature: FeatureSpec) -> str:
        return f"coalesce({self._aggregated(f'sum({self._measured(feature)}) {self._inside(feature)}')}, 0)"

    def _max(self, feature: FeatureSpec) -> str:
        return self._aggregated(f"max({self._measured(feature)}) {self._inside(feature)}")

    def _last(self, feature: FeatureSpec) -> str:
        column = self._measured(feature)
        return self._aggregated(
            f"arg_max({column}, (e.eff, e.known, e.source_id, e.event_id)) FILTER"
            f" (WHERE {self._member(feature.events, feature.where)} AND {column} IS NOT NULL)"
        )

    def _nth(self, feature: FeatureSpec) -> str:
        first = self._aggregated(
            f"min(e.day, {feature.nth}) FILTER (WHERE {self._member(feature.events, feature.where)})"
        )
        return f"CASE WHEN len({first}) = {feature.nth} THEN {first}[{feature.nth}] - {first}[1] END"

    def _baseline(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        recent = self._count(feature.events, feature.where, days)
        own = self._count(feature.events, feature.where, BASELINE_DAYS)
        ratio = f"least({feature.cap}, {1000 * BASELINE_DAYS} * {recent} // ({days} * {own}))"
        return f"CASE WHEN {own} > 0 THEN {ratio} ELSE {feature.zero_over_zero} END"

    def _counted(self, feature: FeatureSpec, of: str, size: int) -> list[str]:
        """Counts of the window's events by a number from 0 to size - 1."""
        return [
            self._aggregated(f"count(*) {self._inside(feature, f' AND {of} = {number}')}") for number in range(size)
        ]

    def _most(self, counts: list[str], first: int) -> str:
        """The first place with the greatest count, null when all are 0."""
        listed, most = f"[{', '.join(counts)}]", f"greatest({', '.join(counts)})"
        return f"CASE WHEN {most} > 0 THEN list_position({listed}, {most}) + {first - 1} END"

    def _weekend_share(self, feature: FeatureSpec) -> str:
        weekend = self._aggregated(f"count(*) {self._inside(feature, ' AND (e.day + 3) % 7 >= 5')}")
        whole = self._aggregated(f"count(*) {self._inside(feature)}")
        return f"CASE WHEN {whole} > 0 THEN 1000 * {weekend} // {whole} ELSE {feature.zero_over_zero} END"

    def _longest_gap(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        seen = self._aggregated(
            f"list(DISTINCT e.day) FILTER (WHERE {self._member(feature.events, feature.where)}"
            f" AND e.day >= l.today - {days})"
        )
        ends = f"list_sort(list_concat([today - {days + 1}, today + 1], coalesce({seen}, [])))"
        gaps = f"list_transform(list_zip({ends}[2:], {ends}[:-2]), lambda pair: pair[1] - pair[2] - 1)"
        return f"list_max({gaps})"

    def _ratio(self, feature: FeatureSpec, above: str, below: str) -> str:
        return (
            f"CASE WHEN {below} > 0 THEN least({feature.cap}, 1000 * {above} // {below})"
            f" WHEN {above} > 0 THEN {feature.x_over_zero} ELSE {feature.zero_over_zero} END"
        )

    def _trend(self, feature: FeatureSpec) -> str:
        now = self._count(feature.events, feature.where, feature.window_days or 0)
        return self._ratio(feature, now, self._previous(feature))

    def _rate(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        above = self._count(feature.events, feature.where, days)
        return self._ratio(feature, above, self._count(feature.denominator, {}, days))

    def _days(self, names: tuple[str, ...], where: dict[str, str], window_days: int) -> str:
        bits = self._aggregated(
            f"bit_or(1::HUGEINT << least(l.today - e.day, 100)::HUGEINT) FILTER"
            f" (WHERE {self._member(names, where)} AND l.today - e.day < {DAY_BITS})"
        )
        return f"(coalesce({bits}, 0) & {(1 << window_days + 1) - 1}::HUGEINT)"

    def _active_days(self, feature: FeatureSpec) -> str:
        return f"bit_count({self._days(feature.events, feature.where, feature.window_days or 0)})::BIGINT"

    def _streak(self, feature: FeatureSpec) -> str:
        days = self._days(feature.events, feature.where, feature.window_days or 0)
        run = f"(CASE WHEN {days} & 1::HUGEINT = 1 THEN {days} ELSE {days} >> 1::HUGEINT END)"
        return f"bit_count({run} & ~({run} + 1))::BIGINT"

    def _breadth(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        inside = f"FILTER (WHERE {self._member(feature.events, feature.where)} AND e.eff >= l.{self._edge(days, days)})"
        if len(self.names) > MOST_NAMES_BY_BITS:
            return self._aggregated(f"count(DISTINCT e.n) {inside}")
        return f"bit_count(coalesce({self._aggregated(f'bit_or(1::HUGEINT << e.n::HUGEINT) {inside}')}, 0))::BIGINT"

    def _recency(self, feature: FeatureSpec) -> str:
        inside = f"FILTER (WHERE {self._member(feature.events, feature.where)})"
        last, day = self._aggregated(f"max(e.eff) {inside}"), self._aggregated(f"max(e.day) {inside}")
        hours, days = f"((t - {last}) // {HOUR_US})", f"(today - {day})"
        return (
            f"CASE WHEN {last} IS NULL THEN NULL WHEN {hours} < 48 THEN {hours}"
            f" WHEN {days} <= 91 THEN greatest(48, 24 * {days}) ELSE 24 * least(366, 7 * ({days} // 7)) END"
        )

    def _tenure(self, feature: FeatureSpec) -> str:
        first = self._aggregated(f"min(e.day) FILTER (WHERE {self._member(feature.events, feature.where)})")
        days = f"(today - {first})"
        return (
            f"CASE WHEN {first} IS NULL THEN NULL WHEN {days} <= 91 THEN {days} ELSE least(3660, 7 * ({days} // 7)) END"
        )

    def _engagement(self, feature: FeatureSpec) -> str:
        days = feature.window_days or 0
        parts = []
        for part in feature.components:
            x = (
                self._count(part.events, {}, days)
                if part.measure == "count"
                else f"bit_count({self._days(part.events, {}, days)})::BIGINT"
            )
            parts.append(f"({part.weight} * least({x}, {part.cap}) // {part.cap})")
        return " + ".join(parts) or "0"


def _names_of(feature: FeatureSpec) -> set[str]:
    parts = {name for part in feature.components for name in part.events}
    return {*feature.events, *feature.denominator, *parts}


def text(value: str) -> str:
    """A string of SQL."""
    return "'" + value.replace("'", "''") + "'"


def plain(name: str) -> str:
    """A name that may stand in a JSON path; InvalidInput for one with quotes."""
    if '"' in name or "\\" in name:
        raise InvalidInput(f"a property or attribute name may not contain quotes: {name!r}")
    return name
