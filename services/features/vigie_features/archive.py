"""The archive: the log "events" as Parquet files named by position range, under a manifest that says what exists.

A file is written, synced and renamed before the manifest names it; the manifest is replaced by rename. So the manifest
is the archive's offset, an unlisted file does not exist, and a kill at any instant neither loses nor doubles a record.
An erasure writes the files that hold the person anew, moves the manifest to them, and removes the old ones at once.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import (
    ConsentStated,
    Cursor,
    Erased,
    Event,
    MapChanged,
    Position,
    Tombstone,
    decode_record,
    partition_of,
)
from vigie_kit.failpoints import hit
from vigie_kit.files import replace_file, sync_directory
from vigie_kit.log import Entry, LogReader, advance

FORMAT = 1
MANIFEST = "manifest.json"
FULL_ROWS = 10_000
MOST_SMALL_FILES = 64
Kind = Literal["events", "map", "consent"]
Row = dict[str, Any]
Archived = Event | MapChanged | ConsentStated

_POSITION: list[tuple[str, pa.DataType]] = [("lane", pa.int32()), ("number", pa.int64())]
SCHEMAS: dict[Kind, pa.Schema] = {
    "events": pa.schema(
        [
            *_POSITION,
            ("member_id", pa.string()),
            ("partition", pa.int32()),
            ("event_id", pa.string()),
            ("source_id", pa.string()),
            ("kind", pa.string()),
            ("name", pa.string()),
            ("catalogued", pa.bool_()),
            ("anonymous_id", pa.string()),
            ("user_id", pa.string()),
            ("received_at_us", pa.int64()),
            ("known_at_us", pa.int64()),
            ("timestamp_us", pa.int64()),
            ("effective_at_us", pa.int64()),
            ("channel", pa.string()),
            ("properties", pa.string()),
            ("measures", pa.map_(pa.string(), pa.int64())),
            ("traits", pa.string()),
            ("context", pa.string()),
            ("backfilled", pa.bool_()),
        ]
    ),
    "map": pa.schema(
        [
            *_POSITION,
            ("member_id", pa.string()),
            ("from_customer_id", pa.string()),
            ("to_customer_id", pa.string()),
            ("known_at_us", pa.int64()),
        ]
    ),
    "consent": pa.schema(
        [
            *_POSITION,
            ("member_id", pa.string()),
            ("purpose", pa.string()),
            ("state", pa.string()),
            ("effective_at_us", pa.int64()),
            ("known_at_us", pa.int64()),
            ("source_id", pa.string()),
            ("event_id", pa.string()),
        ]
    ),
}


class ArchiveFile(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file of one kind of record: numbers `first` … `last` of the lane were read to write its `rows`."""

    name: str
    kind: Kind
    first: int
    last: int
    rows: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`: everything up to `end` (lane -> number) lies in `files`."""

    format: int = FORMAT
    end: Cursor = {}
    files: list[ArchiveFile] = []


class Archive:
    """The archive's folder. One process writes; readers go by the manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest()

    def open(self) -> None:
        """Read the manifest and remove what it does not name; IncompatibleData for a newer or damaged one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manifest = load_manifest(self.folder)
        self._remove_unlisted()

    def append(self, entries: Sequence[Entry]) -> None:
        """Archive the records that follow the manifest's end; nothing of it exists before the manifest names it."""
        erased = erased_members(entries)
        rows = rows_by_kind(entries, erased)
        end = advance(self.manifest.end, entries)
        first, last = entries[0].position, entries[-1].position
        files = [
            self._write(kind, pa.Table.from_pylist(found, schema=SCHEMAS[kind]), first, last)
            for kind, found in rows.items()
            if found
        ]
        kept = self._without(sorted(erased), last.number) if erased else self.manifest.files
        self._replace_manifest(Manifest(end=end, files=[*kept, *files]))
        if erased:
            hit("features.archive_before_unlink")
            self._remove_unlisted()

    def count(self, member_ids: Sequence[str]) -> int:
        """How many rows are of these members, in every file of the folder, listed or not."""
        chosen = pc.field("member_id").isin(list(member_ids))
        while True:
            paths = sorted(self.folder.glob("*.parquet"))
            try:
                return sum(pq.read_table(path, columns=["member_id"], filters=chosen).num_rows for path in paths)
            except FileNotFoundError:
                continue  # it was joined with others, or erased from, after it was listed

    def _without(self, member_ids: Sequence[str], number: int) -> list[ArchiveFile]:
        """The listed files without the rows of members; those that hold any are written anew under another name."""
        kept: list[ArchiveFile] = []
        members = pa.array(member_ids, pa.string())
        for file in self.manifest.files:
            table = self._read(file)
            left = table.filter(pc.invert(pc.is_in(table["member_id"], value_set=members)))
            if left.num_rows == table.num_rows:
                kept.append(file)
            elif left.num_rows:
                lane = int(file.name.split("-")[1])
                kept.append(
                    self._write(file.kind, left, Position(lane, file.first), Position(lane, file.last), f"-e{number}")
                )
        return kept

    def _remove_unlisted(self) -> None:
        listed = {file.name for file in self.manifest.files} | {MANIFEST}
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in listed:
                path.unlink()
        sync_directory(self.folder)

    def compact(self) -> bool:
        """Join the small files at the end of a kind when there are many; False when there was nothing to do.

        The joined ones stay on disk until the next start: a reader may still go by the manifest before.
        """
        for kind in SCHEMAS:
            small = self._small_files(kind)
            if len(small) > MOST_SMALL_FILES:
                table = pa.concat_tables([self._read(file) for file in small])
                lane = int(small[0].name.split("-")[1])
                joined = self._write(kind, table, Position(lane, small[0].first), Position(lane, small[-1].last))
                kept = [file for file in self.manifest.files if file not in small]
                self._replace_manifest(Manifest(end=self.manifest.end, files=[*kept, joined]))
                return True
        return False

    def _small_files(self, kind: Kind) -> list[ArchiveFile]:
        own = [file for file in self.manifest.files if file.kind == kind]
        return list(reversed(list(takewhile(lambda file: file.rows < FULL_ROWS, reversed(own)))))

    def _read(self, file: ArchiveFile) -> pa.Table:
        """A file's rows in the columns of today; one that the file's writer did not know yet is null."""
        table, schema = pq.read_table(self.folder / file.name), SCHEMAS[file.kind]
        unknown = sorted(set(table.column_names) - set(schema.names))
        if unknown:
            raise IncompatibleData(f"{file.name} has columns of a newer Vigie ({', '.join(unknown)}). Upgrade Vigie.")
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table.select(schema.names).cast(schema)

    def _replace_manifest(self, manifest: Manifest) -> None:
        hit("features.archive_before_manifest")
        replace_file(self.folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        hit("features.archive_after_manifest")
        self.manifest = manifest

    def _write(self, kind: Kind, table: pa.Table, first: Position, last: Position, suffix: str = "") -> ArchiveFile:
        name = f"{kind}-{first.lane:02d}-{first.number:012d}-{last.number:012d}{suffix}.parquet"
        part = self.folder / f".{name}.part"
        pq.write_table(table, part, compression="zstd")
        _sync_file(part)
        hit("features.archive_before_rename")
        part.rename(self.folder / name)
        hit("features.archive_after_rename")
        sync_directory(self.folder)
        return ArchiveFile(name=name, kind=kind, first=first.number, last=last.number, rows=table.num_rows)


def load_manifest(folder: Path) -> Manifest:
    """The manifest of an archive, an empty one when there is none; IncompatibleData for a newer or damaged one."""
    path = folder / MANIFEST
    if not path.exists():
        return Manifest()
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise IncompatibleData(f"{path} is damaged: {error}") from error
    if found.format > FORMAT:
        raise IncompatibleData(f"{path} has format {found.format}; this Vigie reads up to {FORMAT}. Upgrade Vigie.")
    return found


def erased_members(entries: Sequence[Entry]) -> frozenset[str]:
    """Members that these entries erase."""
    records = (decode_record(entry.payload) for entry in entries if b'"type":"erased"' in entry.payload)
    return frozenset(member for record in records if isinstance(record, Erased) for member in record.member_ids)


def rows_by_kind(entries: Sequence[Entry], erased: Collection[str] = ()) -> dict[Kind, list[Row]]:
    """The archive's rows of log entries, in log order, but for the members that are erased."""
    rows: dict[Kind, list[Row]] = {"events": [], "map": [], "consent": []}
    for entry in entries:
        record = decode_record(entry.payload)
        if isinstance(record, Erased | Tombstone):
            continue
        rows[_kind(record)].extend(row for row in _rows(record, entry.position) if row["member_id"] not in erased)
    return rows


def _kind(record: Archived) -> Kind:
    match record:
        case Event():
            return "events"
        case MapChanged():
            return "map"
        case ConsentStated():
            return "consent"


def _rows(record: Archived, position: Position) -> list[Row]:
    place = {"lane": position.lane, "number": position.number}
    match record:
        case Event():
            return [place | _event_row(record)]
        case MapChanged():
            return [place | msgspec.structs.asdict(move) | {"known_at_us": record.known_at_us} for move in record.moves]
        case ConsentStated():
            return [place | msgspec.structs.asdict(record)]


def _event_row(event: Event) -> Row:
    row = msgspec.structs.asdict(event)
    row["partition"] = partition_of(event.member_id)
    row["measures"] = list(event.measures.items())
    for name in ("properties", "traits", "context"):
        row[name] = msgspec.json.encode(row[name]).decode()
    return row


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Archivist:
    """The step of the archive's worker: reads on from the manifest and writes when enough came or time passed."""

    def __init__(
        self, archive: Archive, log: LogReader, *, records: int, seconds: float, system_seconds: Callable[[], float]
    ) -> None:
        self._archive = archive
        self._log = log
        self._records = records
        self._seconds = seconds
        self._system_seconds = system_seconds
        self._last_written = float("-inf")

    def step(self) -> bool:
        """Archive one batch; False when there is nothing, or too little for now."""
        pending = self.pending()
        if pending == 0 or (pending < self._records and not self._is_time()):
            return False
        entries = self._log.read(self._archive.manifest.end, self._records)
        if not entries:
            return False
        self._archive.append(entries)
        self._archive.compact()
        self._last_written = self._system_seconds()
        return True

    def pending(self) -> int:
        """Records in the log behind the manifest's end."""
        return behind(self._log.end(), self._archive.manifest.end)

    def _is_time(self) -> bool:
        return self._system_seconds() - self._last_written >= self._seconds


def behind(end: Mapping[int, int], cursor: Mapping[int, int]) -> int:
    """How many records of all lanes lie after a cursor."""
    return sum(max(0, number - cursor.get(lane, 0)) for lane, number in end.items())
