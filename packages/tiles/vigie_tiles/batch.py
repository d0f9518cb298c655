"""The batch engine: feature vectors of any customer at any past (t, pos), by DuckDB over the Parquet archive.

It implements docs/features.md and shares no code with the oracle or the stream kernel. A label row joins its customer's
members (by the map known at t), these join their visible events, and every feature is an integer aggregate of them.
Days are bits of a 128-bit integer (bit 0 is the label's day), event sets are bits of a 64-bit one.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.events import Event, LogRecord, MapChanged, Position
from vigie_contracts.features import HOUR_WINDOW_DAYS, WINDOW_DAYS, FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US, SECOND_US, from_micros, to_micros

DAY_BITS = 91
FURTHEST_EDGE_DAYS = 2 * max(WINDOW_DAYS)
BITS_A_COLUMN = 62
MOST_NAMES_BY_BITS = 120

EVENT_SCHEMA = pa.schema(
    [
        ("lane", pa.int32()),
        ("number", pa.int64()),
        ("member_id", pa.string()),
        ("partition", pa.int32()),
        ("event_id", pa.string()),
        ("source_id", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("catalogued", pa.bool_()),
        ("anonymous_id", pa.string()),
        ("user_id", pa.string()),
        ("received_at_us", pa.int64()),
        ("known_at_us", pa.int64()),
        ("timestamp_us", pa.int64()),
        ("effective_at_us", pa.int64()),
        ("channel", pa.string()),
        ("properties", pa.string()),
        ("measures", pa.map_(pa.string(), pa.int64())),
        ("traits", pa.string()),
        ("context", pa.string()),
        ("backfilled", pa.bool_()),
    ]
)
MOVE_SCHEMA = pa.schema(
    [
        ("lane", pa.int32()),
        ("number", pa.int64()),
        ("member_id", pa.string()),
        ("from_customer_id", pa.string()),
        ("to_customer_id", pa.string()),
        ("known_at_us", pa.int64()),
    ]
)


class Batch:
    """Vectors over an archive and, optionally, the log's records behind the archive's end (`tail`).

    The archive is read as its manifest lists it at construction. Not safe for concurrent use. `labels_at_once` rows
    are joined with their events at a time; fewer need less memory.
    """

    def __init__(
        self,
        archive: Path,
        table: FeatureTable,
        time_zone: str,
        tail: Sequence[tuple[Position, LogRecord]] = (),
        *,
        threads: int = 2,
        memory: str = "4GB",
        labels_at_once: int = 20_000,
    ) -> None:
        self._table = table
        self._labels_at_once = labels_at_once
        self._zone = _zone(time_zone)
        self._db = duckdb.connect()
        self._db.execute(f"SET threads = {threads}; SET memory_limit = '{memory}'")
        self._db.execute("SET preserve_insertion_order = false")
        self.end, files = read_manifest(archive)
        self._load(
            "all_events",
            [archive / name for kind, name in files if kind == "events"],
            EVENT_SCHEMA,
            _event_rows(tail, self.end),
        )
        self._load(
            "all_moves",
            [archive / name for kind, name in files if kind == "map"],
            MOVE_SCHEMA,
            _move_rows(tail, self.end),
        )
        self._prepared: tuple[FeatureSpec, ...] | None = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, with the views `all_events` and `all_moves`."""
        return self._db

    def vectors(self, labels: pa.Table, features: Sequence[FeatureSpec] | None = None) -> pa.Table:
        """One row a label row, in the same order, with an int64 column (nullable) for each feature's key.

        `labels` has `customer_id` (string), `t_us` (int64) and optionally `pos` (int64: the last number of lane 0 that
        counts). Without `features` the whole table is answered.
        """
        features = self._table.features if features is None else tuple(features)
        if self._prepared != features:
            self._plan = _Plan(features)
            self._prepare_events()
            self._prepared = features
        chunks = [
            self._chunk(labels.slice(start, self._labels_at_once), features)
            for start in range(0, max(labels.num_rows, 1), self._labels_at_once)
        ]
        return pa.concat_tables(chunks)

    def close(self) -> None:
        """Free the memory of the query engine."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _load(self, view: str, files: list[Path], schema: pa.Schema, extra: list[dict[str, Any]]) -> None:
        more = pa.Table.from_pylist(extra, schema=schema)
        self._db.register(f"{view}_tail", more)
        parts = [f"SELECT * FROM {view}_tail"]
        if files:
            listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
            names = ", ".join(schema.names)
            parts.insert(0, f"SELECT {names} FROM read_parquet([{listed}])")
        self._db.execute(f"CREATE OR REPLACE VIEW {view} AS {' UNION ALL BY NAME '.join(parts)}")

    def _prepare_events(self) -> None:
        """Distil what the features need, once: who, when, which event sets (bits), local day, measures."""
        plan = self._plan
        low, high = self._row(
            "SELECT coalesce(min(effective_at_us), 0), coalesce(max(effective_at_us), 0) FROM all_events"
        )
        self._calendar(low, high)
        columns = [f"{sql} AS b{number}" for number, sql in enumerate(plan.bit_columns())]
        columns += [f"coalesce(measures[{_text(name)}], 0) AS v{number}" for number, name in enumerate(plan.measures)]
        columns.append(f"{plan.name_index()} AS n")
        names = ", ".join(_text(name) for name in plan.names) or "''"
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE ev AS SELECT x.*, c.day FROM ("
            " SELECT member_id, number, known_at_us AS known, effective_at_us AS eff, "
            + ", ".join(columns)
            + f" FROM all_events WHERE catalogued AND name IN ({names})) x"
            " ASOF JOIN days c ON x.eff >= c.start"
        )
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE stated AS"
            " SELECT member_id, number, known_at_us AS known, effective_at_us AS eff, source_id, event_id, traits"
            " FROM all_events WHERE kind = 'identify'"
        )
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE moves AS"
            " SELECT member_id, to_customer_id, number, known_at_us AS known FROM all_moves"
        )
        self._moved = self._row("SELECT count(*) FROM moves")[0] > 0

    def _row(self, sql: str) -> tuple[int, ...]:
        return tuple(self._db.execute(sql).fetchall()[0])

    def _calendar(self, low_us: int, high_us: int) -> None:
        """Local midnights around the given instants: table calendar(day, start); `days` is without skipped days."""
        first = from_micros(low_us).date() - timedelta(days=FURTHEST_EDGE_DAYS + 2)
        last = from_micros(high_us).date() + timedelta(days=3)
        dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        rows = {
            "day": pa.array([(day - date(1970, 1, 1)).days for day in dates], pa.int64()),
            "start": pa.array([_first_instant(day, self._zone) for day in dates], pa.int64()),
        }
        self._db.register("calendar_rows", pa.table(rows))
        self._db.execute("CREATE OR REPLACE TEMP TABLE calendar AS SELECT * FROM calendar_rows ORDER BY start")
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE days AS SELECT max(day) AS day, start FROM calendar GROUP BY start"
        )

    def _chunk(self, labels: pa.Table, features: tuple[FeatureSpec, ...]) -> pa.Table:
        self._label_rows(labels)
        self._member_rows()
        answer = self._aggregate()
        columns = {feature.key: _column(answer, feature) for feature in features if feature.measure != "attribute"}
        stated = [feature for feature in features if feature.measure == "attribute"]
        columns.update(self._attributes(stated) if stated else {})
        return pa.table({feature.key: columns[feature.key] for feature in features})

    def _label_rows(self, labels: pa.Table) -> None:
        """Table label: row, customer, t, pos, its local day and every edge that a feature needs."""
        count = labels.num_rows
        rows = pa.table(
            {
                "row": pa.array(range(count), pa.int64()),
                "customer": labels["customer_id"].cast(pa.string()),
                "t": labels["t_us"].cast(pa.int64()),
                "pos": labels["pos"].cast(pa.int64()) if "pos" in labels.column_names else pa.nulls(count, pa.int64()),
            }
        )
        if count:
            low, high = self._row("SELECT min(start), max(start) FROM calendar")
            instants = rows["t"].to_numpy()
            if instants.min() - (FURTHEST_EDGE_DAYS + 1) * DAY_US < low or instants.max() > high:
                self._calendar(min(int(instants.min()), low), max(int(instants.max()), high))
        self._db.register("label_rows", rows)
        hours = "".join(
            f", (l.t - {days * 24 * HOUR_US}) // {HOUR_US} * {HOUR_US} AS e{days}" for days in self._plan.hour_edges
        )
        starts = "".join(f", d{days}.start AS e{days}" for days in self._plan.day_edges)
        joins = "".join(f" JOIN calendar d{days} ON d{days}.day = c.day - {days}" for days in self._plan.day_edges)
        self._db.execute(
            f"CREATE OR REPLACE TEMP TABLE label AS SELECT l.row, l.customer, l.t, l.pos, c.day AS today{hours}{starts}"
            f" FROM label_rows l ASOF JOIN days c ON l.t >= c.start{joins}"
        )

    def _member_rows(self) -> None:
        """Table who: the members of each label's customer, as the map was known at t (and pos)."""
        if not self._moved:
            self._db.execute("CREATE OR REPLACE TEMP TABLE who AS SELECT row, customer AS member FROM label")
            return
        self._db.execute("""
            CREATE OR REPLACE TEMP TABLE who AS
            WITH candidate AS (
                SELECT row, customer, t, pos, customer AS member FROM label
                UNION
                SELECT l.row, l.customer, l.t, l.pos, m.member_id
                FROM label l JOIN moves m ON m.to_customer_id = l.customer
            )
            SELECT c.row, c.member
            FROM candidate c LEFT JOIN moves m
              ON m.member_id = c.member AND m.known <= c.t AND (c.pos IS NULL OR m.number <= c.pos)
            GROUP BY c.row, c.customer, c.member
            HAVING coalesce(arg_max(m.to_customer_id, m.number), c.member) = c.customer
        """)

    def _aggregate(self) -> pa.Table:
        parts = [f"{sql} AS {name}" for name, sql in self._plan.aggregates.items()]
        joined = (
            " FROM label l LEFT JOIN (who w JOIN ev e ON e.member_id = w.member) ON w.row = l.row"
            " AND e.known <= l.t AND e.eff < l.t AND (l.pos IS NULL OR e.number <= l.pos)"
        )
        edges = ", ".join(["l.row", "l.t", "l.today"])
        inner = f"SELECT {edges}{''.join(', ' + part for part in parts)}{joined} GROUP BY {edges}"
        outer = ", ".join(f"{sql} AS {_name(feature.key)}" for feature, sql in self._plan.values)
        return self._db.sql(f"SELECT {outer or 'row AS nothing'} FROM ({inner}) ORDER BY row").to_arrow_table()

    def _attributes(self, features: list[FeatureSpec]) -> dict[str, pa.Array]:
        found: dict[str, pa.Array] = {}
        for feature in features:
            path = _text('$."' + _plain(feature.attribute or "") + '"')
            raw = self._db.sql(f"""
                SELECT arg_max(CASE WHEN s.member_id IS NOT NULL THEN json_extract(s.traits, {path})::VARCHAR END,
                               (s.eff, s.known, s.source_id, s.event_id)) AS raw
                FROM label l LEFT JOIN (who w JOIN stated s ON s.member_id = w.member) ON w.row = l.row
                  AND s.known <= l.t AND s.eff < l.t AND (l.pos IS NULL OR s.number <= l.pos)
                  AND json_exists(s.traits, {path})
                GROUP BY l.row ORDER BY l.row
            """).to_arrow_table()["raw"]
            found[feature.key] = _mapped(raw.combine_chunks(), _reading(feature))
        return found


