"""Feature values of many customers at their read instants, from the blobs of their members.

Every step works on all customers at once: cells -> sums per (slot, age class), day sets and ends per slot -> groups
-> measures. docs/features.md defines the measures.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from vigie_contracts.features import FeatureSpec

from vigie_tiles.kernel.cells import Cells, read_cells
from vigie_tiles.kernel.habits import HABITS
from vigie_tiles.kernel.measures import MEASURES, Folded
from vigie_tiles.kernel.plan import ABSENT_LAST, Bits, Plan, plan_for
from vigie_tiles.layout import Layout
from vigie_tiles.local_days import Ints

_CHUNK = 128
"""Customers at once: more than this many do not fit a core's cache with their cells."""
_ZERO = np.zeros(1, dtype=np.int64)
_ONE = np.uint64(1)
_MEASURES = {**MEASURES, **HABITS}


class Matrix(NamedTuple):
    """`values` int64[n, f], 0 where `valid` bool[n, f] is false (null)."""

    values: Ints
    valid: npt.NDArray[np.bool_]


def finalise(
    layout: Layout,
    features: Sequence[FeatureSpec],
    blobs_by_row: Sequence[Sequence[bytes]],
    t_us: Sequence[int] | Ints | int,
) -> Matrix:
    """Values of `features`, in their order, for each row of blobs (a customer's members; none = no events).

    `t_us` is one instant or one a row, in microseconds. Raises PastReadPoint when it is not after everything folded
    in, IncompatibleData for blobs of another layout, InvalidInput for a feature that the layout cannot answer.
    """
    plan = plan_for(layout, features)
    rows = len(blobs_by_row)
    if rows <= _CHUNK:
        return _chunk(plan, blobs_by_row, t_us)
    instants = np.empty(rows, dtype=np.int64)
    instants[:] = t_us
    parts = [_chunk(plan, blobs_by_row[at : at + _CHUNK], instants[at : at + _CHUNK]) for at in range(0, rows, _CHUNK)]
    return Matrix(np.concatenate([part.values for part in parts]), np.concatenate([part.valid for part in parts]))


def sums(plan: Plan, cells: Cells) -> tuple[Ints, Ints]:
    """(sum of each sum group, number of names with events of each breadth group), a row a group."""
    tiles = _tiles(plan, cells)
    columns, starts = plan.breadth_runs
    names = np.add.reduceat((tiles[columns] > 0).astype(np.int64), starts, axis=0) if len(starts) else tiles[:0]
    return _gather(np.add, tiles, plan.sum_runs), names


def day_sets(plan: Plan, cells: Cells) -> tuple[Bits, Bits]:
    """Each day group's set of local days: bit n of (low, high) is the day n (and 64 + n) before the read instant's."""
    low, high = _days(plan, cells)
    return _gather(np.bitwise_or, low, plan.day_runs), _gather(np.bitwise_or, high, plan.day_runs)


def ends(plan: Plan, cells: Cells) -> tuple[Ints, Ints]:
    """(last instant of each recency group, first instant of each tenure group), or ABSENT_LAST, ABSENT_FIRST."""
    table = _ends(plan, cells)
    return _gather(np.maximum, table, plan.last_runs), _gather(np.minimum, table, plan.first_runs)


def _chunk(plan: Plan, blobs_by_row: Sequence[Sequence[bytes]], t_us: Sequence[int] | Ints | int) -> Matrix:
    cells = read_cells(plan.layout, blobs_by_row, t_us)
    folded = Folded(*sums(plan, cells), _peaks(plan, cells), day_sets(plan, cells), *ends(plan, cells))
    values = np.zeros((len(plan.features), cells.rows), dtype=np.int64)
    valid = np.ones((len(plan.features), cells.rows), dtype=bool)
    for measure in plan.by_measure:
        _MEASURES[measure](plan, cells, folded, values, valid)
    values[~valid] = 0
    return Matrix(np.ascontiguousarray(values.T), np.ascontiguousarray(valid.T))


# ---- from cells to groups -------------------------------------------------------------------------------------------


def _gather(fold: np.ufunc, table: Any, runs: tuple[Ints, Ints]) -> Any:
    columns, starts = runs
    if not len(starts):
        return table[:0]
    return fold.reduceat(table[columns], starts, axis=0)


def _starts(key: Ints) -> Ints:
    """Where runs of equal keys begin."""
    return np.concatenate((_ZERO, (key[1:] != key[:-1]).nonzero()[0] + 1))


def _tiles(plan: Plan, cells: Cells) -> Ints:
    """Sums by (age class x slot, row), running over the classes: each class includes the younger ones."""
    table = np.zeros((plan.classes * plan.tile_count, cells.rows), dtype=np.int64)
    _run_over(np.add, table, plan.tile_at, plan.classes, cells)
    return table


def _peaks(plan: Plan, cells: Cells) -> Ints:
    """The greatest value of each group of peaks, or ABSENT_LAST; made as the sums are."""
    table = np.full((plan.classes * plan.peak_count, cells.rows), ABSENT_LAST, dtype=np.int64)
    if len(table):
        _run_over(np.maximum, table, plan.peak_at, plan.classes, cells)
    found: Ints = _gather(np.maximum, table, plan.peak_runs)
    return found


def _run_over(fold: np.ufunc, table: Ints, places_at: Any, classes: int, cells: Cells) -> None:
    places = places_at[cells.place]
    seen = (places >= 0).nonzero()[0]
    if not len(seen):
        return
    place = places[seen]
    starts = _starts(cells.member[seen] * len(table) + place)
    folded = fold.reduceat(cells.value[seen], starts)
    _scatter(fold, table, (place[starts], cells.row[seen[starts]]), folded, cells.joined)
    by_class = table.reshape(classes, -1, cells.rows)
    for younger, older in pairwise(by_class):  # numpy's accumulate is far slower along such an axis
        fold(older, younger, out=older)


def _days(plan: Plan, cells: Cells) -> tuple[Bits, Bits]:
    """Sets of local days by (slot, row): bit n of (low, high) is the day n before the read instant's."""
    halves = np.zeros((2 * plan.bit_count, cells.rows), dtype=np.uint64)
    places = plan.bit_at[cells.place]
    seen = (places >= 0).nonzero()[0]
    if len(seen):
        place = places[seen]
        bit = _ONE << (cells.place[seen] & 63).astype(np.uint64)
        starts = _starts(cells.member[seen] * len(halves) + place)
        at = (place[starts], cells.row[seen[starts]])
        _scatter(np.bitwise_or, halves, at, np.bitwise_or.reduceat(bit, starts), cells.joined)
    return halves[0::2], halves[1::2]


def _ends(plan: Plan, cells: Cells) -> Ints:
    """The last or first instant by (slot, row)."""
    table = np.empty((plan.end_count, cells.rows), dtype=np.int64)
    table[:] = plan.absent
    column = plan.end_at[cells.place]
    seen = (column >= 0).nonzero()[0]
    at = (column[seen], cells.row[seen])
    if not cells.joined:
        table[at] = cells.value[seen]
        return table
    first = plan.first_ends[column[seen]]
    np.minimum.at(table, (at[0][first], at[1][first]), cells.value[seen][first])
    np.maximum.at(table, (at[0][~first], at[1][~first]), cells.value[seen][~first])
    return table


def _scatter(fold: np.ufunc, table: Any, at: tuple[Any, Any], found: Any, joined: bool) -> None:
    if joined:
        fold.at(table, at, found)
    else:
        table[at] = found
