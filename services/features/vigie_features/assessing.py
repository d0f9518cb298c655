"""What follows for customers from their state at the clock: when they next move, which segments they are in.

The consumer, the sweep and the rebuild all end here, inside their transaction.
"""

from collections.abc import Callable, Mapping, Sequence

from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.segments import Segment
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from vigie_features import domain
from vigie_features.domain import Cause, Column, CustomerRead, StoredTile
from vigie_features.store import CustomerState, Transaction


class Assessor:
    """Evaluates customers; `now_us` is the business clock."""

    def __init__(
        self, table: FeatureTable, layout: Layout, segments: Sequence[Segment], now_us: Callable[[], int]
    ) -> None:
        self.segments = segments
        self._layout = layout
        self._features: tuple[FeatureSpec, ...] = table.select(domain.features_of(segments))
        self._now_us = now_us

    def assess(
        self,
        tx: Transaction,
        causes: Mapping[str, Cause],
        folded: Mapping[str, StoredTile] | None = None,
        *,
        announce: bool = True,
    ) -> int:
        """Store next change and memberships of the customers and append what moved; the number that have state.

        `folded` are members' tiles that the caller already holds. Without `announce` no change record is appended.
        """
        now_us = self._now_us()
        customers = self._customers(tx, list(causes), folded or {}, now_us)
        present = {customer.customer_id for customer in customers}
        tx.save_customers(self._states(customers))
        tx.remove_customers([customer_id for customer_id in causes if customer_id not in present])
        instants = dict.fromkeys(causes, now_us) | {customer.customer_id: customer.t_us for customer in customers}
        self._save_segments(tx, customers, causes, instants)
        if announce:
            not_before = dict.fromkeys(causes, 0) | {row.customer_id: row.newest_us + 1 for row in customers}
            tx.append_changes(domain.changes(causes, not_before))
        return len(customers)

    def _customers(
        self, tx: Transaction, customer_ids: Sequence[str], folded: Mapping[str, StoredTile], now_us: int
    ) -> list[CustomerRead]:
        members = tx.members_of(customer_ids)
        wanted = {member_id for found in members.values() for member_id in found if member_id not in folded}
        reads = domain.customer_reads(members, tx.tiles(wanted) | dict(folded), now_us)
        return [read for read in reads if read.blobs]

    def _states(self, customers: Sequence[CustomerRead]) -> list[CustomerState]:
        if not customers:
            return []
        blobs, instants = [row.blobs for row in customers], [row.t_us for row in customers]
        moments = kernel.next_change(self._layout, blobs, instants)
        return [
            CustomerState(row.customer_id, int(moment), row.newest_us)
            for row, moment in zip(customers, moments, strict=True)
        ]

    def _save_segments(
        self,
        tx: Transaction,
        customers: Sequence[CustomerRead],
        causes: Mapping[str, Cause],
        instants: Mapping[str, int],
    ) -> None:
        after = dict(zip((row.customer_id for row in customers), self._memberships(customers), strict=True))
        before = tx.memberships(list(causes))
        moves = [
            move
            for customer_id, cause in causes.items()
            for move in domain.moved(
                customer_id,
                {key: standing.version for key, standing in before.get(customer_id, {}).items()},
                after.get(customer_id, {}),
                instants[customer_id],
                cause.position,
            )
        ]
        tx.save_moves(moves)

    def _memberships(self, customers: Sequence[CustomerRead]) -> list[dict[str, int]]:
        if not customers:
            return []
        blobs, instants = [row.blobs for row in customers], [row.t_us for row in customers]
        matrix = kernel.finalise(self._layout, self._features, blobs, instants)
        columns = {
            feature.key: Column(matrix.values[:, number], matrix.valid[:, number])
            for number, feature in enumerate(self._features)
        }
        return domain.memberships(self.segments, columns, len(customers))
