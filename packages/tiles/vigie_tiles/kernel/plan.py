"""What to compute for a list of features, worked out once: which cells matter and how they combine.

Features share groups. Each distinct group becomes a run of columns; one gather and one `reduceat` fold all groups of
a monoid for all customers at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureSpec

from vigie_tiles.kernel.cells import OLDEST
from vigie_tiles.layout import WINDOWED, Group, Kind, Layout, groups
from vigie_tiles.local_days import Ints

Bits = npt.NDArray[np.uint64]
ABSENT_LAST, ABSENT_FIRST = -(2**63), 2**63 - 1
_KEPT_PLANS = 64
BY_CELL = ("weekday", "weekend_share", "hour", "nth")
"""Measures that look at each cell's own age or instant, so that no table of sums serves them."""


class Runs:
    """Distinct tuples of columns, numbered; concatenated for `ufunc.reduceat`."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, columns: tuple[int, ...]) -> int:
        """The number of a run, a new one when it is new."""
        return self._numbers.setdefault(columns, len(self._numbers))

    def arrays(self) -> tuple[Ints, Ints]:
        """(columns of all runs, where each run starts)."""
        counts = np.array([len(run) for run in self._numbers], dtype=np.int64)
        flat = np.array([column for run in self._numbers for column in run], dtype=np.int64)
        return flat, np.cumsum(counts) - counts


@dataclass
class Dense:
    """Columns of a dense table for the slots that a monoid needs; `of_slot` is -1 for the others."""

    slots: dict[int, int] = field(default_factory=dict)

    def column(self, slot: int) -> int:
        """The column of a slot, a new one when it is new."""
        return self.slots.setdefault(slot, len(self.slots))

    def of_slot(self, count: int) -> Ints:
        """Column by slot number."""
        table = np.full(count, -1, dtype=np.int64)
        for slot, column in self.slots.items():
            table[slot] = column
        return table


class Parts(NamedTuple):
    """Components of engagement scores: the feature's number, the group's run, and columns of weights and caps."""

    feature: Ints
    run: Ints
    weight: Ints
    cap: Ints
    masks: tuple[Bits, Bits]


class Plan:
    """Index tables for one (layout, features); made by `plan_for`."""

    def __init__(self, layout: Layout, features: Sequence[FeatureSpec]) -> None:
        self.layout = layout
        self.features = tuple(features)
        self.limits = _limits(self.features)
        self.classes = max(map(len, self.limits.values()), default=0)
        self.sums, self.breadths, self.peaks = Runs(), Runs(), Runs()
        self.days, self.lasts, self.firsts = Runs(), Runs(), Runs()
        self._tiles, self._peaks, self._bits, self._ends = Dense(), Dense(), Dense(), Dense()
        self.cells_of: dict[int, npt.NDArray[np.bool_]] = {}
        self.by_measure: dict[str, list[int]] = {}
        self.runs: list[tuple[int, ...]] = []
        for number, feature in enumerate(self.features):
            self.by_measure.setdefault(feature.measure, []).append(number)
            self.runs.append(tuple(self._run(feature, place, group) for place, group in enumerate(groups(feature))))
        self._freeze()

    def column_runs(self, measure: str, place: int = 0) -> tuple[Ints, Ints]:
        """(feature numbers of a measure, their runs at a place of their groups)."""
        return self._column_runs[measure, place]

    def parameters(self, measure: str, name: str) -> Ints:
        """A parameter of each feature of a measure, as a column."""
        return self._parameters[measure, name]

    def _run(self, feature: FeatureSpec, place: int, group: Group) -> int:
        slots = self.layout.columns(group)
        if feature.measure in BY_CELL:
            self.cells_of[len(self.runs)] = self._cells(slots, group.last_age)
            return -1
        if group.kind == Kind.LAST:
            return self.lasts.number(tuple(self._ends.column(slot) for slot in slots))
        if group.kind == Kind.FIRST:
            return self.firsts.number(tuple(self._ends.column(slot) for slot in slots))
        if counts_days(feature, place):
            return self.days.number(tuple(self._bits.column(slot) for slot in slots))
        age_class = self.limits[group.kind].index(group.last_age)
        table = self._peaks if group.kind == Kind.PEAK else self._tiles
        columns = tuple(age_class * len(self.layout.slots) + table.column(slot) for slot in slots)
        runs = {"breadth": self.breadths, "max": self.peaks}.get(feature.measure, self.sums)
        return runs.number(columns)

    def _cells(self, slots: Sequence[int], last_age: int) -> npt.NDArray[np.bool_]:
        """By a cell's place: whether it belongs to these slots and is young enough."""
        table = np.zeros((len(self.layout.slots), OLDEST + 1), dtype=bool)
        table[list(slots), : last_age + 1] = True
        return table.ravel()

    def _attribute(self, row: int) -> tuple[int, int, dict[str, int] | None]:
        """(feature's number, number of the attribute, place of each category)."""
        feature = self.features[row]
        number = self.layout.attribute_index.get(feature.attribute or "")
        if number is None:
            raise InvalidInput(f"the tiles do not keep the attribute {feature.attribute!r}: add its row to the table")
        places = {name: place for place, name in enumerate(feature.categories)}
        return row, number, places or None

    def _parts(self, measure: str) -> "Parts":
        """The components of all engagement scores that count events, or days."""
        found = [
            (row, run, part.weight, part.cap, self.features[row].window_days)
            for row in self.by_measure.get("engagement", [])
            for part, run in zip(self.features[row].components, self.runs[row], strict=True)
            if part.measure == measure
        ]
        table = np.array(found, dtype=np.int64).reshape(-1, 5)
        return Parts(table[:, 0], table[:, 1], table[:, 2:3], table[:, 3:4], day_masks(table[:, 4]))

    def _by_class(self, runs: Runs, count: int) -> tuple[Ints, Ints]:
        """The runs as rows of a table of age classes x `count` columns."""
        flat, starts = runs.arrays()
        age_class, column = np.divmod(flat, max(len(self.layout.slots), 1))
        return age_class * count + column, starts

    def _tile_places(self, tile_of: Ints, count: int) -> Ints:
        """By a cell's place: its row in the table of sums (age class x slot), -1 where no sum sees it."""
        ages, table = np.arange(OLDEST + 1), np.full((len(tile_of), OLDEST + 1), -1, dtype=np.int64)
        for slot in np.flatnonzero(tile_of >= 0).tolist():
            limits = np.array(self.limits[Kind(self.layout.kinds[slot])], dtype=np.int64)
            age_class = limits.searchsorted(ages)
            table[slot] = np.where(age_class < len(limits), age_class * count + tile_of[slot], -1)
        return table.ravel().astype(np.int32)

    def _freeze(self) -> None:
        features = self.features
        count = len(self.layout.slots)
        bit_of = self._bits.of_slot(count)
        self.end_at = self._ends.of_slot(count).repeat(OLDEST + 1).astype(np.int32)
        self.bit_count, self.end_count = len(self._bits.slots), len(self._ends.slots)
        self.tile_count, self.peak_count = len(self._tiles.slots), len(self._peaks.slots)
        self.first_ends = np.array([self.layout.kinds[slot] == Kind.FIRST for slot in self._ends.slots], dtype=bool)
        self.absent = np.where(self.first_ends, ABSENT_FIRST, ABSENT_LAST)[:, None]
        self.tile_at = self._tile_places(self._tiles.of_slot(count), self.tile_count)
        self.peak_at = self._tile_places(self._peaks.of_slot(count), self.peak_count)
        ages = np.arange(OLDEST + 1)
        is_seen = (bit_of[:, None] >= 0) & (ages < 128)
        self.bit_at = np.where(is_seen, 2 * bit_of[:, None] + (ages >= 64), -1).ravel().astype(np.int32)
        self.sum_runs = self._by_class(self.sums, self.tile_count)
        self.breadth_runs = self._by_class(self.breadths, self.tile_count)
        self.peak_runs = self._by_class(self.peaks, self.peak_count)
        self.day_runs, self.last_runs, self.first_runs = self.days.arrays(), self.lasts.arrays(), self.firsts.arrays()
        self._column_runs = {
            (measure, place): (np.array(rows), np.array([self.runs[row][place] for row in rows], dtype=np.int64))
            for measure, rows in self.by_measure.items()
            if measure not in ("attribute", "last", "engagement", *BY_CELL)
            for place in range(len(self.runs[rows[0]]))
        }
        self.masks = {
            measure: day_masks(np.array([self.features[row].window_days for row in self.by_measure.get(measure, [])]))
            for measure in ("active_days", "streak", "longest_gap")
        }
        self.latest = [(row, self.layout.latest_number(features[row])) for row in self.by_measure.get("last", [])]
        self.attributes = [self._attribute(row) for row in self.by_measure.get("attribute", [])]
        self.counted_parts, self.day_parts = self._parts("count"), self._parts("active_days")
        self._parameters = {
            (measure, name): np.array([[getattr(self.features[row], name)] for row in rows], dtype=np.int64)
            for measure, rows in self.by_measure.items()
            for name in ("zero_over_zero", "x_over_zero", "cap")
        }
        rows = self.by_measure.get("baseline", [])
        days = np.array([features[row].window_days for row in rows], dtype=np.int64)
        self._parameters["baseline", "window_days"] = days.reshape(-1, 1)


