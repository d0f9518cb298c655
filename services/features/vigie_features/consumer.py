"""The consumer: log entries become state, segments and hints in one transaction with the offset that fences it."""

from collections.abc import Sequence

from vigie_kit.log import Entry, LogReader
from vigie_kit.sqlite_log import LANE
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from vigie_features import domain
from vigie_features.assessing import Assessor
from vigie_features.domain import Batch, StoredTile
from vigie_features.store import NEXT_TILES, TILES, Store, TilesTable, Transaction

NEXT_APPLIED = "next_applied"
"""Setting: the last number of the log in the next tiles."""
LARGEST_BATCH = 5
"""In a backlog a batch holds up to this many times the usual number of records."""


class Consumer:
    """Reads on from the committed offset, a batch at a time."""

    def __init__(self, store: Store, log: LogReader, layout: Layout, assessor: Assessor, batch_records: int) -> None:
        self._store = store
        self._log = log
        self._layout = layout
        self._assessor = assessor
        self._batch_records = batch_records
        self._scrub_due = True

    def step(self) -> bool:
        """Apply one batch; False when the log holds nothing new. Conflict when another consumer moved the offset."""
        if self._scrub_due:
            self._scrub_due = not self._store.scrub()
        expected = self._store.cursor()
        entries = self._log.read(expected, self._limit(expected.get(LANE, 0)))
        if not entries:
            return False
        batch = domain.read_batch(entries)
        with self._store.writing(erasing=bool(batch.erased)) as tx:
            tx.advance(expected.get(LANE, 0), entries[-1].position.number)
            folded = fold(tx, self._layout, batch)
            customer_of = tx.customer_of(list(batch.by_member))
            self._assessor.assess(tx, domain.causes(batch, customer_of), folded)
            forget(tx, batch)
        self._scrub_due = self._scrub_due or bool(batch.erased)
        return True

    def _limit(self, applied: int) -> int:
        """A long backlog is taken in larger batches: fewer looks at the same customer. Depends on the log only."""
        pending = self._log.end().get(LANE, 0) - applied
        return min(max(self._batch_records, pending // 4), LARGEST_BATCH * self._batch_records)


def fold(tx: Transaction, layout: Layout, batch: Batch) -> dict[str, StoredTile]:
    """Apply the batch's map moves and fold its events into tiles; the new state of the members touched."""
    for moved in batch.moves:
        tx.move_member(moved)
    return _fold_events(tx, layout, batch, TILES)


def _fold_events(tx: Transaction, layout: Layout, batch: Batch, table: TilesTable) -> dict[str, StoredTile]:
    before = tx.tiles(list(batch.by_member), table)
    blobs = {member_id: before[member_id].blob if member_id in before else None for member_id in batch.by_member}
    after = kernel.fold(layout, blobs, batch.events)
    folded = {member_id: StoredTile(member.blob, member.newest_us) for member_id, member in after.items()}
    tx.save_tiles(folded, table)
    return folded


def forget(tx: Transaction, batch: Batch) -> None:
    """Remove everything of the persons that were erased, from the state and from the output logs."""
    for person in batch.erased:
        tx.forget(person.member_ids)


def fold_next(store: Store, layout: Layout, entries: Sequence[Entry], failpoint: str) -> None:
    """Apply log entries to the next tiles only; who is erased among them, or was since, leaves nothing there."""
    batch = domain.read_batch(entries)
    with store.writing(failpoint, erasing=bool(batch.erased)) as tx:
        _fold_events(tx, layout, batch, NEXT_TILES)
        forget(tx, batch)
        tx.set(NEXT_APPLIED, str(entries[-1].position.number))
