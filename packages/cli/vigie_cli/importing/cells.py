"""Mapping expressions compiled to functions of a row: templates, typed values, instants."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rapidfuzz import fuzz, process
from rapidfuzz.utils import default_process
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US, HOUR_US, to_micros

from vigie_cli.importing.mapping import Instant, Value
from vigie_cli.importing.sources import Row

Text = Callable[[Row, int], str | None]
Cell = Callable[[Row, int], Any]
Moment = Callable[[Row, int], int]

SHOWN_COLUMNS = 30
SHOWN_CHARACTERS = 80
_LATEST_US = to_micros(datetime(9999, 1, 1, tzinfo=UTC))
_PART = re.compile(r"\{([^{}]+)\}")
_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
_TRUE = frozenset(("1", "true", "t", "yes", "y"))
_FALSE = frozenset(("0", "false", "f", "no", "n"))


class BadCell(Exception):
    """A row that cannot be imported: the column (None: the row) and the reason."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def shown(value: Any) -> str:
    """The value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def columns_in(text: str) -> list[str]:
    """The columns that a template names."""
    return [name for name in _PART.findall(text) if name != "row"]


class Columns:
    """Where the columns of a table and its joins lie in a row."""

    def __init__(self, names: Sequence[str], where: str) -> None:
        self._index = {name: index for index, name in enumerate(names)}
        self._twice = {name for name, count in Counter(names).items() if count > 1}
        self._where = where

    def index(self, name: str) -> int:
        """The column's place; InvalidInput lists what there is."""
        if name not in self._index:
            raise InvalidInput(f"{self._where}: no column {name!r} {self._what_there_is(name)}")
        if name in self._twice:
            raise InvalidInput(f"{self._where}: two columns are called {name!r}; rename one of them in the file")
        return self._index[name]

    def _what_there_is(self, name: str) -> str:
        names = list(self._index)
        shown = ", ".join(names[:SHOWN_COLUMNS]) + (", …" if len(names) > SHOWN_COLUMNS else "")
        near = process.extractOne(name, names, scorer=fuzz.ratio, processor=default_process, score_cutoff=75)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if len(names) == 1:
            cut = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
            hint = f"; is {cut!r} the `delimiter` of the file? Say so in the mapping" if cut else hint
        return f"(there are: {shown}){hint}"


def template(text: str, columns: Columns) -> Text:
    """The text with columns filled in; None when one of them is empty."""
    pieces = _PART.split(text)
    literals, names = pieces[0::2], pieces[1::2]
    if names == ["row"] and literals == ["", ""]:
        return lambda _row, number: str(number)
    places = [-1 if name == "row" else columns.index(name) for name in names]
    parts = list(zip(places, names, literals[1:], strict=True))

    def fill(row: Row, number: int) -> str | None:
        filled = literals[0]
        for place, name, literal in parts:
            value = number if place < 0 else row[place]
            if value is None:
                return None
            if value.__class__ is not str:
                value = as_text(value, name)
            filled += value + literal
        return filled

    return fill


