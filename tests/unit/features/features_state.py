"""The write side of services/features in the test's own process, with a clock that is passed in."""

from pathlib import Path

from vigie_contracts.events import LogRecord
from vigie_contracts.segments import SegmentTable
from vigie_features.assessing import Assessor
from vigie_features.consumer import Consumer
from vigie_features.definitions import Definitions
from vigie_features.domain import customer_reads
from vigie_features.folding import Folding
from vigie_features.store import Store
from vigie_features.sweep import Sweeper
from vigie_features.walking import Walking
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from tests.unit.features.features_world import LAYOUT, NOW_US, SEGMENTS, TABLE, EventsLog

Vectors = dict[str, tuple[int | None, ...]]


class FeatureState:
    """A store, its consumer and its sweep."""

    def __init__(
        self,
        data: Path,
        *,
        batch_records: int = 50,
        page: int = 5,
        declared: SegmentTable = SEGMENTS,
        folder: str = "",
        layout: Layout = LAYOUT,
    ) -> None:
        data = data / folder
        data.mkdir(exist_ok=True)
        self.now_us = NOW_US
        self.log = EventsLog(data)
        self.store = Store(data)
        self.store.create()
        reader = SqliteLogReader(self.log.path, "events")
        self.definitions = Definitions(declared, layout.table)
        assessor = Assessor(layout, self.definitions, lambda: self.now_us)
        self.consumer = Consumer(self.store, reader, layout, assessor, batch_records)
        self.sweeper = Sweeper(self.store, assessor, page, lambda: self.now_us)
        self.walking = Walking(
            self.store, layout.table, layout, self.definitions, assessor, batch_records, lambda: self.now_us
        )
        folding = Folding(self.store, reader, layout.time_zone, batch_records, lambda layout: None)
        assert folding.prepare(layout) is not None
        with self.store.writing() as tx:
            self.walking.prepare(tx)

    def consume(self, found: list[LogRecord]) -> None:
        """Append to the log and apply all of it."""
        self.log.append(found)
        while self.consumer.step():
            pass

    def sweep(self) -> int:
        """Visit everybody who is due; the number of rows read."""
        before = self.sweeper.rows_read
        while self.sweeper.step():
            pass
        return self.sweeper.rows_read - before

    def customers(self) -> list[str]:
        """All customers with state."""
        with self.store.snapshot() as snapshot:
            return snapshot.known_after("", 10_000)

    def vectors(self, t_us: int) -> Vectors:
        """Every customer's whole vector at an instant."""
        with self.store.snapshot() as snapshot:
            members = snapshot.members_of(self.customers())
            tiles = snapshot.tiles([member_id for found in members.values() for member_id in found])
        reads = customer_reads(members, tiles, t_us)
        matrix = kernel.finalise(LAYOUT, TABLE.features, [row.blobs for row in reads], [row.t_us for row in reads])
        return {
            read.customer_id: tuple(int(value) if known else None for value, known in zip(values, valid, strict=True))
            for read, values, valid in zip(reads, matrix.values, matrix.valid, strict=True)
        }
