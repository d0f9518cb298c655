"""Engagement of customers in a window, from their tiles: counts of each micro-conversion, and what sums them up.

Only names whose cells the declared features keep far enough back for the window and the period before it are listed.
A value that no declared feature keeps is null, never a guess.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from vigie_contracts.catalogue import Catalogue, MicroConversion
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import HOUR_WINDOW_DAYS, WINDOW_DAYS, FeatureSpec
from vigie_contracts.instants import HOUR_US
from vigie_contracts.reads import EngagementRow, MicroConversionRow
from vigie_tiles import kernel
from vigie_tiles.codec import decode
from vigie_tiles.layout import AGE_BITS, Atom, Kind, Layout
from vigie_tiles.local_days import Ints

from vigie_features import domain
from vigie_features.domain import CustomerRead


class Counted(NamedTuple):
    """(customers, names): events in the window, in the period before it, and the last instant (0: none or not kept)."""

    now: Ints
    previous: Ints
    last_us: Ints


class Engagement:
    """Prepared for one window length; InvalidInput for a length that features do not have."""

    def __init__(self, layout: Layout, catalogue: Catalogue, window_days: int) -> None:
        if window_days not in WINDOW_DAYS:
            raise InvalidInput(f"a window has {', '.join(map(str, WINDOW_DAYS))} days, not {window_days}")
        self._layout = layout
        self._window_days = window_days
        self._by_hour = window_days in HOUR_WINDOW_DAYS
        self._kind = Kind.HOUR if self._by_hour else Kind.DAY
        needed = 2 * window_days * (24 if self._by_hour else 1)
        slots = {
            slot.atom.names[0]: number
            for number, slot in enumerate(layout.slots)
            if slot.kind == self._kind and slot.atom == Atom(slot.atom.names[:1]) and slot.span >= needed
        }
        self._rows = [row for row in catalogue.micro_conversions.values() if row.name in slots]
        self._column_of_slot: Ints = np.full(len(layout.slots), -1, dtype=np.int64)
        self._last_of_slot: Ints = np.full(len(layout.slots), -1, dtype=np.int64)
        for column, row in enumerate(self._rows):
            self._column_of_slot[slots[row.name]] = column
            for number, slot in enumerate(layout.slots):
                if slot.atom == Atom((row.name,)) and slot.kind == Kind.LAST:
                    self._last_of_slot[number] = column
        self._features = _summaries(layout, catalogue, window_days)

    @property
    def micro_conversions(self) -> list[MicroConversion]:
        """What is counted, in the catalogue's order."""
        return self._rows

    def read(self, customers: Sequence[CustomerRead]) -> list[EngagementRow]:
        """One row a customer, as of its read instant."""
        if not customers:
            return []
        counted = self.count(customers)
        specs = tuple(self._features.values())
        matrix = kernel.finalise(self._layout, specs, [row.blobs for row in customers], [row.t_us for row in customers])
        summaries = [dict(zip(self._features, row, strict=True)) for row in domain.rows(matrix.values, matrix.valid)]
        return [self._row(customer, number, counted, summaries[number]) for number, customer in enumerate(customers)]

    def count(self, customers: Sequence[CustomerRead]) -> Counted:
        """Counts of every listed micro-conversion, over all members of each customer."""
        owner = np.repeat(np.arange(len(customers)), [len(row.blobs) for row in customers])
        cells = decode([blob for row in customers for blob in row.blobs], self._layout.hash)
        shape = (len(customers), len(self._rows))
        now, previous, last = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        slot, row = cells.code >> AGE_BITS, owner[cells.member]
        counts, lasts = self._column_of_slot[slot], self._last_of_slot[slot]
        bucket = self._buckets(cells.newest)[cells.member] - (cells.code & ((1 << AGE_BITS) - 1))
        edge, earlier = self._edges(np.array([customer.t_us for customer in customers], dtype=np.int64))
        in_window = (counts >= 0) & (bucket >= edge[row])
        in_previous = (counts >= 0) & (bucket < edge[row]) & (bucket >= earlier[row])
        np.add.at(now, (row[in_window], counts[in_window]), cells.value[in_window])
        np.add.at(previous, (row[in_previous], counts[in_previous]), cells.value[in_previous])
        np.maximum.at(last, (row[lasts >= 0], lasts[lasts >= 0]), cells.value[lasts >= 0])
        return Counted(now, previous, last)

    def _buckets(self, instants: Ints) -> Ints:
        return instants // HOUR_US if self._by_hour else self._layout.days.day(instants)

    def _edges(self, t_us: Ints) -> tuple[Ints, Ints]:
        """The first bucket of the window and of the period before it: UTC hours, or local days."""
        if self._by_hour:
            return t_us // HOUR_US - 24 * self._window_days, t_us // HOUR_US - 48 * self._window_days
        today = self._layout.days.day(t_us)
        return today - self._window_days, today - 2 * self._window_days

    def _row(
        self, customer: CustomerRead, number: int, counted: Counted, summary: dict[str, int | None]
    ) -> EngagementRow:
        own = [at for at, row in enumerate(self._rows) if row.initiated_by == "customer"]
        now, previous = int(counted.now[number, own].sum()), int(counted.previous[number, own].sum())
        last_us = int(counted.last_us[number, own].max(initial=0))
        return EngagementRow(
            customer_id=customer.customer_id,
            window_days=self._window_days,
            as_of_us=customer.t_us,
            score=summary.get("engagement"),
            active_days=summary.get("active_days") or 0,
            last_activity_at_us=last_us or None,
            trend=now / previous if previous else None,
            micro_conversions=[
                MicroConversionRow(
                    name=row.name,
                    label=row.label,
                    count=int(counted.now[number, at]),
                    previous_count=int(counted.previous[number, at]),
                    last_at_us=int(counted.last_us[number, at]) or None,
                )
                for at, row in enumerate(self._rows)
                if counted.now[number, at] or counted.previous[number, at]
            ],
        )


def _summaries(layout: Layout, catalogue: Catalogue, window_days: int) -> dict[str, FeatureSpec]:
    """The declared engagement score of the window, and active days over the customer's acts whose days are kept."""
    declared = [row for row in layout.table.features if (row.measure, row.window_days) == ("engagement", window_days)]
    kept = {slot.atom for slot in layout.slots if slot.kind == Kind.DAY and slot.span >= window_days}
    own = tuple(name for name in catalogue.names_in("customer") if Atom((name,)) in kept)
    found: dict[str, FeatureSpec] = {"engagement": declared[0]} if declared else {}
    if own:
        found["active_days"] = FeatureSpec(
            name="active_days",
            description="Local days with an act",
            measure="active_days",
            events=own,
            window_days=window_days,
        )
    return found
