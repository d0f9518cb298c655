"""Whether the feature state is too old to score by: STALE_FEATURES of the contract.

Lag is measured by watching, in system seconds, because event times may be imported or run on an accelerated clock.
"""

import time
from collections import deque
from collections.abc import Callable

from vigie_contracts.events import Cursor
from vigie_kit.clock import Clock

SAMPLE_SECONDS = 1.0
SWEEP_LIMIT_SECONDS = 2 * 3_600.0


class StateLag:
    """Remembers when each end of the log was first seen; the state lags since the oldest end it has not applied.

    Stale: lag above `limit_seconds`, or a sweep whose watermark is older than two hours of system time.
    """

    def __init__(
        self, limit_seconds: float, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit_seconds
        self._clock = clock or Clock()
        self._monotonic = monotonic
        self._ends: deque[tuple[float, Cursor]] = deque()
        self._applied: Cursor = {}
        self._swept_us: int | None = None
        self._observed_at: float | None = None

    def is_due(self) -> bool:
        """Whether the last observation is a second old."""
        return self._observed_at is None or self._monotonic() - self._observed_at >= SAMPLE_SECONDS

    def observe(self, end: Cursor, applied: Cursor, swept_us: int | None) -> None:
        """Note how far the log was read, the state applied, and the sweep came (null before its first page)."""
        now = self._observed_at = self._monotonic()
        self._applied, self._swept_us = dict(applied), swept_us
        while self._ends and _reached(self._ends[0][1], applied):
            self._ends.popleft()
        newest = self._ends[-1] if self._ends else None
        if not _reached(end, applied) and (newest is None or now - newest[0] >= SAMPLE_SECONDS):
            self._ends.append((now, dict(end)))

    def seconds(self, applied: Cursor | None = None) -> float:
        """Seconds since the oldest end that the state has not applied; 0 when it has applied all that was seen."""
        applied = self._applied if applied is None else applied
        waiting = [seen for seen, end in self._ends if not _reached(end, applied)]
        return self._monotonic() - waiting[0] if waiting else 0.0

    def sweep_seconds(self) -> float:
        """Age of the watermark of the sweep in system seconds; 0 before the first sweep."""
        return 0.0 if self._swept_us is None else self._clock.system_seconds(self._clock.now_us() - self._swept_us)

    def is_stale(self, applied: Cursor | None = None) -> bool:
        """Whether either exceeds its limit."""
        return self.seconds(applied) > self._limit or self.sweep_seconds() > SWEEP_LIMIT_SECONDS


def _reached(end: Cursor, applied: Cursor) -> bool:
    return all(applied.get(lane, 0) >= number for lane, number in end.items())
