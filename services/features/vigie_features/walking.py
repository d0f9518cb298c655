"""Looking at every customer once after declarations changed or a segment was defined, a page between two batches.

Progress is committed with each page. Nothing is appended but what moved in segments, and one change record a customer
(why = rebuild) when no tile was readable before.
"""

import hashlib
from collections.abc import Callable

import msgspec
from vigie_contracts.features import FeatureTable
from vigie_contracts.segments import Segment
from vigie_kit.logs import get
from vigie_tiles.layout import Layout

from vigie_features.assessing import Assessor
from vigie_features.definitions import ASSESS_AFTER, Definitions
from vigie_features.domain import Cause
from vigie_features.folding import FAILPOINT
from vigie_features.store import Store, Transaction

_DECLARED = "declarations_hash"
_ANNOUNCE = "assess_announces"


class Walking:
    """The walk of one feature table with the segments that stand on it."""

    def __init__(
        self,
        store: Store,
        table: FeatureTable,
        layout: Layout,
        definitions: Definitions,
        assessor: Assessor,
        page: int,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._declared = declarations_hash(table, layout, definitions.declared.without_scores)
        self._assessor = assessor
        self._page = page
        self._now_us = now_us

    def prepare(self, tx: Transaction, *, announce: bool = False) -> None:
        """Take over the declarations, and note that everybody is to be looked at when they are not those of before.

        InvalidInput when a segment changed without a new version.
        """
        self._definitions.sync(tx, self._now_us())
        self._definitions.at(tx)
        if tx.setting(_DECLARED) not in (None, self._declared) or announce:
            get(__name__).info("features or segments changed: every customer is assessed again")
            tx.set(ASSESS_AFTER, "")
        if announce:
            tx.set(_ANNOUNCE, "yes")
        tx.set(_DECLARED, self._declared)

    def step(self) -> bool:
        """A page; False when nobody is left to look at."""
        with self._store.snapshot() as snapshot:
            if snapshot.setting(ASSESS_AFTER) is None:
                return False
        with self._store.writing(FAILPOINT) as tx:
            customer_ids = tx.known_after(tx.setting(ASSESS_AFTER) or "", self._page)
            causes = {customer_id: Cause(None, "rebuild") for customer_id in customer_ids}
            self._assessor.assess(tx, causes, announce=tx.setting(_ANNOUNCE) is not None)
            tx.set(ASSESS_AFTER, customer_ids[-1] if customer_ids else None)
            if not customer_ids:
                tx.set(_ANNOUNCE, None)
        return True


def declarations_hash(table: FeatureTable, layout: Layout, segments: tuple[Segment, ...]) -> str:
    """16 hex digits over everything that next changes and memberships depend on."""
    features = [(feature.key, feature.definition_hash) for feature in table.features]
    predicates = [(segment.spec.key, segment.spec.version, segment.spec.predicate) for segment in segments]
    body = msgspec.json.encode((layout.hash, features, predicates))
    return hashlib.sha256(body).hexdigest()[:16]
