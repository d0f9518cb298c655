"""Local days of the institution's one time zone as a table of first instants, for vectors of instants.

The table is built from the pinned `tzdata` package, never from the machine's own zone files, so that every process
sees the same days. A day of 23 or 25 hours, an offset of half an hour and a skipped day are all just rows.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import SECOND_US

Ints = npt.NDArray[np.int64]

_FIRST = datetime(1960, 1, 1)  # noqa: DTZ001 a local date, not an instant
_LAST = datetime(2100, 1, 1)  # noqa: DTZ001
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


class LocalDays:
    """`day` and `midnight` of a time zone; days are numbered from 1970-01-01.

    The table runs from 1960 to 2099. Anything earlier lies on the one day before, so far back that recency and tenure
    are at their caps.
    """

    def __init__(self, time_zone: str) -> None:
        self.time_zone = time_zone
        self._first = (_FIRST - _EPOCH).days
        self._midnights = _midnights(_zone(time_zone))

    @property
    def fingerprint(self) -> bytes:
        """Bytes that differ when any local day of the table begins at another instant."""
        return self._midnights.tobytes()

    def day(self, instants_us: Ints) -> Ints:
        """The local day that holds each instant (int64, same shape)."""
        return self._midnights.searchsorted(instants_us, side="right") + (self._first - 1)

    def midnight(self, days: Ints) -> Ints:
        """The first instant of each local day (int64 microseconds, same shape)."""
        return self._midnights.take(days - self._first, mode="clip")


@lru_cache(maxsize=64)
def local_days(time_zone: str) -> LocalDays:
    """The table of a time zone, built once a process; InvalidInput for a name that is none."""
    return LocalDays(time_zone)


def _zone(name: str) -> ZoneInfo:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is not the name of a time zone (such as Europe/Paris)")
    try:
        file = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
        with file.open("rb") as stream:
            return ZoneInfo.from_file(stream, key=name)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name!r} is not the name of a time zone (such as Europe/Paris)") from error


def _midnights(zone: tzinfo) -> Ints:
    count = (_LAST - _FIRST).days
    dates = [_FIRST + timedelta(days=number) for number in range(count)]
    offsets = np.array([_seconds(zone.utcoffset(date)) for date in dates], dtype=np.int64)
    seconds = (np.arange(count, dtype=np.int64) + (_FIRST - _EPOCH).days) * 86_400 - offsets
    moves = np.flatnonzero(np.diff(offsets))
    for row in sorted({*moves.tolist(), *(moves + 1).tolist()}):
        seconds[row] = _first_instant(zone, dates[row], int(seconds[row]))
    return seconds * SECOND_US


def _first_instant(zone: tzinfo, date: datetime, guess: int) -> int:
    """The first second whose local date is `date` or later; differs from the guess when midnight was skipped."""
    if _local(zone, guess) == date:
        return guess
    before, at = guess - 2 * 86_400, guess
    while at - before > 1:
        middle = (before + at) // 2
        before, at = (before, middle) if _local(zone, middle) >= date else (middle, at)
    return at


def _local(zone: tzinfo, seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(zone).replace(tzinfo=None)


def _seconds(offset: timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())