def as_text(value: Any, column: str) -> str:
    """A cell as text: 17850.0 is 17850, as a column of whole numbers with gaps is often kept. BadCell for no text."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict | bytes | tuple):
        kind = "an object" if isinstance(value, dict) else "binary data" if isinstance(value, bytes) else "a list"
        raise BadCell(column, f"is {kind}, and text is needed here")
    return str(value)


def required(text: str, columns: Columns, what: str) -> Callable[[Row, int], str]:
    """A template whose columns may not be empty."""
    fill = template(text, columns)

    def find(row: Row, number: int) -> str:
        found = fill(row, number)
        if found is None:
            raise BadCell(what, f"a column of {text!r} is empty")
        return found

    return find


def cell(rule: str | Value, columns: Columns) -> Cell:
    """A typed value of the row; a bare string is a column as it is."""
    value = Value(column=rule) if isinstance(rule, str) else rule
    convert = _CONVERSIONS[value.type]
    if value.column is not None:
        return _column_cell(value.column, columns.index(value.column), convert)
    if value.template is not None:
        fill = template(value.template, columns)
        return lambda row, number: convert(fill(row, number), value.template or "")
    return lambda _row, _number: value.constant


def moment(rule: Instant, columns: Columns, maps: Mapping[str, Mapping[str, str]]) -> Moment:
    """Microseconds UTC of an instant; BadCell names the column that has none."""
    found = _moment(rule, columns, maps)
    delay_us = round(rule.delay_hours * HOUR_US)
    return found if delay_us == 0 else lambda row, number: found(row, number) + delay_us


def _moment(rule: Instant, columns: Columns, maps: Mapping[str, Mapping[str, str]]) -> Moment:
    if rule.latest_of:
        parts = [moment(part, columns, maps) for part in rule.latest_of]
        return lambda row, number: max(part(row, number) for part in parts)
    if rule.constant is not None:
        fixed_us = _instant(rule.constant, "constant", _zone(rule.time_zone))
        return lambda _row, _number: fixed_us
    if rule.column is not None:
        return _column_moment(rule, rule.column, columns)
    return _day_moment(rule, columns, maps)


def _column_moment(rule: Instant, column: str, columns: Columns) -> Moment:
    place, zone = columns.index(column), _zone(rule.time_zone)
    factor = _UNITS[rule.unit] if rule.unit else None

    def find(row: Row, _number: int) -> int:
        value = row[place]
        if value is None:
            raise BadCell(column, "is empty, and the row needs an instant")
        if factor is None:
            return _instant(value, column, zone)
        found = round(_number_of(value, column) * factor)
        if abs(found) > _LATEST_US:
            raise BadCell(column, f"{shown(value)} is no instant in {rule.unit}")
        return found

    return find


def _day_moment(rule: Instant, columns: Columns, maps: Mapping[str, Mapping[str, str]]) -> Moment:
    assert rule.base is not None
    assert rule.key is not None
    starts = {key: _day_us(text, rule.base or "") for key, text in maps[rule.base].items()}
    key = required(rule.key, columns, rule.key)
    at = time.fromisoformat(rule.time)
    at_us = (at.hour * 3_600 + at.minute * 60 + at.second) * 1_000_000
    place = columns.index(rule.days) if rule.days is not None else None

    def find(row: Row, number: int) -> int:
        name = key(row, number)
        if name not in starts:
            raise BadCell(rule.key, f"{name!r} is not in the map {rule.base!r}")
        days = 0 if place is None else _days(row[place], rule)
        return starts[name] + days * DAY_US + at_us

    return find


def _days(value: Any, rule: Instant) -> int:
    if value is None:
        if rule.empty_days is None:
            raise BadCell(rule.days, "is empty, and the row needs a day")
        return rule.empty_days
    return _to_integer(value, rule.days or "") or 0


def _day_us(text: str, name: str) -> int:
    try:
        return to_micros(datetime.combine(date.fromisoformat(text), time(), UTC))
    except ValueError as error:
        raise InvalidInput(f"[maps.{name}]: {text!r} is no date such as 2014-02-01") from error


def _instant(value: Any, column: str, zone: ZoneInfo | None) -> int:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise BadCell(column, f"{shown(value)} is no instant such as 2014-02-01T12:00:00Z") from error
    if found.tzinfo is None:
        if zone is None:
            raise BadCell(column, f"{shown(value)} has no offset from UTC; the mapping can state a `time_zone`")
        found = found.replace(tzinfo=zone)
    try:
        return to_micros(found.astimezone(UTC))
    except OverflowError as error:
        raise BadCell(column, f"{shown(value)} is outside the years 1 to 9999") from error


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput(f"{name!r} is no time zone") from error


def _column_cell(column: str, place: int, convert: Callable[[Any, str], Any]) -> Cell:
    if convert is _as_is:
        return lambda row, _number: row[place]
    return lambda row, _number: convert(row[place], column)


def _number_of(value: Any, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadCell(column, f"{shown(value)} is no number") from error
    if not math.isfinite(number):
        raise BadCell(column, f"{shown(value)} is no number")
    return number


def _as_is(value: Any, _column: str) -> Any:
    return value


def _to_string(value: Any, column: str) -> str | None:
    return None if value is None else as_text(value, column)


def _to_integer(value: Any, column: str) -> int | None:
    if value is None or type(value) is int:
        return value
    try:
        return int(value) if isinstance(value, str) else _whole(value, column)
    except ValueError:
        return _whole(value, column)


def _whole(value: Any, column: str) -> int:
    number = _number_of(value, column)
    if number != int(number):
        raise BadCell(column, f"{shown(value)} is no whole number")
    return int(number)


def _to_decimal(value: Any, column: str) -> float | None:
    return None if value is None else _number_of(value, column)


def _to_boolean(value: Any, column: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise BadCell(column, f"{shown(value)} is neither true nor false")


_CONVERSIONS: dict[str, Callable[[Any, str], Any]] = {
    "as_is": _as_is,
    "string": _to_string,
    "integer": _to_integer,
    "decimal": _to_decimal,
    "boolean": _to_boolean,
}