def day_masks(window_days: Ints) -> tuple[Bits, Bits]:
    """Columns of (low, high) bits of the days 0…window, for windows below 127 days."""
    masks = [(1 << int(days) + 1) - 1 for days in window_days]
    low = np.array([mask & (2**64 - 1) for mask in masks], dtype=np.uint64)
    high = np.array([mask >> 64 for mask in masks], dtype=np.uint64)
    return low[:, None], high[:, None]


def counts_days(feature: FeatureSpec, place: int) -> bool:
    """Whether the feature's group at a place is a set of local days and not a sum."""
    if feature.measure == "engagement":
        return feature.components[place].measure == "active_days"
    return feature.measure in ("active_days", "streak", "longest_gap")


def plan_for(layout: Layout, features: Sequence[FeatureSpec]) -> Plan:
    """The plan of these very feature objects, kept with the layout."""
    key = tuple(map(id, features))
    plan: Plan | None = layout.plans.get(key)
    if plan is None:
        plan = Plan(layout, features)
        if len(layout.plans) >= _KEPT_PLANS:
            layout.plans.clear()
        layout.plans[key] = plan
    return plan


def _limits(features: Sequence[FeatureSpec]) -> dict[Kind, tuple[int, ...]]:
    """The ages (hours, local days) at which a cell leaves some sum or maximum of these features."""
    found: dict[Kind, set[int]] = {kind: set() for kind in WINDOWED}
    for feature in features:
        for place, group in enumerate(groups(feature)):
            if group.kind in WINDOWED and not counts_days(feature, place) and feature.measure not in BY_CELL:
                found[group.kind].add(group.last_age)
    return {kind: tuple(sorted(ages)) for kind, ages in found.items()}
