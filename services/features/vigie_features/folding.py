"""Folding the log for a feature table that changed, beside the tiles that are served, which go on meanwhile.

The next tiles grow in a table of their own, a page of the log between two batches, until they hold all that the served
ones hold; then they take their place in one transaction, and the table is live. A kill continues where it was.

A replay folds for the live table itself, when its tiles are damaged.

Tiles that this version cannot read (their form changed) are dropped at the start. Nothing is live then, and the process
is not ready, until the log is folded again.
"""

from collections.abc import Callable

import msgspec
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.features import FeatureTable
from vigie_kit.log import LogReader
from vigie_kit.logs import get
from vigie_kit.sqlite_log import LANE
from vigie_tiles.layout import Layout
from vigie_tiles.live import FEATURES, LIVE, is_live, live_hash, rows_of, table_of

from vigie_features.consumer import NEXT_APPLIED, fold_next
from vigie_features.store import Snapshot, Store, Transaction

TIME_ZONE, LAYOUT_HASH = "time_zone", "layout_hash"
NEXT_FEATURES = "next_features"
"""Setting: the rows of the table that is being folded for."""
NEXT_FOLDS = "next_folds"
"""Setting: whether it needs tiles of its own; otherwise the served ones hold what it reads."""
FAILPOINT = "features.rebuild_"
_OLD_REFOLD = "rebuild_until"


class Folding:
    """`step` folds a page; `switch` is called, with the layout, when the next tiles are to take their place."""

    def __init__(
        self, store: Store, log: LogReader, time_zone: str, page: int, switch: Callable[[Layout], None]
    ) -> None:
        self._store = store
        self._log = log
        self._time_zone = time_zone
        self._page = page
        self._switch = switch
        self._target: Layout | None = None

    def prepare(self, declared: Layout) -> Layout | None:
        """At the start: aim at the declared table; the layout that is live, None when no tile can be read."""
        with self._store.writing(FAILPOINT) as tx:
            if tx.setting(_OLD_REFOLD) is not None:
                raise IncompatibleData(
                    f"{self._store.path}: an earlier version was stopped while it rebuilt the tiles; start that version"
                    " until it is ready, then this one"
                )
            live = self._live(tx)
            if live is None and tx.setting(LAYOUT_HASH) is None and tx.applied() == 0:
                put_live(tx, declared)
                return declared
            if live is None:
                get(__name__).info("the tiles cannot be read by this version: the log is folded again")
                tx.clear_tiles()
                tx.set(LIVE, "")
            elif tx.setting(LIVE) is None:
                put_live(tx, live)
            self.aim(tx, declared.table)
            return live

    def aim(self, tx: Transaction, table: FeatureTable) -> list[str]:
        """Fold for this table from now on, unless it is live; the keys of its features that are not."""
        layout = Layout(table, self._time_zone)
        live, under_way = tx.setting(LIVE) or "", tx.setting(NEXT_FEATURES) == rows_of(table)
        if live == live_hash(layout):
            if not under_way:  # a replay of the live table goes on
                _forget_next(tx)
            return []
        if not under_way:
            self._begin(tx, table, folds=not live or str(layout.hash) != tx.setting(LAYOUT_HASH))
            get(__name__).info("the feature table changed: what is new is folded from the log", until=tx.applied())
        return awaited(tx)

    def replay(self, tx: Transaction) -> FeatureTable:
        """Fold all tiles anew from the log, for the table that is folded for or live; that table."""
        rows = tx.setting(NEXT_FEATURES) or tx.setting(FEATURES)
        assert rows is not None
        table = table_of(rows)
        self._begin(tx, table, folds=True)
        get(__name__).info("the tiles are folded anew from the log", until=tx.applied())
        return table

    def _begin(self, tx: Transaction, table: FeatureTable, *, folds: bool) -> None:
        _forget_next(tx)
        tx.set(NEXT_FEATURES, rows_of(table))
        tx.set(NEXT_APPLIED, "0")
        tx.set(NEXT_FOLDS, "yes" if folds else None)

    def step(self) -> bool:
        """One page, or the switch; False when there is nothing to fold for."""
        with self._store.snapshot() as snapshot:
            rows, held, applied = snapshot.setting(NEXT_FEATURES), next_applied(snapshot), snapshot.applied()
            folds = snapshot.setting(NEXT_FOLDS) is not None
        if rows is None:
            return False
        target = self._target
        if target is None or rows_of(target.table) != rows:
            target = self._target = Layout(table_of(rows), self._time_zone)
        if folds and held < applied:
            entries = self._log.read({LANE: held}, min(self._page, applied - held))
            fold_next(self._store, target, entries, FAILPOINT)
        else:
            self._switch(target)
        return True

    def _live(self, snapshot: Snapshot) -> Layout | None:
        """The layout of the tiles that are there, when this version reads them."""
        rows = snapshot.setting(FEATURES)
        if rows is None or snapshot.setting(LIVE) == "":
            return None
        try:
            layout = Layout(table_of(rows), self._time_zone)
        except msgspec.DecodeError:
            return None
        return layout if str(layout.hash) == snapshot.setting(LAYOUT_HASH) else None


def put_live(tx: Transaction, layout: Layout) -> bool:
    """Say that the tiles are this layout's, after putting the next ones in place when they are; whether some were live
    before."""
    were_live = bool(tx.setting(LIVE))
    if tx.setting(NEXT_FOLDS) is not None:
        tx.put_next_tiles()
    _forget_next(tx)
    tx.set(TIME_ZONE, layout.time_zone)
    tx.set(FEATURES, rows_of(layout.table))
    tx.set(LAYOUT_HASH, str(layout.hash))
    tx.set(LIVE, live_hash(layout))
    return were_live


def pending_table(snapshot: Snapshot) -> FeatureTable | None:
    """The table that is being folded for."""
    rows = snapshot.setting(NEXT_FEATURES)
    return None if rows is None else table_of(rows)


def next_applied(snapshot: Snapshot) -> int:
    """The last number of the log in the next tiles."""
    return int(snapshot.setting(NEXT_APPLIED) or 0)


def awaited(snapshot: Snapshot) -> list[str]:
    """Keys of the features that are folded for and not live yet, in the order of the table."""
    pending = pending_table(snapshot)
    live = table_of(snapshot.setting(FEATURES) or "[]") if snapshot.setting(LIVE) else FeatureTable([])
    return [] if pending is None else [row.key for row in pending.features if not is_live(live, row)]


def _forget_next(tx: Transaction) -> None:
    tx.clear_next_tiles()
    for name in (NEXT_FEATURES, NEXT_APPLIED, NEXT_FOLDS):
        tx.set(name, None)
