"""A table of a mapping compiled and read: row -> import record, or the reason why not."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from vigie_contracts.errors import InvalidInput
from vigie_contracts.imports import ImportRecord

from vigie_cli.importing.cells import (
    BadCell,
    Cell,
    Columns,
    Moment,
    Text,
    as_text,
    cell,
    columns_in,
    moment,
    required,
    template,
)
from vigie_cli.importing.mapping import Filter, Instant, Join, Lookup, Mapping, Table, Value
from vigie_cli.importing.mended import mended_source
from vigie_cli.importing.report import RowRefusal
from vigie_cli.importing.sources import Broken, Damaged, Row, Source

Keep = Callable[[Row, int], bool]
Record = Callable[[Row, int], ImportRecord | None]
Outcome = tuple[int, ImportRecord | RowRefusal | None, Row | Broken]
"""Row number; its record, its refusal, or None for a row that is left out; the row as it was read."""


_JSON = frozenset((str, int, float, bool))


class FirstEvents:
    """The earliest event of each customer in this import, for profiles that are effective from then."""

    def __init__(self) -> None:
        self._first: dict[tuple[str | None, str | None], int] = {}

    def see(self, record: ImportRecord) -> None:
        """Remember an event."""
        key = (record.user_id, record.anonymous_id)
        before = self._first.get(key)
        if before is None or record.effective_at_us < before:
            self._first[key] = record.effective_at_us

    def of(self, user_id: str | None, anonymous_id: str | None) -> int:
        """The instant; BadCell when the customer has no event."""
        found = self._first.get((user_id, anonymous_id))
        if found is None:
            raise BadCell(None, "the customer has no event in this import, so there is no `first_event`")
        return found


class Reader:
    """Reads the tables of a mapping over a folder. Lookups are read once, when first needed.

    With `mended`, a folder of refused rows that were mended, the rows come from there and only lookups from `folder`.
    """

    def __init__(self, folder: Path, mapping: Mapping, mended: Path | None = None) -> None:
        self.mapping = mapping
        self.first_events = FirstEvents()
        self._folder = folder
        self._mended = mended
        self._lookups: dict[str, tuple[Lookup, dict[tuple[str, ...], Row]]] = {}
        self._sources: dict[str, Source | None] = {}

    @property
    def needs_first_events(self) -> bool:
        """Whether any table asks for them."""
        return any(table.effective_at == "first_event" for table in self.mapping.table)

    def tables(self) -> list[Table]:
        """In the order of the file, those that ask for first events last; of mended rows only those that have some."""
        found = [table for table in self.mapping.table if self._source(table) is not None]
        return sorted(found, key=lambda table: table.effective_at == "first_event")

    def source(self, table: Table) -> Source:
        """The file of a table, among those of `tables()`."""
        found = self._source(table)
        assert found is not None
        return found

    def check(self) -> None:
        """InvalidInput, one line for each table, unless every table and lookup fits its file. Reads no rows."""
        problems: list[str] = []
        for table in self.mapping.table:
            try:
                source = self._source(table)
                if source is not None and source.columns:
                    self._compiled(table, source)
            except InvalidInput as error:
                problems.append(error.message)
        if problems:
            raise InvalidInput("\n".join(problems))

    def see_first_events(self) -> None:
        """Read the events of the original files, for mended profiles that are effective from the first one."""
        original = Reader(self._folder, self.mapping)
        original.first_events = self.first_events
        for table in original.tables():
            if table.kind == "event":
                deque(original.outcomes(table), maxlen=0)

    def outcomes(self, table: Table) -> Iterator[Outcome]:
        """Every row of the table in order; InvalidInput before the first one when the mapping does not fit, Damaged
        where the file cannot be read on."""
        source = self.source(table)
        return self._outcomes(table, source) if source.columns else iter(())

    def _source(self, table: Table) -> Source | None:
        if table.title not in self._sources:
            found = mended_source(self._mended, table) if self._mended else Source(self._folder, table)
            self._sources[table.title] = found
        return self._sources[table.title]

    def _outcomes(self, table: Table, source: Source) -> Iterator[Outcome]:
        keep, record = self._compiled(table, source)
        seen = self.first_events.see if self.needs_first_events and table.kind == "event" else None
        for number, row in source.numbered():
            if isinstance(row, Broken):
                yield number, RowRefusal(table.file, number, None, row.reason), row
                continue
            try:
                found = record(row, number) if row and keep(row, number) else None
            except BadCell as error:
                yield number, RowRefusal(table.file, number, error.column, error.reason), row
                continue
            if seen is not None and found is not None:
                seen(found)
            yield number, found, row

    def _compiled(self, table: Table, source: Source) -> tuple[Keep, Record]:
        where = f"table {table.title!r}" + ("" if table.title == table.file else f" ({table.file})")
        own = Columns(source.columns, where)
        before = [taken for taken in table.where if _needs(taken) <= set(source.columns)]
        after = [taken for taken in table.where if taken not in before]
        keep = _filters(before, own, self.mapping)
        names = [*source.columns]
        joins: list[Callable[[Row, int], Row]] = []
        for join in table.join:
            lookup, rows = self._lookup(join.lookup)
            names += [f"{lookup.name}.{column}" for column in lookup.columns]
            joins.append(_join(join, rows, len(lookup.columns), own))
        columns = Columns(names, where)
        make = _Maker(table, columns, self.mapping, self.first_events)
        return keep, _recorder(make, joins, _filters(after, columns, self.mapping) if after else None)

    def _lookup(self, name: str) -> tuple[Lookup, dict[tuple[str, ...], Row]]:
        if name not in self._lookups:
            lookup = next(lookup for lookup in self.mapping.lookup if lookup.name == name)
            self._lookups[name] = (lookup, _read_lookup(lookup, Source(self._folder, lookup)))
        return self._lookups[name]


def read_records(folder: Path, mapping: Mapping) -> Iterator[ImportRecord | RowRefusal]:
    """All records and refusals of a mapping, table after table: for whoever wants to send them by another way."""
    reader = Reader(folder, mapping)
    for table in reader.tables():
        for _number, found, _row in reader.outcomes(table):
            if found is not None:
                yield found


class _Maker:
    """A table's expressions, compiled."""

    def __init__(self, table: Table, columns: Columns, mapping: Mapping, first_events: FirstEvents) -> None:
        self._identify = table.kind == "profile"
        self._name = _event_name(table, columns)
        self._user = template(table.user_id, columns) if table.user_id else None
        self._anonymous = template(table.anonymous_id, columns) if table.anonymous_id else None
        self._event_id = required(table.event_id or f"{table.title}:{{row}}", columns, "event_id")
        self._first_events = first_events
        self._effective = (
            moment(table.effective_at, columns, mapping.maps) if isinstance(table.effective_at, Instant) else None
        )
        self._known = _known(table, columns, mapping)
        self._channel = template(table.channel, columns) if table.channel else None
        self._properties = _cells(table.properties, columns)
        self._attributes = _cells(table.attributes, columns)
        self._consent = _cells({name: _boolean(rule) for name, rule in table.consent.items()}, columns)

    def record(self, row: Row, number: int) -> ImportRecord:
        """The row's record; BadCell when it has none."""
        user_id = self._user(row, number) if self._user else None
        anonymous_id = self._anonymous(row, number) if self._anonymous else None
        if user_id is None and anonymous_id is None:
            raise BadCell("user_id", "is empty: the row belongs to nobody")
        if self._effective is None:
            effective_us = self._first_events.of(user_id, anonymous_id)
        else:
            effective_us = self._effective(row, number)
        return ImportRecord(
            kind="identify" if self._identify else "track",
            event_id=self._event_id(row, number),
            effective_at_us=effective_us,
            name="" if self._identify else self._name(row, number),
            user_id=user_id,
            anonymous_id=anonymous_id,
            known_at_us=self._known(row, number) if self._known else None,
            channel=self._channel(row, number) if self._channel else None,
            properties=_values(self._properties, row, number) if self._properties else {},
            traits=_values(self._attributes, row, number) if self._attributes else {},
            consent=_values(self._consent, row, number) if self._consent else {},
        )


