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
from vigie_contracts.features import WINDOW_DAYS, FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US, SECOND_US, from_micros, to_micros

from vigie_tiles.batch.plan import Plan, plain, text

FURTHEST_EDGE_DAYS = 2 * max(WINDOW_DAYS)

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
        self._db.execute(f"SET threads = {threads}; SET memory_limit = '{memory}'; SET enable_progress_bar = false")
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
            self._plan = Plan(features)
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
        names, parts = ", ".join(schema.names), [f"SELECT * FROM {view}_tail"]
        if files:
            listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
            parts.insert(0, f"SELECT * FROM read_parquet([{listed}], union_by_name = true)")  # older files lack columns
        everything = " UNION ALL BY NAME ".join(parts)
        self._db.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT {names} FROM ({everything})")

    def _prepare_events(self) -> None:
        """Distil what the features need, once: who, when, which event sets (bits), local day, measures."""
        plan = self._plan
        low, high = self._row(
            "SELECT coalesce(min(effective_at_us), 0), coalesce(max(effective_at_us), 0) FROM all_events"
        )
        self._calendar(low, high)
        columns = [f"{sql} AS b{number}" for number, sql in enumerate(plan.bit_columns())]
        columns += [f"measures[{text(name)}] AS v{number}" for number, name in enumerate(plan.measures)]
        columns += ["n"] if plan.counts_names else []
        columns += ["source_id", "event_id"] if plan.breaks_ties else []
        self._db.register("name_rows", plan.name_rows())
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE ev AS SELECT x.*, c.day FROM ("
            " SELECT member_id, number, known_at_us AS known, effective_at_us AS eff, "
            + ", ".join(columns)
            + " FROM all_events JOIN name_rows USING (name) WHERE catalogued) x"
            " ASOF JOIN days c ON x.eff >= c.start"
        )
        if plan.needs_hours:
            self._db.execute(
                "CREATE OR REPLACE TEMP TABLE ev AS"
                f" SELECT x.* EXCLUDE (begun), least(23, (x.begun - c.start) // {HOUR_US}) AS hour"
                f" FROM (SELECT *, eff - ((eff % {HOUR_US}) + {HOUR_US}) % {HOUR_US} AS begun FROM ev) x"
                " ASOF JOIN days c ON x.begun >= c.start"
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
        inner = f"SELECT {', '.join(['l.row', *parts])}{joined} GROUP BY l.row"
        outer = ", ".join(f"{sql} AS {_name(feature.key)}" for feature, sql in self._plan.values)
        return self._db.sql(
            f"SELECT {outer or 'row AS nothing'} FROM ({inner}) JOIN label USING (row) ORDER BY row"
        ).to_arrow_table()

    def _attributes(self, features: list[FeatureSpec]) -> dict[str, pa.Array]:
        found: dict[str, pa.Array] = {}
        for feature in features:
            path = text('$."' + plain(feature.attribute or "") + '"')
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


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
