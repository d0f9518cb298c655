"""Sends the records of a mapping to ingest in batches: one request is read while the other is written; resumable."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Map
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from vigie_contracts.errors import LimitExceeded, Unavailable
from vigie_contracts.events import Position
from vigie_contracts.imports import ImportAnswer, ImportRecord
from vigie_kit.failpoints import hit

from vigie_cli.importing.mapping import Mapping, Table, load_mapping
from vigie_cli.importing.mended import RefusedRows
from vigie_cli.importing.report import ImportReport, Progress, RowRefusal
from vigie_cli.importing.rows import Outcome, Reader
from vigie_cli.importing.sources import Broken, Damaged, Row, Source
from vigie_cli.importing.state import States, TableState

T = TypeVar("T")
BATCH = 5_000
BATCH_ROWS = 50_000
BATCH_BYTES = 32_000_000
RECORD_BYTES = 1_000_000
TRIES = 6
FIRST_PAUSE_SECONDS = 0.5
PATH = "/internal/import"


class Client(Protocol):
    """What sends a struct and gives back a struct: `vigie_kit.client.SyncServiceClient`."""

    def post(self, path: str, body: object, answer: type[T]) -> T:
        """POST."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An `ImportRequest` whose records are encoded already, so that its size is known."""

    source_id: str
    records: list[msgspec.Raw]


@dataclass
class _Batch:
    """What was read since the last batch: records with their rows, refusals with their rows, the last row."""

    records: list[msgspec.Raw] = field(default_factory=list)
    rows: list[tuple[int, Row | Broken]] = field(default_factory=list)
    refusals: list[tuple[RowRefusal, Row | Broken]] = field(default_factory=list)
    size: int = 0
    read: int = 0
    skipped: int = 0

    @property
    def full(self) -> bool:
        return self.read >= BATCH_ROWS or self.size >= BATCH_BYTES

    def take(self, outcome: Outcome) -> None:
        """Add a row; a record that cannot be sent is refused."""
        number, found, row = outcome
        self.read += 1
        if isinstance(found, ImportRecord):
            self._record(found, number, row)
        elif found is None:
            self.skipped += 1
        else:
            self.refusals.append((found, row))

    def _record(self, record: ImportRecord, number: int, row: Row | Broken) -> None:
        try:
            body = _ENCODER.encode(record)
        except (TypeError, ValueError, OverflowError) as error:
            self.refusals.append((RowRefusal("", number, None, f"cannot be sent as JSON: {error}"), row))
            return
        if len(body) > RECORD_BYTES:
            reason = f"is {len(body):,} bytes as a record; at most {RECORD_BYTES:,} are taken"
            self.refusals.append((RowRefusal("", number, None, reason), row))
            return
        self.records.append(msgspec.Raw(body))
        self.rows.append((number, row))
        self.size += len(body)


_ENCODER = msgspec.json.Encoder()


def run(
    path: Path,
    mapping: Path | Mapping,
    client: Client,
    *,
    progress: Callable[[Progress], None] | None = None,
    state: Path | None = None,
    restart: bool = False,
    mended: Path | None = None,
    refused: Path | None = None,
    variables: Map[str, Sequence[str]] | None = None,
    batch: int = BATCH,
) -> ImportReport:
    """Import the files below `path` (or the file `path` of a mapping with one table).

    `state`: a folder where what ingest acknowledged is kept, so that a run that was interrupted goes on from there;
    with `restart` it begins anew. `mended`: a folder of refused rows that were mended; only they are read.
    `refused`: a folder for the rows that are refused or quarantined.
    InvalidInput, before anything is sent, for a mapping that does not fit its files or a file that changed since;
    Unavailable when ingest stays away.
    """
    chosen = load_mapping(mapping) if isinstance(mapping, Path) else mapping
    chosen = chosen.with_variables(variables or {})
    reader = Reader(path, chosen, mended)
    reader.check()
    if mended is not None and reader.needs_first_events:
        reader.see_first_events()
    states = States(None if mended else state, chosen, restart)
    begun = [(table, states.begin(table, reader.source(table))) for table in reader.tables()]
    work = _Import(reader, client, states, batch)
    work.progress, work.refused = progress, refused
    return work.run(begun)