def _event_name(table: Table, columns: Columns) -> Callable[[Row, int], str]:
    if table.event is not None:
        name = table.event
        return lambda _row, _number: name
    return required(f"{{{table.event_column}}}", columns, "event") if table.event_column else lambda _row, _number: ""


def _known(table: Table, columns: Columns, mapping: Mapping) -> Moment | None:
    return moment(table.known_at, columns, mapping.maps) if table.known_at else None


def _cells(rules: dict[str, str | Value], columns: Columns) -> list[tuple[str, Cell]]:
    return [(name, cell(rule, columns)) for name, rule in rules.items()]


def _boolean(rule: str | Value) -> Value:
    return Value(column=rule, type="boolean") if isinstance(rule, str) else rule


def _values(cells: list[tuple[str, Cell]], row: Row, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, find in cells:
        value = find(row, number)
        if value is not None:
            found[name] = value if value.__class__ in _JSON else _jsonable(name, value)
    return found


def _jsonable(name: str, value: Any) -> Any:
    if isinstance(value, str | int | float | bool | list | dict):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise BadCell(name, f"a value of the type {type(value).__name__} cannot be kept; leave the column out")


def _filters(filters: Sequence[Filter], columns: Columns, mapping: Mapping) -> Keep:
    tests = [_filter(taken, columns, mapping) for taken in filters]
    if len(tests) == 1:
        return tests[0]
    return lambda row, number: all(test(row, number) for test in tests)


def _recorder(make: _Maker, joins: list[Callable[[Row, int], Row]], keep: Keep | None) -> Record:
    """Row -> record over the joined row; None when a filter on joined columns leaves it out."""
    if not joins and keep is None:
        return make.record

    def find(row: Row, number: int) -> ImportRecord | None:
        joined = _joined(row, number, joins)
        return make.record(joined, number) if keep is None or keep(joined, number) else None

    return find


def _needs(taken: Filter) -> set[str]:
    return {taken.not_empty} if taken.not_empty is not None else set(columns_in(taken.value or ""))


def _filter(taken: Filter, columns: Columns, mapping: Mapping) -> Keep:
    if taken.not_empty is not None:
        place = columns.index(taken.not_empty)
        return lambda row, _number: row[place] is not None
    fill: Text = template(taken.value or "", columns)
    among = mapping.variables[taken.among.removeprefix("$")] if isinstance(taken.among, str) else taken.among
    allowed = frozenset(among)
    return lambda row, number: fill(row, number) in allowed


def _join(join: Join, rows: dict[tuple[str, ...], Row], width: int, columns: Columns) -> Callable[[Row, int], Row]:
    keys = [template(text, columns) for text in join.key]
    nothing: Row = (None,) * width

    def find(row: Row, number: int) -> Row:
        key = tuple(str(text(row, number)) for text in keys)
        found = rows.get(key)
        if found is None and not join.optional:
            raise BadCell(", ".join(join.key), f"{' '.join(key)!r} is not in the lookup {join.lookup!r}")
        return found or nothing

    return find


def _joined(row: Row, number: int, joins: list[Callable[[Row, int], Row]]) -> Row:
    joined = [*row]
    for join in joins:
        joined += join(row, number)
    return joined


def _whole_rows(lookup: Lookup, source: Source) -> Iterator[tuple[int, Row]]:
    """The rows of a lookup, which must be whole: InvalidInput for one that cannot be read."""
    try:
        for number, row in enumerate(source.rows(), start=1):
            if isinstance(row, Broken):
                raise InvalidInput(f"lookup {lookup.name!r}: {lookup.file}, row {number}: {row.reason}")
            if row:
                yield number, row
    except Damaged as error:
        raise InvalidInput(f"lookup {lookup.name!r}: {lookup.file} cannot be read on: {error.message}") from error


def _read_lookup(lookup: Lookup, source: Source) -> dict[tuple[str, ...], Row]:
    columns = Columns(source.columns, f"lookup {lookup.name!r}")
    keys = [columns.index(name) for name in lookup.key]
    values = [columns.index(name) for name in lookup.columns]
    found: dict[tuple[str, ...], Row] = {}
    for number, row in _whole_rows(lookup, source):
        key = tuple(as_text(row[place], name) for place, name in zip(keys, lookup.key, strict=True))
        value = tuple(row[place] for place in values)
        if found.setdefault(key, value) != value:
            raise InvalidInput(
                f"lookup {lookup.name!r}, row {number}: the key {' '.join(key)!r} has two different rows"
            )
    return found
