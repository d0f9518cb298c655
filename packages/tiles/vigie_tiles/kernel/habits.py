"""Measures that look at each cell's own day, hour or instant: when a customer acts, and how soon again."""

from typing import Any

import numpy as np
from vigie_contracts.instants import HOUR_US

from vigie_tiles.kernel.cells import OLDEST, Cells
from vigie_tiles.kernel.measures import Folded
from vigie_tiles.kernel.plan import Plan
from vigie_tiles.local_days import Ints


def _counted(plan: Plan, cells: Cells, row: int, by: Any, size: int) -> Ints:
    """Events of a feature's cells by a number of each cell (0 … size - 1) and customer."""
    table = np.zeros((size, cells.rows), dtype=np.int64)
    seen = plan.cells_of[row][cells.place].nonzero()[0]
    np.add.at(table, (by(cells, seen), cells.row[seen]), cells.value[seen])
    return table


def _weekday_of(cells: Cells, seen: Ints) -> Ints:
    """0 for Monday; day 0 of the count, 1970-01-01, was a Thursday."""
    found: Ints = (cells.day[cells.row[seen]] - (cells.place[seen] & OLDEST) + 3) % 7
    return found


def _weekday(plan: Plan, cells: Cells, _: Folded, values: Ints, valid: Any) -> None:
    for row in plan.by_measure["weekday"]:
        counts = _counted(plan, cells, row, _weekday_of, 7)
        values[row], valid[row] = counts.argmax(axis=0) + 1, counts.any(axis=0)


def _weekend_share(plan: Plan, cells: Cells, _: Folded, values: Ints, __: Any) -> None:
    for row in plan.by_measure["weekend_share"]:
        counts = _counted(plan, cells, row, _weekday_of, 7)
        whole = counts.sum(axis=0)
        share = 1000 * counts[5:].sum(axis=0) // np.maximum(whole, 1)
        values[row] = np.where(whole == 0, plan.features[row].zero_over_zero, share)


def _hour(plan: Plan, cells: Cells, _: Folded, values: Ints, valid: Any) -> None:
    days = plan.layout.days

    def hour_of(cells: Cells, seen: Ints) -> Ints:
        begun = (cells.t_us[cells.row[seen]] // HOUR_US - (cells.place[seen] & OLDEST)) * HOUR_US
        found: Ints = np.minimum(23, (begun - days.midnight(days.day(begun))) // HOUR_US)
        return found

    for row in plan.by_measure["hour"]:
        counts = _counted(plan, cells, row, hour_of, 24)
        values[row], valid[row] = counts.argmax(axis=0), counts.any(axis=0)


def _nth(plan: Plan, cells: Cells, _: Folded, values: Ints, valid: Any) -> None:
    days, customers = plan.layout.days, np.arange(cells.rows)
    for row in plan.by_measure["nth"]:
        nth = plan.features[row].nth or 1
        seen = plan.cells_of[row][cells.place].nonzero()[0]
        order = np.lexsort((cells.value[seen], cells.row[seen]))
        of, instant = cells.row[seen][order], cells.value[seen][order]
        first = np.searchsorted(of, customers)
        valid[row] = np.searchsorted(of, customers, side="right") - first >= nth
        begun = first[valid[row]]
        values[row, valid[row]] = days.day(instant[begun + nth - 1]) - days.day(instant[begun])


HABITS = {"weekday": _weekday, "weekend_share": _weekend_share, "hour": _hour, "nth": _nth}
