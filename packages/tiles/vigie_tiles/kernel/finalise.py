"""Feature values of many customers at their read instants, from the blobs of their members.

Every step works on all customers at once: cells -> sums per (slot, age class), day sets and ends per slot -> groups
-> measures. docs/features.md defines the measures.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import HOUR_US

from vigie_tiles.codec import Attribute, decode_attributes
from vigie_tiles.kernel.cells import Cells, read_cells
from vigie_tiles.kernel.plan import ABSENT_FIRST, ABSENT_LAST, Bits, Parts, Plan, plan_for
from vigie_tiles.layout import Layout
from vigie_tiles.local_days import Ints

_CHUNK = 512
_EXACT = 2**53
_ZERO = np.zeros(1, dtype=np.int64)
_ONE, _ALL = np.uint64(1), np.uint64(2**64 - 1)


class Matrix(NamedTuple):
    """`values` int64[n, f], 0 where `valid` bool[n, f] is false (null)."""

    values: Ints
    valid: npt.NDArray[np.bool_]


class Folded(NamedTuple):
    """Each group's result, a row a group and a column a customer."""

    sums: Ints
    breadths: Ints
    days: tuple[Bits, Bits]
    lasts: Ints
    firsts: Ints


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
    folded = Folded(*sums(plan, cells), day_sets(plan, cells), *ends(plan, cells))
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
    """Sums by (slot x age class, row), running over the classes: each class includes the younger ones."""
    table = np.zeros((plan.tile_count * plan.classes, cells.rows), dtype=np.int64)
    places = plan.tile_at[cells.place]
    seen = (places >= 0).nonzero()[0]
    if len(seen):
        place = places[seen]
        starts = _starts(cells.member[seen] * len(table) + place)
        added = np.add.reduceat(cells.value[seen], starts)
        _scatter(np.add, table, (place[starts], cells.row[seen][starts]), added, cells.joined)
        by_class = table.reshape(plan.tile_count, plan.classes, cells.rows)
        by_class.cumsum(axis=1, out=by_class)
    return table


def _days(plan: Plan, cells: Cells) -> tuple[Bits, Bits]:
    """Sets of local days by (slot, row): bit n of (low, high) is the day n before the read instant's."""
    low = np.zeros((plan.bit_count, cells.rows), dtype=np.uint64)
    high = np.zeros_like(low)
    places = plan.bit_at[cells.place]
    seen = (places >= 0).nonzero()[0]
    if len(seen):
        place, age = places[seen], cells.age[seen]
        bit = _ONE << (age & 63).astype(np.uint64)
        starts = _starts(cells.member[seen] * plan.bit_count + place)
        at = (place[starts], cells.row[seen][starts])
        for table, half in ((low, age < 64), (high, age >= 64)):
            found = np.bitwise_or.reduceat(np.where(half, bit, np.uint64(0)), starts)
            _scatter(np.bitwise_or, table, at, found, cells.joined)
    return low, high


def _ends(plan: Plan, cells: Cells) -> Ints:
    """The last or first instant by (slot, row)."""
    table = np.empty((plan.end_count, cells.rows), dtype=np.int64)
    table[:] = plan.absent
    column = plan.end_of[cells.slot]
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


# ---- from groups to measures ----------------------------------------------------------------------------------------


