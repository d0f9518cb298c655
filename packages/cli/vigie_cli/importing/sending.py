"""Sends the records of a mapping to ingest in batches: one request is read while the other is written; resumable."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Map
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from vigie_contracts.errors import InvalidInput, LimitExceeded, Unavailable
from vigie_contracts.events import Position
from vigie_contracts.imports import ImportAnswer, ImportRecord, ImportRequest
from vigie_kit.files import replace_file

from vigie_cli.importing.mapping import Mapping, Table, load_mapping
from vigie_cli.importing.report import ImportReport, Progress, RowRefusal, TableReport
from vigie_cli.importing.rows import Outcome, Reader

T = TypeVar("T")
BATCH = 5_000
TRIES = 6
FIRST_PAUSE_SECONDS = 0.5
PATH = "/internal/import"


class Client(Protocol):
    """What sends a struct and gives back a struct: `vigie_kit.client.SyncServiceClient`."""

    def post(self, path: str, body: object, answer: type[T]) -> T:
        """POST."""


class _Resume(msgspec.Struct, forbid_unknown_fields=True):
    """The resume file: rows of each table that ingest has acknowledged."""

    fingerprint: str
    rows: dict[str, int] = {}


@dataclass
class _Batch:
    """Records in the order of rows, and the last row that they cover."""

    records: list[ImportRecord] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    last_row: int = 0


def run(
    path: Path,
    mapping: Path | Mapping,
    client: Client,
    *,
    progress: Callable[[Progress], None] | None = None,
    resume_file: Path | None = None,
    variables: Map[str, Sequence[str]] | None = None,
    batch: int = BATCH,
) -> ImportReport:
    """Import the files below `path` (or the file `path` of a mapping with one table).

    With `resume_file`, what ingest acknowledged is kept there, and a run that was interrupted goes on from it; the file
    is removed at the end. InvalidInput for a mapping that does not fit its files; Unavailable when ingest stays away.
    """
    chosen = load_mapping(mapping) if isinstance(mapping, Path) else mapping
    chosen = chosen.with_variables(variables or {})
    work = _Import(Reader(path, chosen), client, progress, resume_file, _fingerprint(path, chosen), batch)
    return work.run()


class _Import:
    def __init__(
        self,
        reader: Reader,
        client: Client,
        progress: Callable[[Progress], None] | None,
        resume_file: Path | None,
        fingerprint: str,
        batch: int,
    ) -> None:
        self._reader = reader
        self._client = client
        self._progress = progress
        self._resume_file = resume_file
        self._resume = _read_resume(resume_file, fingerprint)
        self._batch = batch
        self._report = ImportReport()
        self._stopped = threading.Event()

    def run(self) -> ImportReport:
        started = time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="import") as sender:
            try:
                for table in self._reader.tables():
                    self._table(table, sender)
            finally:  # an interrupted import does not wait for tries that are still to come
                self._stopped.set()
        self._report.seconds = time.monotonic() - started
        if self._resume_file is not None:
            self._resume_file.unlink(missing_ok=True)
        return self._report

    def _table(self, table: Table, sender: ThreadPoolExecutor) -> None:
        source = self._reader.source(table)
        total = source.count()
        report = TableReport(table.title, table.file, resumed_at=self._resume.rows.get(table.title, 0))
        self._report.tables.append(report)
        pending: tuple[_Batch, Future[ImportAnswer]] | None = None
        for batch in self._batches(table, report):
            answer = sender.submit(self._send, batch.records) if batch.records else None
            if pending is not None:
                self._settle(table, report, *pending, total)
            pending = (batch, answer or _nothing())
        if pending is not None:
            self._settle(table, report, *pending, total)

    def _batches(self, table: Table, report: TableReport) -> Iterator[_Batch]:
        """Batches of records, after the rows that an earlier run has done."""
        batch = _Batch()
        for number, found in self._rest(table, report):
            report.rows += 1
            batch.last_row = number
            if isinstance(found, ImportRecord):
                batch.records.append(found)
                batch.numbers.append(number)
            elif found is None:
                report.skipped += 1
            else:
                self._report.refuse(report, found)
            if len(batch.records) >= self._batch:
                yield batch
                batch = _Batch()
        yield batch

    def _rest(self, table: Table, report: TableReport) -> Iterator[Outcome]:
        for outcome in self._reader.outcomes(table):
            if outcome[0] > report.resumed_at:
                yield outcome

    def _settle(
        self, table: Table, report: TableReport, batch: _Batch, answer: "Future[ImportAnswer]", total: int
    ) -> None:
        found = answer.result()
        report.accepted += found.accepted
        report.duplicates += found.duplicates
        for refused in found.refused:
            self._report.refuse(report, RowRefusal(table.file, batch.numbers[refused.index], None, refused.reason))
        self._resume.rows[table.title] = max(batch.last_row, report.resumed_at)
        if self._resume_file is not None:
            replace_file(self._resume_file, msgspec.json.encode(self._resume))
        if self._progress is not None:
            rows = self._resume.rows[table.title]
            self._progress(
                Progress(
                    table.title,
                    table.file,
                    rows,
                    total,
                    report.accepted,
                    report.duplicates,
                    report.refused,
                    report.skipped,
                )
            )

    def _send(self, records: list[ImportRecord]) -> ImportAnswer:
        """Send until it is acknowledged; sending twice is harmless, for the event ids are the mapping's."""
        body = ImportRequest(source_id=self._reader.mapping.source, records=records)
        pause = FIRST_PAUSE_SECONDS
        for tries_left in reversed(range(TRIES)):
            try:
                return self._client.post(PATH, body, ImportAnswer)
            except (Unavailable, LimitExceeded):
                if tries_left == 0:
                    raise
            if self._stopped.wait(pause):
                raise Unavailable("the import was stopped")
            pause *= 2
        raise AssertionError("unreachable")


def _nothing() -> "Future[ImportAnswer]":
    """The answer to a batch without records."""
    done: Future[ImportAnswer] = Future()
    done.set_result(ImportAnswer(accepted=0, duplicates=0, refused=[], end=Position(0, 0)))
    return done


def _read_resume(path: Path | None, fingerprint: str) -> _Resume:
    if path is None or not path.exists():
        return _Resume(fingerprint)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Resume)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{path} is no resume file of an import; remove it to begin anew") from error
    if found.fingerprint != fingerprint:
        raise InvalidInput(f"{path} belongs to another import (other files or mapping); remove it to begin anew")
    return found


def _fingerprint(path: Path, mapping: Mapping) -> str:
    """16 hex digits over the mapping and its files' names and sizes."""
    sizes = [(table.file, _size(path, table.file)) for table in mapping.table]
    return hashlib.sha256(msgspec.json.encode((mapping, sizes))).hexdigest()[:16]


def _size(path: Path, file: str) -> int:
    found = path / file if path.is_dir() else path
    return found.stat().st_size if found.is_file() else -1
