"""The sweep: customers whose windows move although they did nothing, by the index on the next change.

A page is committed with the watermark: every customer that was due by then has been visited. After downtime each is
visited once, for now.
"""

from collections.abc import Callable

from vigie_contracts.instants import MINUTE_US
from vigie_tiles.schema import WATERMARK

from vigie_features.assessing import Assessor
from vigie_features.domain import Cause
from vigie_features.store import Store

IDLE_STEP_US = MINUTE_US
"""Without anybody due the watermark is committed once a business minute, not with every look."""


class Sweeper:
    """Visits who is due, a page at a time. Only the one writer thread calls it."""

    def __init__(self, store: Store, assessor: Assessor, page: int, now_us: Callable[[], int]) -> None:
        self.rows_read = 0
        self._store = store
        self._assessor = assessor
        self._page = page
        self._now_us = now_us

    def step(self) -> bool:
        """Visit one page; False when nobody is left at this instant."""
        now_us = self._now_us()
        with self._store.snapshot() as snapshot:
            due = snapshot.due(now_us, self._page)
            watermark_us = int(snapshot.setting(WATERMARK) or 0)
        self.rows_read += len(due)
        is_last = len(due) < self._page
        reached_us = now_us if is_last else due[-1].next_change_at_us - 1
        if due or now_us - watermark_us >= IDLE_STEP_US:
            self._visit([row.customer_id for row in due], max(watermark_us, reached_us))
        return not is_last

    def _visit(self, customer_ids: list[str], watermark_us: int) -> None:
        with self._store.writing("features.sweep_") as tx:
            self._assessor.assess(tx, {customer_id: Cause(None, "sweep") for customer_id in customer_ids})
            tx.set(WATERMARK, str(watermark_us))
