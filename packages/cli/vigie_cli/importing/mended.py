"""Refused rows in files that a person can mend, and those files read again with the numbers that the rows had.

One file a table: CSV for CSV, JSON lines for the rest. A row begins with `vigie_row` (its number, which event ids may
hold), `vigie_column` and `vigie_reason`; behind them it stands as it was. A line that was no JSON object stands as
text in `vigie_line`.
"""

import csv
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.errors import InvalidInput

from vigie_cli.importing.mapping import Table
from vigie_cli.importing.report import RowRefusal
from vigie_cli.importing.sources import Broken, Row, Source

ROW, COLUMN, REASON, LINE = "vigie_row", "vigie_column", "vigie_reason", "vigie_line"
MARKS = (ROW, COLUMN, REASON)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def slug(title: str) -> str:
    """A title as a file name; different titles have different ones."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", title)
    return plain if plain == title else f"{plain}-{hashlib.sha256(title.encode()).hexdigest()[:8]}"


class RefusedRows:
    """The file of one table's refused rows; made with the first one, readable by its owner only. An older
    file is kept as `….before`."""

    def __init__(self, folder: Path, table: Table, source: Source, offset: int) -> None:
        self._table = table
        self._columns = source.columns
        self._is_csv = source.format == "csv"
        self.path = folder / f"{slug(table.title)}.{'csv' if self._is_csv else 'jsonl'}"
        self._pending: list[bytes] = []
        self._size = self._take_over(offset)

    def add(self, refusal: RowRefusal, row: Row | Broken) -> None:
        """Take a row; it is on disk after `flush`."""
        if not (self._size or self._pending) and self._is_csv:
            self._pending.append(self._line((*MARKS, *self._columns)))
        self._pending.append(self._csv(refusal, row) if self._is_csv else self._json(refusal, row))

    def flush(self) -> int:
        """Write and sync what was taken; the size of the file."""
        if self._pending:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            with self.path.open("ab") as file:
                self._size += file.write(b"".join(self._pending))
                file.flush()
                os.fsync(file.fileno())
            self._pending.clear()
        return self._size

    def _take_over(self, offset: int) -> int:
        """Go on behind what the state knows of; a file that is not ours, or was changed, is kept aside."""
        if not self.path.exists():
            return 0
        if 0 < offset <= self.path.stat().st_size:
            os.truncate(self.path, offset)
            return offset
        aside = (self.path.with_name(f"{self.path.name}.before{number or ''}") for number in itertools.count())
        self.path.replace(next(path for path in aside if not path.exists()))
        return 0

    def _csv(self, refusal: RowRefusal, row: Row | Broken) -> bytes:
        marks = (refusal.row, refusal.column, refusal.reason)
        if not isinstance(row, Broken):
            return self._line((*marks, *row))
        text = self._line(marks).rstrip(b"\n").decode(errors="surrogateescape")
        return f"{text}{self._table.delimiter}{row.text}\n".encode(errors="surrogateescape")

    def _line(self, cells: Sequence[Any]) -> bytes:
        found = io.StringIO()
        csv.writer(found, delimiter=self._table.delimiter, lineterminator="\n").writerow(cells)
        return found.getvalue().encode(errors="surrogateescape")

    def _json(self, refusal: RowRefusal, row: Row | Broken) -> bytes:
        marks = {ROW: refusal.row, COLUMN: refusal.column, REASON: refusal.reason}
        if isinstance(row, Broken):
            text = row.text.encode(errors="surrogateescape").decode(errors="replace")
            return msgspec.json.encode({**marks, LINE: text}) + b"\n"
        cells = {name: value for name, value in zip(self._columns, row, strict=True) if value is not None}
        return msgspec.json.encode({**marks, **cells}, enc_hook=str) + b"\n"


def mended_source(folder: Path, table: Table) -> Source | None:
    """The mended rows of a table, or None when it has none."""
    for suffix in ("csv", "jsonl"):
        path = folder / f"{slug(table.title)}.{suffix}"
        if path.is_file():
            return _Mended(path, msgspec.structs.replace(table, format=suffix, encoding="utf-8", header=[]))
    return None


class _Mended(Source):
    """A file of refused rows."""

    def __init__(self, path: Path, table: Table) -> None:
        super().__init__(path, table)
        names = self.columns
        if any(mark not in names for mark in MARKS) or (self.format == "csv" and tuple(names[:3]) != MARKS):
            raise InvalidInput(f"{path} is no file of refused rows: its first columns are {', '.join(MARKS)}")
        self.columns = [name for name in names if name not in (*MARKS, LINE)]
        mark = re.escape(self.delimiter)
        cell = rf'(?:"(?:[^"]|"")*"|[^{mark}"]*)'
        self._marks = re.compile(rf"^(\d*){mark}{cell}{mark}{cell}{mark}")

    def numbered(self) -> Iterator[tuple[int, Row | Broken]]:
        """Rows with the numbers that they had."""
        found = self._numbered_csv() if self.format == "csv" else self._numbered_json()
        for at, (number, row) in enumerate(found, start=1):
            if not row:
                continue
            if isinstance(number, int) or (isinstance(number, str) and number.isdecimal()):
                yield int(number), row
            else:
                yield at, Broken(f"{ROW} must be the row's number, not {number!r}", _text(row))

    def _numbered_csv(self) -> Iterator[tuple[Any, Row | Broken]]:
        for row in self._csv_rows():
            if not isinstance(row, Broken):
                yield (row[0], row[3:]) if row else (None, row)
                continue
            found = self._marks.match(row.text)
            text = row.text[found.end() :] if found else row.text
            yield (found.group(1) if found else None), Broken(row.reason, text)

    def _numbered_json(self) -> Iterator[tuple[Any, Row | Broken]]:
        for found in self._objects():
            if isinstance(found, Broken):
                yield None, found
            elif LINE in found:
                yield found.get(ROW), Broken("is no JSON object", str(found[LINE]))
            else:
                yield found.get(ROW), [found.get(column) for column in self.columns]

    def _objects(self) -> Iterator[dict[str, Any] | Broken]:
        """With the fields of a mended `vigie_line` in their place."""
        for found in super()._objects():
            if isinstance(found, dict) and LINE in found:
                try:
                    yield {**{mark: found.get(mark) for mark in MARKS}, **_OBJECT.decode(str(found[LINE]))}
                    continue
                except msgspec.DecodeError:
                    pass  # still broken: told by its number
            yield found


def _text(row: Row | Broken) -> str:
    return row.text if isinstance(row, Broken) else ", ".join(map(str, row))
