"""From groups of cells to the values of measures, for all customers at once. docs/features.md defines them."""

from typing import Any, NamedTuple

import numpy as np
from vigie_contracts.features import BASELINE_DAYS
from vigie_contracts.instants import HOUR_US

from vigie_tiles.codec import Attribute, decode_attributes
from vigie_tiles.kernel.cells import Cells
from vigie_tiles.kernel.plan import ABSENT_FIRST, ABSENT_LAST, Bits, Parts, Plan
from vigie_tiles.local_days import Ints

_EXACT = 2**53
_ONE, _ALL = np.uint64(1), np.uint64(2**64 - 1)


class Folded(NamedTuple):
    """Each group's result, a row a group and a column a customer."""

    sums: Ints
    breadths: Ints
    peaks: Ints
    days: tuple[Bits, Bits]
    lasts: Ints
    firsts: Ints


def _sums(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    for measure in ("count", "sum"):
        if measure in plan.by_measure:
            rows, runs = plan.column_runs(measure)
            values[rows] = folded.sums[runs]


def _breadth(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, runs = plan.column_runs("breadth")
    values[rows] = folded.breadths[runs]


def _max(plan: Plan, _: Cells, folded: Folded, values: Ints, valid: Any) -> None:
    rows, runs = plan.column_runs("max")
    values[rows] = folded.peaks[runs]
    valid[rows] = values[rows] != ABSENT_LAST


def _baseline(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, now = plan.column_runs("baseline")
    recent, own = folded.sums[now], folded.sums[plan.column_runs("baseline", 1)[1]]
    days = plan.parameters("baseline", "window_days")
    permille = np.minimum(
        plan.parameters("baseline", "cap"), 1000 * BASELINE_DAYS * recent // np.maximum(days * own, 1)
    )
    values[rows] = np.where(own == 0, plan.parameters("baseline", "zero_over_zero"), permille)


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


def _longest_gap(plan: Plan, _: Cells, folded: Folded, values: Ints, __: Any) -> None:
    rows, runs = plan.column_runs("longest_gap")
    seen = np.stack((folded.days[0][runs], folded.days[1][runs]), axis=-1).astype("<u8").view(np.uint8)
    windows = np.array([plan.features[row].window_days for row in rows.tolist()])[:, None, None]
    back = np.arange(windows.max() + 1)
    active = np.unpackbits(seen, axis=-1, count=len(back), bitorder="little")
    nearest = np.maximum.accumulate(np.where(active, back, -1), axis=-1)
    values[rows] = np.where(back <= windows, back - nearest, 0).max(axis=-1)


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


def _last(plan: Plan, cells: Cells, _: Folded, values: Ints, valid: Any) -> None:
    valid[plan.by_measure["last"]] = False
    for customer, latest in _latest(cells).items():
        for row, number in plan.latest:
            if number in latest:
                values[row, customer], valid[row, customer] = latest[number][5], True


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


MEASURES = {
    "count": _sums,
    "sum": _sums,
    "breadth": _breadth,
    "trend": _trend,
    "rate": _rate,
    "active_days": _active_days,
    "streak": _streak,
    "recency": _recency,
    "tenure": _tenure,
    "max": _max,
    "baseline": _baseline,
    "longest_gap": _longest_gap,
    "engagement": _engagement,
    "attribute": _attribute,
    "last": _last,
}