class _Import:
    def __init__(self, reader: Reader, client: Client, states: States, batch: int) -> None:
        self.progress: Callable[[Progress], None] | None = None
        self.refused: Path | None = None
        self.reader = reader
        self.client = client
        self.states = states
        self.batch = batch
        self.report = ImportReport()
        self._stopped = threading.Event()

    def run(self, tables: Sequence[tuple[Table, TableState]]) -> ImportReport:
        started = time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="import") as sender:
            try:
                for table, state in tables:
                    _Transfer(self, table, state).run(sender)
            finally:  # an interrupted import does not wait for tries that are still to come
                self._stopped.set()
        self.report.seconds = time.monotonic() - started
        return self.report

    def send(self, records: list[msgspec.Raw]) -> ImportAnswer:
        """Send until it is acknowledged; sending twice is harmless, for the event ids are the mapping's."""
        body = Request(source_id=self.reader.mapping.source, records=records)
        pause = FIRST_PAUSE_SECONDS
        for tries_left in reversed(range(TRIES)):
            try:
                return self.client.post(PATH, body, ImportAnswer)
            except (Unavailable, LimitExceeded):
                if tries_left == 0:
                    raise
            if self._stopped.wait(pause):
                raise Unavailable("the import was stopped")
            pause *= 2
        raise AssertionError("unreachable")


class _Transfer:
    """One table on its way."""

    def __init__(self, owner: _Import, table: Table, state: TableState) -> None:
        self._owner = owner
        self._table = table
        self._state = state
        self._source: Source = owner.reader.source(table)
        self._total = self._source.count()
        self._damaged = False
        refused = owner.refused
        self._refused = RefusedRows(refused, table, self._source, state.refused_bytes) if refused else None

    def run(self, sender: ThreadPoolExecutor) -> None:
        """Send all rows that an earlier run has not done."""
        owner, report = self._owner, self._owner.report
        report.tables.append(self._state.report)
        before = self._source.path.stat()
        pending: tuple[_Batch, Future[ImportAnswer]] | None = None
        for batch in self._batches():
            answer = sender.submit(owner.send, batch.records) if batch.records else _nothing()
            if pending is not None:
                self._settle(*pending)
            pending = (batch, answer)
        if pending is not None:
            self._settle(*pending)
        after = self._source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            report.problems.append(f"{self._table.file} changed while it was read; run the same import again")
            return
        self._note()
        if not self._damaged:
            owner.states.complete(self._table, self._state)

    def _note(self) -> None:
        if not self._source.columns:
            self._owner.report.notes.append(f"{self._table.file} is empty")
        elif not self._state.report.rows and not self._damaged:
            self._owner.report.notes.append(f"{self._table.file} has no rows (table {self._table.title!r})")

    def _batches(self) -> Iterator[_Batch]:
        """Batches of records, after the rows that an earlier run has done."""
        batch, last = _Batch(), 0
        try:
            for outcome in self._owner.reader.outcomes(self._table):
                last = outcome[0]
                if last <= self._state.report.resumed_at:
                    continue
                batch.take(outcome)
                if len(batch.records) >= self._owner.batch or batch.full:
                    yield batch
                    batch = _Batch()
        except Damaged as error:
            self._damaged = True
            self._owner.report.problems.append(
                f"{self._table.file} cannot be read on after row {last:,} ({error.message}): the rows from there on are"
                " missing"
            )
        yield batch

    def _settle(self, batch: _Batch, answer: "Future[ImportAnswer]") -> None:
        found, done = answer.result(), self._state.report
        done.rows += batch.read
        done.skipped += batch.skipped
        done.accepted += found.accepted
        done.duplicates += found.duplicates
        refusals = [(msgspec.structs.replace(refusal, file=self._table.file), row) for refusal, row in batch.refusals]
        for refused in found.refused:
            number, row = batch.rows[refused.index]
            refusals.append((RowRefusal(self._table.file, number, None, refused.reason, refused.code), row))
        for refusal, row in sorted(refusals, key=lambda pair: pair[0].row):
            self._owner.report.refuse(done, refusal)
            if self._refused is not None:
                self._refused.add(refusal, row)
        self._keep()

    def _keep(self) -> None:
        done, owner = self._state.report, self._owner
        if self._refused is not None:
            self._state.refused_bytes = self._refused.flush()
            path = str(self._refused.path)
            if self._state.refused_bytes and path not in owner.report.refused_files:
                owner.report.refused_files.append(path)
        hit("import.before_state")
        owner.states.keep(self._table, self._state)
        hit("import.after_state")
        if owner.progress is not None:
            counts = (done.accepted, done.duplicates, done.refused + done.quarantined, done.skipped)
            owner.progress(Progress(done.table, done.file, done.rows, self._total, *counts))


def _nothing() -> "Future[ImportAnswer]":
    """The answer to a batch without records."""
    done: Future[ImportAnswer] = Future()
    done.set_result(ImportAnswer(accepted=0, duplicates=0, refused=[], end=Position(0, 0)))
    return done
