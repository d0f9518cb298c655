"""Keeps the serving copy of the tiles in Redis in step with features.db, after each commit.

It needs no state of its own: the copy says where it stands, the log says whom the records since then touched, and one
snapshot of features.db says what holds of them now. A copy that was lost or fell far behind is filled again.
"""

from collections.abc import Callable, Iterator, Sequence

from vigie_contracts.errors import Conflict
from vigie_kit.log import Entry, LogReader
from vigie_kit.logs import get
from vigie_kit.sqlite_log import LANE
from vigie_tiles.live import LIVE
from vigie_tiles.redis_tiles import Delta, RedisTiles

from vigie_features import domain
from vigie_features.store import Snapshot, Store

PAGE = 2_000
LARGEST_STEP = 20_000
"""Records; a copy that is further behind is filled again, page by page."""


class ServingCopy:
    """The step of the copy's worker. Only this process writes the copy."""

    def __init__(self, store: Store, log: LogReader, copy: RedisTiles, is_ready: Callable[[], bool]) -> None:
        self._store = store
        self._log = log
        self._copy = copy
        self._is_ready = is_ready
        self._anew = False

    def fill_anew(self) -> None:
        """The tiles were folded anew: what the copy holds of them is replaced, also at the same position."""
        self._anew = True

    def step(self) -> bool:
        """Bring the copy to what is committed; False when it is there, or the state is still being rebuilt."""
        if not self._is_ready():
            return False
        held = self._copy.position(LANE)
        with self._store.snapshot() as snapshot:
            applied = snapshot.applied()
            if snapshot.setting(LIVE) != self._copy.live:  # another table has just become live
                return False
            if held == applied and not self._anew:
                return False
            if self._anew or held is None or not held < applied <= held + LARGEST_STEP:
                get(__name__).info("the copy of the tiles in Redis is filled", held=held, applied=applied)
                self._copy.refill(LANE, applied, _everything(snapshot))
                self._anew = False
            else:
                self._copy.commit(LANE, held, applied, _touched(snapshot, self._between(held, applied)))
        return True

    def _between(self, held: int, applied: int) -> Sequence[Entry]:
        entries = self._log.read({LANE: held}, applied - held)
        if not entries or entries[-1].position.number != applied:
            raise Conflict(f"the log does not hold the records {held + 1} to {applied} that features.db has applied")
        return entries


def _touched(snapshot: Snapshot, entries: Sequence[Entry]) -> Delta:
    """What the snapshot holds of everybody whom these records touched; who was erased is removed."""
    batch = domain.read_batch(entries)
    erased = {member for person in batch.erased for member in person.member_ids}
    members = set(batch.by_member) | erased
    customers = set(batch.by_customer) | erased
    tiles = snapshot.tiles(members)
    customer_of = snapshot.customer_of(customers | {moved.move.member_id for moved in batch.moves})
    return Delta(
        tiles={member: tiles[member].blob if member in tiles else None for member in members},
        moved={member: customer if customer != member else None for member, customer in customer_of.items()},
        joined=_others(snapshot.members_of(customers)),
    )


def _everything(snapshot: Snapshot) -> Iterator[Delta]:
    """The whole state in pages."""
    after = ""
    while tiles := snapshot.tiles_after(after, PAGE):
        yield Delta(tiles={member: tile.blob for member, tile in tiles.items()})
        after = max(tiles)
    after = ""
    while customers := snapshot.customers_after(after, PAGE):
        joined = _others(snapshot.members_of(customers))
        moved = {member: customer for customer, members in joined.items() for member in members}
        yield Delta(moved=moved, joined=joined)
        after = customers[-1]


def _others(members_of: dict[str, list[str]]) -> dict[str, list[str]]:
    return {customer: [member for member in found if member != customer] for customer, found in members_of.items()}
