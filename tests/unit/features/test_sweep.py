"""The sweep beside a full scan: at a thousand instants it visits whom the scan finds due; nobody who moved is missed.

The instants lie in ten months of Paris, both changes of the clock among them, with acts, outages and restarts between.
"""

import random
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from vigie_contracts.events import LogRecord
from vigie_contracts.instants import DAY_US, HOUR_US, MINUTE_US, from_micros, parse_instant
from vigie_features.domain import CustomerRead, customer_reads
from vigie_tiles import kernel
from vigie_tiles.schema import WATERMARK

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import LAYOUT, NOW_US, TABLE, event, records
from tests.unit.features.test_state import changes

CLOCKS_CHANGE = tuple(parse_instant(day) for day in ("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"))
END_US = parse_instant("2026-12-10T00:00:00Z")
COUNT = 1_000


def test_at_a_thousand_instants_nobody_is_missed_and_only_who_is_due_is_read(tmp_path: Path) -> None:
    rng = random.Random(5)
    state = FeatureState(tmp_path, page=20)
    state.consume(records(9))
    state.sweep()
    scan, hinted = FullScan(state), len(changes(state))
    moved = read = due = 0
    for number, now_us in enumerate(instants(rng)):
        expected, moving = scan.due(state.now_us, now_us), scan.moved(state.now_us, now_us)
        state.now_us = now_us
        read += state.sweep()
        visited = [hint.customer_id for hint in changes(state, hinted)]
        assert moving <= set(visited), from_micros(now_us)
        assert sorted(visited) == expected, from_micros(now_us)
        assert now_us - MINUTE_US < watermark(state) <= now_us
        hinted, due, moved = hinted + len(visited), due + len(expected), moved + len(moving)
        if number % 9 == 0:
            state.consume(acts(rng, number, now_us))
            scan, hinted = FullScan(state), len(changes(state))
        if number % 100 == 50:
            state = restarted(state, tmp_path)
    assert moved > 2_000
    assert read <= due * 1.01


class FullScan:
    """Every customer's state, read once; what the sweep must find is computed from all of it, without the index."""

    def __init__(self, state: FeatureState) -> None:
        with state.store.snapshot() as snapshot:
            self._members = snapshot.members_of(state.customers())
            self._tiles = snapshot.tiles([member_id for found in self._members.values() for member_id in found])

    def due(self, earlier_us: int, now_us: int) -> list[str]:
        """Whose next change after one instant comes up to another, in order."""
        reads = self._reads(earlier_us)
        moments = kernel.next_change(LAYOUT, [read.blobs for read in reads], [read.t_us for read in reads])
        return sorted(read.customer_id for read, at_us in zip(reads, moments, strict=True) if at_us <= now_us)

    def moved(self, earlier_us: int, now_us: int) -> set[str]:
        """Whose vector differs between two instants."""
        before, after = self._vectors(earlier_us), self._vectors(now_us)
        return {customer_id for customer_id, vector in before.items() if after[customer_id] != vector}

    @lru_cache(maxsize=2)  # noqa: B019  # a scan lives for a few instants
    def _vectors(self, t_us: int) -> dict[str, bytes]:
        reads = self._reads(t_us)
        matrix = kernel.finalise(LAYOUT, TABLE.features, [read.blobs for read in reads], [read.t_us for read in reads])
        rows = zip(reads, matrix.values, matrix.valid, strict=True)
        return {read.customer_id: values.tobytes() + valid.tobytes() for read, values, valid in rows}

    def _reads(self, t_us: int) -> list[CustomerRead]:
        return [read for read in customer_reads(self._members, self._tiles, t_us) if read.blobs]


def instants(rng: random.Random) -> list[int]:
    """A thousand rising instants: anywhere, on and beside edges of hours and local days, in two outages none at all."""
    outages = [
        (NOW_US + 60 * DAY_US, NOW_US + 81 * DAY_US),
        (CLOCKS_CHANGE[1] - 2 * DAY_US, CLOCKS_CHANGE[1] + 2 * DAY_US),
    ]
    chosen: set[int] = set()
    for change in CLOCKS_CHANGE[:1]:
        chosen |= {change + hours * HOUR_US + off for hours in range(-26, 27) for off in (-1, 0, 1)}
    while len(chosen) < COUNT:
        at_us = rng.randrange(NOW_US + 1, END_US)
        edge = rng.choice((at_us, at_us // HOUR_US * HOUR_US, midnight(at_us)))
        at_us = edge + rng.choice((-1, 0, 0, 1))
        if at_us > NOW_US and not any(begin < at_us < end for begin, end in outages):
            chosen.add(at_us)
    return sorted(chosen)


def midnight(at_us: int) -> int:
    """The first instant of the local day."""
    local = from_micros(at_us).astimezone(ZoneInfo("Europe/Paris"))
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000


def acts(rng: random.Random, number: int, now_us: int) -> list[LogRecord]:
    """What a few customers did lately, some of it late, known now."""
    return [
        event(
            f"m{rng.randrange(12):02d}",
            rng.choice(("app.logged_in", "card.used", "transfer.made")),
            now_us - rng.choice((1, rng.randrange(HOUR_US), rng.randrange(9 * DAY_US))),
            event_id=f"act{number}-{place}",
            known_at_us=now_us,
            amount="12.50",
            direction="out",
        )
        for place in range(rng.randrange(1, 6))
    ]


def restarted(state: FeatureState, data: Path) -> FeatureState:
    """The same data opened anew: the committed watermark is where it was, and nobody is visited again."""
    swept_us, hints = watermark(state), len(changes(state))
    state.store.close()
    again = FeatureState(data, page=20)
    again.now_us = state.now_us
    assert watermark(again) == swept_us
    assert again.sweep() == 0
    assert len(changes(again)) == hints
    return again


def watermark(state: FeatureState) -> int:
    """The instant up to which everybody who was due has been visited, as it is committed."""
    with state.store.snapshot() as snapshot:
        return int(snapshot.setting(WATERMARK) or 0)
