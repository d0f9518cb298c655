"""The tail of the log "scores": wakes all subscribers, keeps the last records decoded, reads older ones from the file.

A subscriber holds a position, not a queue, so a slow one costs no memory: it reads on when it is ready.
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import NamedTuple

from vigie_contracts.scores import ScoreRecord, decode_score
from vigie_kit.log import Entry
from vigie_kit.sqlite_log import LANE, SqliteLogReader
from vigie_kit.wakeup import Listener

KEPT = 2_000
AT_ONCE = 500


class Told(NamedTuple):
    """A record of the log "scores" with its number."""

    number: int
    record: ScoreRecord


class Hub:
    """Follows `scoring.db`. `run` is a task of the application's lifespan."""

    def __init__(self, data: Path, most_lag: int = 100_000) -> None:
        self.most_lag = most_lag
        self._reader = SqliteLogReader(data / "scoring.db", "scores")
        self._run_dir = data / "run"
        self._recent: deque[Told] = deque(maxlen=KEPT)
        self._moved = asyncio.Condition()
        self.end = 0

    async def run(self) -> None:
        """Follow the log until cancelled."""
        self.end = (await asyncio.to_thread(self._reader.end)).get(LANE, 0)
        with Listener(self._run_dir, "scores") as ear:
            while True:
                entries = await asyncio.to_thread(self._reader.read, {LANE: self.end}, AT_ONCE)
                if entries:
                    await self._publish(entries)
                else:
                    await ear.wait_async()

    async def _publish(self, entries: list[Entry]) -> None:
        self._recent.extend(_told(entries))
        async with self._moved:
            self.end = entries[-1].position.number
            self._moved.notify_all()

    async def after(self, number: int) -> list[Told]:
        """Up to `AT_ONCE` records after a number, from memory when it reaches back that far."""
        if number >= self.end:
            return []
        if self._recent and self._recent[0].number <= number + 1:
            newer = [told for told in self._recent if told.number > number]
            return newer[:AT_ONCE]
        while entries := await asyncio.to_thread(self._reader.read, {LANE: number}, AT_ONCE):
            if told := _told(entries):
                return told
            number = entries[-1].position.number
        return []

    async def moved_past(self, number: int) -> None:
        """Return when there is a record after `number`."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.end > number)

    def close(self) -> None:
        """Release the file."""
        self._reader.close()


def _told(entries: list[Entry]) -> list[Told]:
    """What was said; an erased record says nothing."""
    return [Told(entry.position.number, decode_score(entry.payload)) for entry in entries if entry.payload]
