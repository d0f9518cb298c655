"""The mapping file: which files, which rows, and what their columns mean. Read strictly; errors name the table and key.

A template is text with columns in braces, `{id_student}-{code_module}`; `{row}` is the row's number from 1. A joined
column is `lookup.column`. `$name` in a filter stands for a variable, which the command line may set.
"""

from collections.abc import Mapping as Map
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from vigie_contracts.catalogue import read_toml
from vigie_contracts.errors import InvalidInput

Format = Literal["csv", "jsonl", "parquet"]
ValueType = Literal["as_is", "string", "integer", "decimal", "boolean"]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value: one of `column`, `template`, `constant`; read as `type`. An empty cell gives no value."""

    column: str | None = None
    template: str | None = None
    constant: str | int | float | bool | None = None
    type: ValueType = "as_is"


class Instant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instant, in one of four ways.

    `column`: RFC 3339 text or a timestamp (`time_zone` for those without offset), or a number with `unit`.
    `constant`: RFC 3339 text.
    `base` (a `[maps.NAME]` of dates) looked up by the template `key`, plus whole `days` from a column, at `time` UTC;
    `empty_days` stands for an empty cell.
    `latest_of`: the latest of several.
    """

    column: str | None = None
    unit: Literal["seconds", "milliseconds", "microseconds"] | None = None
    time_zone: str | None = None
    constant: str | None = None
    base: str | None = None
    key: str | None = None
    days: str | None = None
    empty_days: int | None = None
    time: str = "00:00"
    latest_of: list["Instant"] = []
    delay_hours: float = 0.0


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that are taken: the template's value is `among` a list (or a `$variable`), or the column is not empty."""

    value: str | None = None
    among: list[str] | str = []
    not_empty: str | None = None


class Join(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns of a lookup, found by the templates `key`. A row without a match is refused, unless `optional`."""

    lookup: str
    key: list[str]
    optional: bool = False


class Lookup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A small file held in memory: `columns` by `key`. For `delimiter`, `encoding`, `header` see Table."""

    name: str
    file: str
    format: Format | None = None
    delimiter: str = ","
    encoding: str | None = None
    header: list[str] = []
    key: list[str]
    columns: list[str]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input file and what a row of it is.

    `effective_at` is an instant or, for a profile, `"first_event"`: the customer's earliest event in this import.
    `known_at` defaults to `effective_at`. `event_id` defaults to the table's name and the row's number, so that
    importing again doubles nothing. `delimiter` separates the cells of CSV. `encoding` is UTF-8 unless stated; a byte
    order mark says it too. `header` names the columns of CSV without a header line.
    """

    file: str
    name: str | None = None
    format: Format | None = None
    delimiter: str = ","
    encoding: str | None = None
    header: list[str] = []
    kind: Literal["event", "profile"]
    event: str | None = None
    event_column: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    event_id: str | None = None
    effective_at: Instant | Literal["first_event"] | None = None
    known_at: Instant | None = None
    channel: str | None = None
    join: list[Join] = []
    where: list[Filter] = []
    properties: dict[str, str | Value] = {}
    attributes: dict[str, str | Value] = {}
    consent: dict[str, str | Value] = {}

    @property
    def title(self) -> str:
        """How messages and event ids call the table."""
        return self.name or self.file

    @property
    def counts_rows(self) -> bool:
        """Whether its event ids hold the row's number, so that they mean something only for this very file."""
        return self.event_id is None or "{row}" in self.event_id


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole mapping file. `source` is the source id of every record."""

    source: str
    table: list[Table]
    lookup: list[Lookup] = []
    maps: dict[str, dict[str, str]] = {}
    variables: dict[str, list[str]] = {}

    def with_variables(self, values: Map[str, Sequence[str]]) -> "Mapping":
        """The mapping with variables set; InvalidInput names one that it does not declare."""
        unknown = sorted(values.keys() - self.variables.keys())
        if unknown:
            known = ", ".join(sorted(self.variables)) or "none"
            raise InvalidInput(f"the mapping has no variable {unknown[0]!r} (it declares: {known})")
        merged = {**self.variables, **{name: list(value) for name, value in values.items()}}
        return msgspec.structs.replace(self, variables=merged)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file; InvalidInput says which table and key is wrong."""
    mapping = read_toml(path, Mapping)
    if not mapping.table:
        raise InvalidInput(f"{path}: a mapping needs at least one [[table]]")
    for lookup in mapping.lookup:
        if len(lookup.delimiter) != 1:
            raise InvalidInput(f"{path}: lookup {lookup.name!r}: `delimiter` is one character")
    titles = [table.title for table in mapping.table]
    for table in mapping.table:
        where = f"{path}: table {table.title!r}"
        if titles.count(table.title) > 1:
            raise InvalidInput(f"{where}: two tables have this name; give one a `name`")
        _check_table(table, mapping, where)
    return mapping


def _check_table(table: Table, mapping: Mapping, where: str) -> None:
    if len(table.delimiter) != 1:
        raise InvalidInput(f'{where}: `delimiter` is one character, such as ";" or "\\t"')
    if table.user_id is None and table.anonymous_id is None:
        raise InvalidInput(f"{where}: say whose the rows are by `user_id` or `anonymous_id`")
    if table.kind == "event":
        _check_event(table, where)
    else:
        _check_profile(table, where)
    names = {lookup.name for lookup in mapping.lookup}
    for join in table.join:
        if join.lookup not in names:
            raise InvalidInput(f"{where}: no [[lookup]] is named {join.lookup!r}")
    for instant in (table.effective_at, table.known_at):
        if isinstance(instant, Instant):
            _check_instant(instant, mapping, where)
    for taken in table.where:
        _check_filter(taken, mapping, where)


def _check_event(table: Table, where: str) -> None:
    if (table.event is None) == (table.event_column is None):
        raise InvalidInput(f"{where}: an event needs either `event` or `event_column`")
    if not isinstance(table.effective_at, Instant):
        raise InvalidInput(f"{where}: an event needs `effective_at`: a column, a constant or a base date")
    if table.attributes or table.consent:
        raise InvalidInput(f'{where}: `attributes` and `consent` belong to kind = "profile"')


def _check_profile(table: Table, where: str) -> None:
    if table.effective_at is None:
        raise InvalidInput(
            f'{where}: a profile must state `effective_at` (a column, a constant or "first_event"):'
            " without it nobody could say what was known when"
        )
    if table.event or table.event_column or table.properties:
        raise InvalidInput(f'{where}: `event` and `properties` belong to kind = "event"')


def _check_instant(instant: Instant, mapping: Mapping, where: str) -> None:
    ways = [instant.column, instant.constant, instant.base, instant.latest_of or None]
    if sum(way is not None for way in ways) != 1:
        raise InvalidInput(f"{where}: an instant is one of `column`, `constant`, `base`, `latest_of`")
    if instant.base is not None and (instant.base not in mapping.maps or instant.key is None):
        raise InvalidInput(f"{where}: `base` needs a [maps.{instant.base}] of dates and a `key`")
    for part in instant.latest_of:
        _check_instant(part, mapping, where)


def _check_filter(taken: Filter, mapping: Mapping, where: str) -> None:
    if (taken.value is None) == (taken.not_empty is None):
        raise InvalidInput(f"{where}: a filter is either `value` with `among`, or `not_empty`")
    if isinstance(taken.among, str) and taken.among.removeprefix("$") not in mapping.variables:
        raise InvalidInput(f"{where}: {taken.among!r} is no variable; declare it in [variables]")
