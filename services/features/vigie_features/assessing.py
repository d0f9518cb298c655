"""What follows for customers from their state at the clock: when they next move, which segments they are in.

The consumer, the sweep and the walk all end here, inside their transaction.
"""

from collections.abc import Callable, Mapping, Sequence

from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from vigie_features import domain
from vigie_features.definitions import Definitions, Standing
from vigie_features.domain import Cause, Column, CustomerRead, StoredTile
from vigie_features.store import CustomerState, Transaction


class Assessor:
    """Evaluates customers by the segments that stand in the transaction; `now_us` is the business clock."""

    def __init__(self, layout: Layout, definitions: Definitions, now_us: Callable[[], int]) -> None:
        self._layout = layout
        self._definitions = definitions
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
        found = self._memberships(self._definitions.at(tx), customers)
        after = dict(zip((row.customer_id for row in customers), found, strict=True))
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

    def _memberships(self, standing: Standing, customers: Sequence[CustomerRead]) -> list[dict[str, int]]:
        if not customers:
            return []
        blobs, instants = [row.blobs for row in customers], [row.t_us for row in customers]
        matrix = kernel.finalise(self._layout, standing.features, blobs, instants)
        columns = {
            feature.key: Column(matrix.values[:, number], matrix.valid[:, number])
            for number, feature in enumerate(standing.features)
        }
        return domain.memberships(standing.segments, columns, len(customers))
