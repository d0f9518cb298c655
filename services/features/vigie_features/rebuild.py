"""Rebuilding the state after the declarations changed: refolds the log, then assesses every customer once.

Segments that are defined while the system runs are assessed by the same walk, a page between two batches.

Progress is committed with each page, so that a kill continues where it was. Until it is done the process is not ready,
and nothing is appended but what moved in segments and, after a refold, one change record a customer (why = rebuild).
"""

import hashlib
from collections.abc import Callable

import msgspec
from vigie_contracts.features import FeatureTable
from vigie_contracts.segments import Segment
from vigie_kit.log import LogReader
from vigie_kit.logs import get
from vigie_kit.sqlite_log import LANE
from vigie_tiles.layout import Layout

from vigie_features.assessing import Assessor
from vigie_features.consumer import refold
from vigie_features.definitions import ASSESS_AFTER, Definitions
from vigie_features.domain import Cause
from vigie_features.store import Store, Transaction

TIME_ZONE, FEATURES, LAYOUT_HASH = "time_zone", "features", "layout_hash"
_DECLARED = "declarations_hash"
_REFOLD_UNTIL = "rebuild_until"
_ANNOUNCE = "assess_announces"
_FAILPOINT = "features.rebuild_"


class Rebuild:
    """Brings stored state in line with the declarations, a page at a time."""

    def __init__(
        self,
        store: Store,
        log: LogReader,
        table: FeatureTable,
        layout: Layout,
        definitions: Definitions,
        assessor: Assessor,
        page: int,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._log = log
        self._table = table
        self._layout = layout
        self._definitions = definitions
        self._declared = declarations_hash(table, layout, definitions.declared.without_scores)
        self._assessor = assessor
        self._page = page
        self._now_us = now_us

    def prepare(self) -> None:
        """Compare what is stored with what is declared and note what is to be done; `step` does it.

        InvalidInput when a segment changed without a new version.
        """
        with self._store.writing(_FAILPOINT) as tx:
            self._definitions.sync(tx, self._now_us())
            self._definitions.at(tx)
            is_new = tx.setting(LAYOUT_HASH) is None and tx.applied() == 0
            if not is_new and tx.setting(LAYOUT_HASH) != str(self._layout.hash):
                self._note_refold(tx)
            elif not is_new and tx.setting(_DECLARED) != self._declared:
                get(__name__).info("features or segments changed: every customer is assessed again")
                tx.set(ASSESS_AFTER, "")
            self._declare(tx)

    def step(self) -> bool:
        """One page; False when nothing is left to do."""
        with self._store.snapshot() as snapshot:
            until, after, applied = snapshot.setting(_REFOLD_UNTIL), snapshot.setting(ASSESS_AFTER), snapshot.applied()
        if until is not None:
            self._refold(applied, int(until))
            return True
        if after is not None:
            self._assess()
            return True
        return False

    def walk(self) -> bool:
        """A page of looking at everybody after a segment was defined; False when that is done."""
        with self._store.snapshot() as snapshot:
            waiting = snapshot.setting(ASSESS_AFTER) is not None
        if waiting:
            self._assess()
        return waiting

    def is_done(self) -> bool:
        """Whether state and declarations agree."""
        with self._store.snapshot() as snapshot:
            return snapshot.setting(_REFOLD_UNTIL) is None and snapshot.setting(ASSESS_AFTER) is None

    def _note_refold(self, tx: Transaction) -> None:
        until = max(tx.applied(), int(tx.setting(_REFOLD_UNTIL) or 0))
        get(__name__).info("the tiles' layout changed: the log is folded again", until=until)
        tx.clear_state()
        tx.set(_REFOLD_UNTIL, str(until))
        tx.set(ASSESS_AFTER, "")
        tx.set(_ANNOUNCE, "yes")

    def _declare(self, tx: Transaction) -> None:
        tx.set(TIME_ZONE, self._layout.time_zone)
        tx.set(FEATURES, msgspec.json.encode(self._table.features).decode())
        tx.set(LAYOUT_HASH, str(self._layout.hash))
        tx.set(_DECLARED, self._declared)

    def _refold(self, applied: int, until: int) -> None:
        entries = self._log.read({LANE: applied}, min(self._page, until - applied)) if applied < until else []
        if entries:
            refold(self._store, self._layout, entries, applied, _FAILPOINT)
            return
        with self._store.writing(_FAILPOINT) as tx:
            tx.set(_REFOLD_UNTIL, None)

    def _assess(self) -> None:
        with self._store.writing(_FAILPOINT) as tx:
            customer_ids = tx.known_after(tx.setting(ASSESS_AFTER) or "", self._page)
            causes = {customer_id: Cause(None, "rebuild") for customer_id in customer_ids}
            self._assessor.assess(tx, causes, announce=tx.setting(_ANNOUNCE) is not None)
            tx.set(ASSESS_AFTER, customer_ids[-1] if customer_ids else None)
            if not customer_ids:
                tx.set(_ANNOUNCE, None)


def declarations_hash(table: FeatureTable, layout: Layout, segments: tuple[Segment, ...]) -> str:
    """16 hex digits over everything that next changes and memberships depend on."""
    features = [(feature.key, feature.definition_hash) for feature in table.features]
    predicates = [(segment.spec.key, segment.spec.version, segment.spec.predicate) for segment in segments]
    body = msgspec.json.encode((layout.hash, features, predicates))
    return hashlib.sha256(body).hexdigest()[:16]
