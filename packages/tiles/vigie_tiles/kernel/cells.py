"""The decoded cells of the members of many customers, with their ages at each customer's read instant."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vigie_contracts.errors import LimitExceeded, PastReadPoint
from vigie_contracts.instants import HOUR_US, format_instant

from vigie_tiles.codec import decode_runs
from vigie_tiles.layout import AGE_BITS, Kind, Layout
from vigie_tiles.local_days import Ints

MAX_MEMBERS = 32
OLDEST = (1 << AGE_BITS) - 1
"""Ages are clipped here in `place`; no feature sees that far."""


@dataclass(frozen=True)
class Cells:
    """Sorted by (member, slot, age). `row` is the customer's row of each cell, `row_of_member` of each blob.

    `place` = slot << 9 | min(age, OLDEST) looks up tables of what a cell means to a plan; ages are hours or local days.
    `joined`: some customer has more than one member.
    """

    rows: int
    t_us: Ints
    day: Ints
    member: Ints
    row: Ints
    row_of_member: Ints
    place: Ints
    value: Ints
    attributes: list[bytes]
    joined: bool


def read_cells(layout: Layout, blobs_by_row: Sequence[Sequence[bytes]], t_us: Sequence[int] | Ints | int) -> Cells:
    """Decode all blobs; hours and local days of age count back from the row's `t_us`.

    PastReadPoint when some `t_us` is not after everything folded in; LimitExceeded for more than 32 members.
    """
    rows = len(blobs_by_row)
    counts = np.fromiter(map(len, blobs_by_row), dtype=np.int64, count=rows)
    most = int(counts.max(initial=0))
    if most > MAX_MEMBERS:
        raise LimitExceeded(f"a customer has {most} members; at most {MAX_MEMBERS} can be read together")
    instants = np.empty(rows, dtype=np.int64)
    instants[:] = t_us
    found = decode_runs([blob for blobs in blobs_by_row for blob in blobs], layout.hash)
    row_of_member = np.arange(rows, dtype=np.int64).repeat(counts)
    member_t = instants[row_of_member]
    _check_read_point(member_t, found.newest)
    days = layout.days.day(instants)
    steps = np.zeros((len(Kind), len(found.newest)), dtype=np.int64)
    steps[Kind.HOUR] = member_t // HOUR_US - found.newest // HOUR_US
    steps[Kind.DAY] = steps[Kind.PEAK] = days[row_of_member] - layout.days.day(found.newest)
    of_run = np.arange(len(found.slot)).repeat(found.cells)
    age = found.age + steps[layout.kinds[found.slot], found.member].take(of_run)
    return Cells(
        rows=rows,
        t_us=instants,
        day=days,
        member=found.member.take(of_run),
        row=row_of_member[found.member].take(of_run),
        row_of_member=row_of_member,
        place=(found.slot << AGE_BITS).take(of_run) | np.minimum(age, OLDEST),
        value=found.value,
        attributes=found.attributes,
        joined=most > 1,
    )


def _check_read_point(t_us: Ints, newest_us: Ints) -> None:
    early = t_us <= newest_us
    if early.any():
        first = int(early.argmax())
        t, newest = int(t_us[first]), int(newest_us[first])
        raise PastReadPoint(
            f"tiles hold an event of {format_instant(newest)} and cannot be read at {format_instant(t)}: "
            "read at a later instant, or use the batch kernel for the past"
        )
