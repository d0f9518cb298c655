"""Instants: every time inside Vigie is an integer of microseconds since 1970-01-01T00:00Z (`*_us`).

At the edges (JSON, GraphQL) an instant is an aware UTC datetime or RFC 3339 text. A naive datetime is a bug.
The business clock is a pure line from system time to business time, so that every process computes the same.
"""

from datetime import UTC, datetime, timedelta
from typing import NewType

import msgspec

Micros = NewType("Micros", int)

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(instant: datetime) -> int:
    """Microseconds since the epoch of an aware datetime; ValueError for a naive one."""
    if instant.tzinfo is None:
        raise ValueError("naive datetime: an instant needs its offset from UTC")
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str) -> int:
    """Microseconds of RFC 3339 / ISO-8601 text with an offset (`Z`, `+01:00`); ValueError otherwise."""
    return to_micros(datetime.fromisoformat(text))


def format_instant(micros: int) -> str:
    """RFC 3339 text in UTC with microseconds and `Z`."""
    return from_micros(micros).isoformat(timespec="microseconds").replace("+00:00", "Z")


class ClockSetting(msgspec.Struct, frozen=True):
    """Business time as a line over system time: virtual = base_virtual + (real - base_real) * rate."""

    base_real_us: int = 0
    base_virtual_us: int = 0
    rate: float = 1.0

    def at(self, real_us: int) -> int:
        """Business instant at a system instant, both in microseconds."""
        if self.rate == 1.0:
            return self.base_virtual_us + real_us - self.base_real_us
        return self.base_virtual_us + int((real_us - self.base_real_us) * self.rate)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """`installation.json` in the data directory: what is fixed once for an installation."""

    format: int = 1
    time_zone: str = "UTC"
    clock: ClockSetting = ClockSetting()
    created_at: str = ""