def _sums(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    for measure in ("count", "sum"):
        if measure in plan.by_measure:
            rows, runs = plan.column_runs(measure)
            values[rows] = folded.sums[runs]


def _breadth(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, runs = plan.column_runs("breadth")
    values[rows] = folded.breadths[runs]


def _trend(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, now = plan.column_runs("trend")
    both = plan.column_runs("trend", 1)[1]
    counted = folded.sums[now]
    values[rows] = _ratio(plan, "trend", counted, folded.sums[both] - counted)


def _rate(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, of = plan.column_runs("rate")
    values[rows] = _ratio(plan, "rate", folded.sums[of], folded.sums[plan.column_runs("rate", 1)[1]])


def _ratio(plan: Plan, measure: str, above: Ints, below: Ints) -> Ints:
    permille = np.minimum(plan.parameters(measure, "cap"), 1000 * above // np.maximum(below, 1))
    empty = np.where(above == 0, plan.parameters(measure, "zero_over_zero"), plan.parameters(measure, "x_over_zero"))
    return np.where(below == 0, empty, permille)


def _active_days(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, runs = plan.column_runs("active_days")
    low, high = _masked(folded, runs, plan.masks["active_days"])
    values[rows] = np.bitwise_count(low) + np.bitwise_count(high)


def _streak(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, runs = plan.column_runs("streak")
    low, high = _masked(folded, runs, plan.masks["streak"])
    late = (low & _ONE) == 0
    low = np.where(late, low >> _ONE | high << np.uint64(63), low)
    high = np.where(late, high >> _ONE, high)
    whole = low == _ALL
    values[rows] = _trailing_ones(low) + np.where(whole, _trailing_ones(high), 0)


def _trailing_ones(bits: Bits) -> Ints:
    return np.bitwise_count(bits & ~(bits + _ONE)).astype(np.int64)


def _masked(folded: Folded, runs: Ints, masks: tuple[Bits, Bits]) -> tuple[Bits, Bits]:
    """The days of each group that lie within its window."""
    return folded.days[0][runs] & masks[0], folded.days[1][runs] & masks[1]


def _recency(plan: Plan, cells: Cells, folded: Folded, values: Ints, valid: Any) -> None:
    rows, runs = plan.column_runs("recency")
    last = folded.lasts[runs]
    valid[rows] = last != ABSENT_LAST
    last = np.where(last == ABSENT_LAST, cells.t_us, last)
    hours = (cells.t_us - last) // HOUR_US
    days = cells.day - plan.layout.days.day(last)
    far = 24 * np.minimum(366, days // 7 * 7)
    values[rows] = np.where(hours < 48, hours, np.where(days <= 91, np.maximum(48, 24 * days), far))


def _tenure(plan: Plan, cells: Cells, folded: Folded, values: Ints, valid: Any) -> None:
    rows, runs = plan.column_runs("tenure")
    first = folded.firsts[runs]
    valid[rows] = first != ABSENT_FIRST
    days = cells.day - plan.layout.days.day(np.where(first == ABSENT_FIRST, cells.t_us, first))
    values[rows] = np.where(days <= 91, days, np.minimum(3660, days // 7 * 7))


def _engagement(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    counted, days = plan.counted_parts, plan.day_parts
    if len(counted.run):
        _add_parts(values, counted, folded.sums[counted.run])
    if len(days.run):
        low, high = _masked(folded, days.run, days.masks)
        _add_parts(values, days, (np.bitwise_count(low) + np.bitwise_count(high)).astype(np.int64))


def _add_parts(values: Ints, parts: Parts, found: Ints) -> None:
    np.add.at(values, parts.feature, parts.weight * np.minimum(found, parts.cap) // parts.cap)


def _attribute(plan: Plan, cells: Cells, _: Folded, values: Ints, valid: Any) -> None:
    valid[plan.by_measure["attribute"]] = False
    for customer, latest in _latest(cells).items():
        for row, number, categories in plan.attributes:
            held = latest.get(number)
            value = None if held is None else attribute_value(held[5], categories)
            if value is not None:
                values[row, customer], valid[row, customer] = value, True


def _latest(cells: Cells) -> dict[int, dict[int, Attribute]]:
    found: dict[int, dict[int, Attribute]] = {}
    for row, section in zip(cells.row_of_member.tolist(), cells.attributes, strict=True):
        if section:
            latest = found.setdefault(row, {})
            for attribute in decode_attributes(section):
                held = latest.get(attribute[0])
                if held is None or attribute[1:5] > held[1:5]:
                    latest[attribute[0]] = attribute
    return found


def attribute_value(value: Any, categories: dict[str, int] | None) -> int | None:
    """The integer of a JSON value: its category's place (-1 for any other), or the floor of a number; None = null."""
    if value is None:
        return None
    if categories is not None:
        text = _category(value)
        return -1 if text is None else categories.get(text, -1)
    if not isinstance(value, bool | int | float) or abs(value) > _EXACT:
        return None
    return int(value // 1)


def _category(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return value if isinstance(value, str) else None


_MEASURES = {
    "count": _sums,
    "sum": _sums,
    "breadth": _breadth,
    "trend": _trend,
    "rate": _rate,
    "active_days": _active_days,
    "streak": _streak,
    "recency": _recency,
    "tenure": _tenure,
    "engagement": _engagement,
    "attribute": _attribute,
}
