"""Asks ingest for its sources, and to make, change, rotate and switch them."""

from typing import TypeVar

from vigie_contracts.errors import InvalidInput
from vigie_contracts.sources import KeyRotate, NewKey, SourceCreate, SourceRow, SourceSwitch, SourceUpdate

from vigie_cli.connection import Connection

PATH = "/internal/sources"
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
T = TypeVar("T")


def rows(system: Connection) -> list[SourceRow]:
    """All sources, by id."""
    client = system.client("ingest")
    try:
        return client.get(PATH, list[SourceRow])
    finally:
        client.close()


def created(system: Connection, asked: SourceCreate) -> NewKey:
    """A source and its first key."""
    return _post(system, "create", asked, NewKey)


def updated(system: Connection, asked: SourceUpdate) -> SourceRow:
    """The source after a change."""
    return _post(system, "update", asked, SourceRow)


def rotated(system: Connection, source_id: str, overlap_seconds: int) -> NewKey:
    """A new key."""
    return _post(system, "rotate", KeyRotate(source_id=source_id, overlap_seconds=overlap_seconds), NewKey)


def switched(system: Connection, source_id: str, *, disabled: bool) -> SourceRow:
    """Disable or enable."""
    return _post(system, "switch", SourceSwitch(source_id=source_id, disabled=disabled), SourceRow)


def seconds_of(text: str) -> int:
    """Seconds of `0`, `90s`, `30m`, `24h` or `7d`; InvalidInput otherwise."""
    number, unit = (text, "s") if text.isdecimal() else (text[:-1], text[-1:])
    if not number.isdecimal() or unit not in UNITS:
        raise InvalidInput(f"{text!r} is no duration; write 0, 90s, 30m, 24h or 7d")
    return int(number) * UNITS[unit]


def _post(system: Connection, name: str, asked: object, answer: type[T]) -> T:
    client = system.client("ingest")
    try:
        return client.post(f"{PATH}/{name}", asked, answer)
    finally:
        client.close()
