"""When a quiet customer's features move next: the earliest edge that a cell, a recency, a tenure or a streak meets.

It may be early (a sweep then finds the same values), never late.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from vigie_contracts.instants import HOUR_US

from vigie_tiles.kernel.cells import OLDEST, Cells, read_cells
from vigie_tiles.kernel.finalise import day_sets, ends
from vigie_tiles.kernel.plan import ABSENT_FIRST, ABSENT_LAST, Bits, Plan, plan_for
from vigie_tiles.layout import AGE_BITS, WINDOWED, Kind, Layout, groups
from vigie_tiles.local_days import Ints, LocalDays

NEVER_US = 2**63 - 1
"""No feature moves without an event any more."""


def next_change(layout: Layout, blobs_by_row: Sequence[Sequence[bytes]], t_us: Sequence[int] | Ints | int) -> Ints:
    """Microseconds, one a row, always after `t_us`; NEVER_US when nothing can move. Raises like `finalise`."""
    plan = plan_for(layout, layout.table.features)
    cells = read_cells(layout, blobs_by_row, t_us)
    lasts, firsts = ends(plan, cells)
    found = _cell_edges(layout, cells)
    if len(lasts):
        found = np.minimum(found, _recency_steps(layout.days, cells, lasts).min(axis=0))
    if len(firsts):
        found = np.minimum(found, _tenure_steps(layout.days, cells, firsts).min(axis=0))
    daily = _moves_daily(plan, day_sets(plan, cells))
    return np.where(daily, np.minimum(found, _tomorrow(layout.days, cells)), found)


def _cell_edges(layout: Layout, cells: Cells) -> Ints:
    """The first instant at which a cell of each customer leaves a window."""
    limit = _leaving(layout)[cells.place]
    seen = (limit >= 0).nonzero()[0]
    place, row = cells.place[seen], cells.row[seen]
    kind, steps = layout.kinds[place >> AGE_BITS], limit[seen] - (place & OLDEST) + 1
    found = np.full(cells.rows, NEVER_US, dtype=np.int64)
    for wanted in WINDOWED:
        nearest = np.full(cells.rows, OLDEST + 1, dtype=np.int64)
        mine = kind == wanted
        np.minimum.at(nearest, row[mine], steps[mine])
        if wanted == Kind.HOUR:
            at = (cells.t_us // HOUR_US + nearest) * HOUR_US
        else:
            at = layout.days.midnight(cells.day + nearest)
        found = np.where(nearest <= OLDEST, np.minimum(found, at), found)
    return found


def _leaving(layout: Layout) -> npt.NDArray[np.int16]:
    """By a cell's place: the least window of any declared feature that still holds the cell, or -1."""
    table: npt.NDArray[np.int16] | None = layout.leaving
    if table is None:
        limits: dict[int, set[int]] = {}
        for group in (group for feature in layout.table.features for group in groups(feature)):
            if group.kind in WINDOWED:
                for slot in layout.columns(group):
                    limits.setdefault(slot, set()).add(group.last_age)
        table = np.full((len(layout.slots), OLDEST + 1), -1, dtype=np.int16)
        for slot, ages in limits.items():
            for limit in sorted(ages, reverse=True):
                table[slot, : limit + 1] = limit
        layout.leaving = table = table.ravel()
    return table


def _recency_steps(days: LocalDays, cells: Cells, last: Ints) -> Ints:
    present = last != ABSENT_LAST
    last = np.where(present, last, cells.t_us)
    hours, passed = (cells.t_us - last) // HOUR_US, cells.day - days.day(last)
    weeks = passed // 7 * 7
    weekly = np.where(weeks >= 366, NEVER_US, days.midnight(days.day(last) + weeks + 7))
    daily = np.where(passed <= 91, _tomorrow(days, cells), weekly)
    return np.where(present, np.where(hours < 48, last + (hours + 1) * HOUR_US, daily), NEVER_US)


def _tenure_steps(days: LocalDays, cells: Cells, first: Ints) -> Ints:
    present = first != ABSENT_FIRST
    began = days.day(np.where(present, first, cells.t_us))
    passed = cells.day - began
    weeks = passed // 7 * 7
    weekly = np.where(weeks >= 3660, NEVER_US, days.midnight(began + weeks + 7))
    return np.where(present, np.where(passed <= 91, _tomorrow(days, cells), weekly), NEVER_US)


def _moves_daily(plan: Plan, days: tuple[Bits, Bits]) -> npt.NDArray[np.bool_]:
    """Whether a streak may end, or a gap grow or leave, at the next local midnight."""
    low, high = days
    found = np.zeros(low.shape[1], dtype=bool)
    if "streak" in plan.by_measure:
        found |= ((low[plan.column_runs("streak")[1]] & np.uint64(3)) != 0).any(axis=0)
    if "longest_gap" in plan.by_measure:
        runs = plan.column_runs("longest_gap")[1]
        found |= ((low[runs] | high[runs]) != 0).any(axis=0)
    return found


def _tomorrow(days: LocalDays, cells: Cells) -> Ints:
    return days.midnight(cells.day + 1)