class _Plan:
    """Which event sets, edges and aggregates a list of features needs, and the SQL of each value."""

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        self.sets: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], int] = {}
        self.measures: list[str] = []
        self.hour_edges: set[int] = set()
        self.day_edges: set[int] = set()
        self.aggregates: dict[str, str] = {}
        self.values: list[tuple[FeatureSpec, str]] = []
        self._features = [feature for feature in features if feature.measure != "attribute"]
        self.names = sorted({name for feature in self._features for name in _names_of(feature)})
        for feature in self._features:
            self.values.append((feature, self._value(feature)))

    def bit_columns(self) -> list[str]:
        """SQL of the bit masks of event sets, `BITS_A_COLUMN` sets each."""
        columns: list[list[str]] = [[] for _ in range(len(self.sets) // BITS_A_COLUMN + 1)]
        for (names, where), number in self.sets.items():
            tests = [f"name IN ({', '.join(_text(name) for name in names)})"]
            for key, value in where:
                path = _text('$."' + _plain(key) + '"')
                tests.append(f"json_type(properties, {path}) IN ('VARCHAR', 'BOOLEAN')")
                tests.append(f"json_extract_string(properties, {path}) = {_text(value)}")
            bit = 1 << number % BITS_A_COLUMN
            columns[number // BITS_A_COLUMN].append(f"(CASE WHEN {' AND '.join(tests)} THEN {bit} ELSE 0 END)")
        return [" | ".join(column) if column else "0" for column in columns]

    def name_index(self) -> str:
        """SQL of an event name's index in `names`."""
        cases = " ".join(f"WHEN {_text(name)} THEN {number}" for number, name in enumerate(self.names))
        return f"CASE name {cases} END" if cases else "0"

    def _value(self, feature: FeatureSpec) -> str:
        make: dict[str, Callable[[FeatureSpec], str]] = {
            "count": lambda row: self._count(row.events, row.where, row.window_days or 0),
            "sum": self._sum,
            "trend": self._trend,
            "rate": self._rate,
            "active_days": self._active_days,
            "streak": self._streak,
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

    def _sum(self, feature: FeatureSpec) -> str:
        name = feature.value_property or ""
        if name not in self.measures:
            self.measures.append(name)
        days = feature.window_days or 0
        total = self._aggregated(
            f"sum(e.v{self.measures.index(name)}) FILTER"
            f" (WHERE {self._member(feature.events, feature.where)} AND e.eff >= l.{self._edge(days, days)})"
        )
        return f"coalesce({total}, 0)"

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


def read_manifest(archive: Path) -> tuple[int, list[tuple[str, str]]]:
    """The archive's end (number of lane 0) and its files as (kind, name). A folder without manifest is empty."""
    path = archive / "manifest.json"
    if not path.exists():
        return 0, []
    manifest = json.loads(path.read_bytes())
    if manifest["format"] != 1:
        raise IncompatibleData(f"{path} has format {manifest['format']}; this Vigie reads format 1")
    return int(manifest["end"].get("0", 0)), [(file["kind"], file["name"]) for file in manifest["files"]]


def _zone(name: str) -> ZoneInfo:
    """A time zone of the pinned tzdata package; InvalidInput for a name that is none."""
    try:
        with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name!r} is not the name of a time zone (such as Europe/Paris)") from error


def _first_instant(day: date, zone: ZoneInfo) -> int:
    """The first instant of a local day (microseconds); where clocks jumped over midnight, the instant of the jump."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    at = to_micros(midnight)
    if from_micros(at).astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return at
    seconds = range(at - DAY_US, at, SECOND_US)
    arrived = bisect_left(seconds, True, key=lambda second: from_micros(second).astimezone(zone).date() >= day)
    return at - DAY_US + arrived * SECOND_US


def _event_rows(tail: Sequence[tuple[Position, LogRecord]], end: int) -> list[dict[str, Any]]:
    return [
        {
            "lane": position.lane,
            "number": position.number,
            "member_id": event.member_id,
            "event_id": event.event_id,
            "source_id": event.source_id,
            "kind": event.kind,
            "name": event.name,
            "catalogued": event.catalogued,
            "known_at_us": event.known_at_us,
            "effective_at_us": event.effective_at_us,
            "properties": json.dumps(event.properties),
            "measures": list(event.measures.items()),
            "traits": json.dumps(event.traits),
        }
        for position, event in tail
        if isinstance(event, Event) and position.number > end
    ]


def _move_rows(tail: Sequence[tuple[Position, LogRecord]], end: int) -> list[dict[str, Any]]:
    return [
        {
            "lane": position.lane,
            "number": position.number,
            "member_id": move.member_id,
            "from_customer_id": move.from_customer_id,
            "to_customer_id": move.to_customer_id,
            "known_at_us": record.known_at_us,
        }
        for position, record in tail
        if isinstance(record, MapChanged) and position.number > end
        for move in record.moves
    ]


def _names_of(feature: FeatureSpec) -> set[str]:
    parts = {name for part in feature.components for name in part.events}
    return {*feature.events, *feature.denominator, *parts}


def _column(answer: pa.Table, feature: FeatureSpec) -> pa.ChunkedArray:
    return answer[feature.key].cast(pa.int64())


def _mapped(raw: pa.Array, read: Callable[[str], int | None]) -> pa.Array:
    coded = raw.dictionary_encode()
    values = pa.array([read(text) for text in coded.dictionary.to_pylist()], pa.int64())
    return values.take(coded.indices)


def _reading(feature: FeatureSpec) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        value = json.loads(text)
        if value is None:
            return None
        return _category(value, feature.categories) if feature.categories else _whole(value)

    return read


def _category(value: object, categories: tuple[str, ...]) -> int:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        value = str(int(value))
    elif isinstance(value, int):
        value = str(value)
    return categories.index(value) if isinstance(value, str) and value in categories else -1


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return math.floor(value) if abs(value) <= 2**53 else None


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _plain(name: str) -> str:
    if '"' in name or "\\" in name:
        raise InvalidInput(f"a property or attribute name may not contain quotes: {name!r}")
    return name
