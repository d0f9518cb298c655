"""Whom a definition would hold for, before it is saved: everybody's features now, in one snapshot, within a time."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from vigie_contracts.errors import InvalidInput, LimitExceeded, Unavailable
from vigie_contracts.features import FeatureTable
from vigie_contracts.segmentation import OverlapRow, PreviewAnswer, PreviewRequest
from vigie_contracts.segments import (
    Node,
    compile_predicate,
    features_used,
    format_predicate,
    needs_scores,
    parse,
    read_definition,
)
from vigie_kit.sqlite_log import LANE
from vigie_tiles import kernel
from vigie_tiles.layout import Layout
from vigie_tiles.live import REBUILT

from vigie_features import domain
from vigie_features.definitions import Definitions
from vigie_features.domain import Column, CustomerRead
from vigie_features.store import Snapshot, Store

PAGE = 2_000
MOST_LISTED = 100
BUDGET_SECONDS = 5.0
MOST_AT_ONCE = 2


@dataclass
class _Found:
    """What was seen so far."""

    size: int = 0
    examined: int = 0
    listed: list[str] = field(default_factory=list)
    both: Counter[str] = field(default_factory=Counter)


class Previewing:
    """Looks at customers by id, a page at a time, until everybody was seen or `budget_seconds` (system) are over."""

    def __init__(
        self,
        store: Store,
        table: FeatureTable,
        layout: Layout,
        definitions: Definitions,
        now_us: Callable[[], int],
        is_rebuilt: Callable[[], bool],
        *,
        budget_seconds: float = BUDGET_SECONDS,
        system_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._table = table
        self._layout = layout
        self._definitions = definitions
        self._now_us = now_us
        self._is_rebuilt = is_rebuilt
        self._budget_seconds = budget_seconds
        self._system_seconds = system_seconds
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def preview(self, request: PreviewRequest) -> PreviewAnswer:
        """InvalidInput says what is wrong with the definition, and where. At least one page is always looked at.

        LimitExceeded while two others are being computed: each takes a core from the folding of events.
        """
        if not 1 <= request.limit <= MOST_LISTED:
            raise InvalidInput(f"limit must lie between 1 and {MOST_LISTED}, not {request.limit}")
        text = read_definition(request.definition)
        tree = compile_predicate(text, self._definitions.declared.vocabulary)
        if needs_scores(tree):
            raise InvalidInput("a definition that names scores is evaluated by scoring and cannot be previewed")
        if not self._is_rebuilt():
            raise Unavailable(REBUILT)
        if not self._places.acquire(blocking=False):
            raise LimitExceeded(f"{MOST_AT_ONCE} previews are being computed; try again in a few seconds")
        try:
            return self._preview(request, text, tree)
        finally:
            self._places.release()

    def _preview(self, request: PreviewRequest, text: str, tree: Node) -> PreviewAnswer:
        now_us = self._now_us()
        with self._store.snapshot() as snapshot:
            found = self._walk(snapshot, tree, request, now_us)
            sizes, population, pos = snapshot.sizes(), snapshot.population(), {LANE: snapshot.applied()}
            keys = [segment.spec.key for segment in self._definitions.at(snapshot).segments]
        return PreviewAnswer(
            definition=format_predicate(parse(text)),
            size=found.size,
            examined=found.examined,
            population=population,
            customer_ids=found.listed[: request.limit],
            has_next=len(found.listed) > request.limit,
            overlaps=[OverlapRow(key=key, size=sizes.get(key, 0), both=found.both[key]) for key in keys],
            t_us=now_us,
            pos=pos,
        )

    def _walk(self, snapshot: Snapshot, tree: Node, request: PreviewRequest, now_us: int) -> _Found:
        found, until = _Found(), self._system_seconds() + self._budget_seconds
        after: str | None = ""
        while after is not None and (not found.examined or self._system_seconds() < until):
            ids = snapshot.with_state_after(after, PAGE)
            inside = self._inside(snapshot, tree, ids, now_us)
            found.size += len(inside)
            found.examined += len(ids)
            found.both.update(snapshot.standing_among(inside))
            missing = request.limit + 1 - len(found.listed)
            found.listed += [one for one in inside if one > (request.after or "")][:missing]
            after = ids[-1] if len(ids) == PAGE else None
        return found

    def _inside(self, snapshot: Snapshot, tree: Node, ids: Sequence[str], now_us: int) -> list[str]:
        members = snapshot.members_of(ids)
        tiles = snapshot.tiles([member_id for found in members.values() for member_id in found])
        reads = domain.customer_reads(members, tiles, now_us)
        holding = domain.holds(tree, self._columns(tree, reads), len(reads))
        return [reads[row].customer_id for row in np.flatnonzero(holding)]

    def _columns(self, tree: Node, reads: Sequence[CustomerRead]) -> dict[str, Column]:
        specs = self._table.select(features_used(tree))
        if not specs or not reads:
            return {spec.key: Column(np.zeros(0, np.int64), np.zeros(0, np.bool_)) for spec in specs}
        matrix = kernel.finalise(self._layout, specs, [read.blobs for read in reads], [read.t_us for read in reads])
        return {
            spec.key: Column(matrix.values[:, number], matrix.valid[:, number]) for number, spec in enumerate(specs)
        }
