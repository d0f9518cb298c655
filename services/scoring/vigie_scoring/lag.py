"""How long the feature state has lagged behind the log "events", in system seconds: the base of STALE_FEATURES.

Measured by watching, because event times may be imported or run on an accelerated business clock.
"""

import time
from collections import deque
from collections.abc import Callable

from vigie_contracts.events import Cursor

SAMPLE_SECONDS = 1.0


class StateLag:
    """Remembers when each end of the log was first seen; the state lags since the oldest end it has not applied."""

    def __init__(self, limit_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._monotonic = monotonic
        self._ends: deque[tuple[float, Cursor]] = deque()
        self._applied: Cursor = {}

    def observe(self, end: Cursor, applied: Cursor) -> None:
        """Note how far the log was read and the state applied."""
        now = self._monotonic()
        self._applied = dict(applied)
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

    def is_stale(self, applied: Cursor | None = None) -> bool:
        """Whether the lag exceeds the limit."""
        return self.seconds(applied) > self._limit


def _reached(end: Cursor, applied: Cursor) -> bool:
    return all(applied.get(lane, 0) >= number for lane, number in end.items())
