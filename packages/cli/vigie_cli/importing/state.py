"""What is remembered of each imported table: how far it came, of which file, and what became of its rows.

One small file a table of a source, replaced and synced after every acknowledged request. So an interrupted import goes
on where it was, and a file that changed meanwhile is noticed.
"""

import hashlib
from pathlib import Path

import msgspec
from vigie_contracts.errors import InvalidInput
from vigie_kit.files import replace_file

from vigie_cli.importing.mapping import Mapping, Table
from vigie_cli.importing.mended import slug
from vigie_cli.importing.report import TableReport
from vigie_cli.importing.sources import Source

_CHUNK = 1 << 20


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file's size in bytes and a digest of its content."""

    size: int
    digest: str

    @classmethod
    def of(cls, path: Path, size: int | None = None) -> "Content":
        """Of a file, or of its first `size` bytes."""
        left = path.stat().st_size if size is None else size
        digest, done = hashlib.blake2b(digest_size=16), 0
        with path.open("rb") as file:
            while done < left and (chunk := file.read(min(_CHUNK, left - done))):
                digest.update(chunk)
                done += len(chunk)
        return cls(done, digest.hexdigest())


class TableState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A table's state file. `report` counts the rows that ingest has acknowledged."""

    content: Content
    mapping: str
    report: TableReport
    complete: bool = False
    refused_bytes: int = 0


class States:
    """The state files below a folder; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, mapping: Mapping, restart: bool = False) -> None:
        self._folder = folder
        self._mapping = mapping
        self._restart = restart

    def begin(self, table: Table, source: Source) -> TableState:
        """Where to go on. InvalidInput, with what to do, when the file or the mapping is not what it was."""
        now = Content.of(source.path)
        fresh = TableState(
            content=now, mapping=self._digest(table), report=TableReport(table=table.title, file=table.file)
        )
        before = self._read(table)
        if before is None:
            return fresh
        same = _continues(before.content, now, source)
        if not same and table.counts_rows:
            raise InvalidInput(_moved(table, before, now))
        if before.complete or self._restart:
            return fresh
        done = f"{table.file} (table {table.title!r}) was imported up to row {before.report.rows:,}"
        if not same:
            raise InvalidInput(
                f"{done} and has changed since (then {before.content.size:,} bytes, now {now.size:,}). Put the former"
                " file back to go on from there, or begin anew with --restart: rows that are in already count as"
                " duplicates"
            )
        if before.mapping != fresh.mapping:
            raise InvalidInput(
                f"{done}, and the mapping of this table has changed since. Run it with the former mapping to go on from"
                " there, or begin anew with --restart: rows that are in already count as duplicates as long as their"
                " event_id is the same"
            )
        before.content = now
        before.report.resumed_at = before.report.rows
        return before

    def keep(self, table: Table, state: TableState) -> None:
        """Write a table's state durably."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._path(self._folder, table), msgspec.json.encode(state))

    def complete(self, table: Table, state: TableState) -> None:
        """Keep that a table is through, without the examples of refused rows, which may be personal."""
        told = msgspec.structs.replace(state.report, reasons={})
        self.keep(table, msgspec.structs.replace(state, complete=True, report=told, refused_bytes=0))

    def _path(self, folder: Path, table: Table) -> Path:
        return folder / f"{slug(f'{self._mapping.source}~{table.title}')}.json"

    def _read(self, table: Table) -> TableState | None:
        path = None if self._folder is None else self._path(self._folder, table)
        if path is None or not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=TableState)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{path} is no state of an import; remove it to begin anew") from error

    def _digest(self, table: Table) -> str:
        """Of all that decides what a row becomes."""
        mapping = self._mapping
        names = {join.lookup for join in table.join}
        lookups = [lookup for lookup in mapping.lookup if lookup.name in names]
        parts = (mapping.source, table, lookups, mapping.maps, mapping.variables)
        return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def _continues(before: Content, now: Content, source: Source) -> bool:
    """Whether the file is the same, or the same with rows added at its end."""
    if before == now:
        return True
    if source.compressed or now.size <= before.size or not _ends_a_line(source.path, before.size):
        return False
    return Content.of(source.path, before.size) == before


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(max(size - 1, 0))
        return size == 0 or file.read(1) == b"\n"


def _moved(table: Table, before: TableState, now: Content) -> str:
    return (
        f"{table.file} has changed since {before.report.rows:,} of its rows were imported (then"
        f" {before.content.size:,} bytes, now {now.size:,}), and the event ids of the table {table.title!r} count rows:"
        ' other rows would be taken for those. Let `event_id` come from columns, such as "{id}", or give the table'
        " another `name`; a file that only has new rows at its end is fine"
    )
