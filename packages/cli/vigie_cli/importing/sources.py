"""Files as rows: CSV and JSON lines (also gzip) and Parquet, all as lists of cells under named columns.

A row that cannot be read is `Broken` with its text and the reason, and the reading goes on behind it. A file that
cannot be read on is `Damaged`.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from vigie_contracts.errors import InvalidInput, VigieError

from vigie_cli.importing.mapping import Format, Lookup, Table

PARQUET_ROWS = 16_384
MAX_CELL_CHARACTERS = 262_144
Row = Sequence[Any]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_LINE = msgspec.json.Decoder(dict[str, Any])
_BROKEN_STREAM = (EOFError, zlib.error, UnicodeError)
_SURROGATE = re.compile("[\udc80-\udcff]")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read: why, and its text as it stands in the file (undecodable bytes as surrogates)."""

    reason: str
    text: str


class Damaged(VigieError):
    """The file cannot be read on from here."""

    code = "DAMAGED_FILE"


class Source:
    """A file that is read from its beginning; `columns` in order, `rows()` as lists of cells (empty cells are None)."""

    def __init__(self, folder: Path, what: Table | Lookup) -> None:
        self.path = folder / what.file if folder.is_dir() else folder
        if not self.path.is_file():
            raise InvalidInput(f"{self.path} does not exist")
        self.file = what.file
        self.format = what.format or _format_of(self.path)
        self.delimiter = what.delimiter
        self._given_header = list(what.header)
        self._encoding = self._encoding_of(what.encoding)
        self.columns = self._columns()
        self._width = len(self.columns)

    @property
    def compressed(self) -> bool:
        """Whether a longer file need not begin with the bytes of the shorter one."""
        return self.path.suffix == ".gz" or self.format == "parquet"

    def rows(self) -> Iterator[Row | Broken]:
        """All rows from 1 on; a blank line of CSV is an empty list. Damaged where the file cannot be read on."""
        if self.format == "parquet":
            return self._parquet_rows()
        return self._csv_rows() if self.format == "csv" else self._json_rows()

    def numbered(self) -> Iterator[tuple[int, Row | Broken]]:
        """Rows with their numbers, from 1."""
        return enumerate(self.rows(), start=1)

    def count(self) -> int:
        """Rows of the file; for text files the lines, as far as they can be read."""
        if self.format == "parquet":
            return int(pq.read_metadata(self.path).num_rows)
        lines, last = 0, b""
        try:
            with opened(self.path) as stream:
                for chunk in iter(lambda: stream.read(1 << 20), b""):
                    lines, last = lines + chunk.count(b"\n"), chunk
        except (*_BROKEN_STREAM, OSError):
            return lines
        lines += bool(last) and not last.endswith(b"\n")
        return max(lines - (1 if self.format == "csv" and not self._given_header else 0), 0)

    def _encoding_of(self, given: str | None) -> str:
        if self.format == "parquet":
            return ""
        try:
            with opened(self.path) as stream:
                head = stream.read(4)
        except (*_BROKEN_STREAM, OSError) as error:
            raise InvalidInput(f"{self.path} cannot be read: {_text_of(error)}") from error
        marked = next((name for mark, name in _BOMS if head.startswith(mark)), None)
        try:
            return marked or codecs.lookup(given or "utf-8").name
        except LookupError as error:
            raise InvalidInput(f"{self.file}: {given!r} is no encoding; write utf-8, cp1252, utf-16, …") from error

    def _columns(self) -> list[str]:
        if self.format == "parquet":
            try:
                return list(pq.read_schema(self.path).names)
            except (pa.ArrowException, OSError) as error:
                raise InvalidInput(f"{self.path} is no Parquet file: {_text_of(error)}") from error
        if self.format == "csv":
            return self._given_header or self._header()
        names: dict[str, None] = {}
        try:
            for found in self._objects():
                if isinstance(found, dict):
                    names.update(dict.fromkeys(found))
        except Damaged:
            pass  # told when the rows are read
        return sorted(names)

    def _header(self) -> list[str]:
        try:
            with self._text() as stream:
                lines = _Lines(stream)
                found = [name.strip() for name in next(self._reader(lines), [])]
        except (csv.Error, *_BROKEN_STREAM, OSError) as error:
            raise InvalidInput(f"{self.path}: the header cannot be read: {_text_of(error)}") from error
        if any("\0" in name for name in found):
            raise InvalidInput(f'{self.path} seems to be UTF-16; say `encoding = "utf-16-le"` in the mapping')
        if lines.undecodable:
            raise InvalidInput(f"{self.path}: the header {_not_text(self._encoding)}")
        return found

    def _reader(self, lines: "_Lines") -> Iterator[list[str]]:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _csv_rows(self) -> Iterator[Row | Broken]:
        width = self._width
        with self._text() as stream:
            lines = _Lines(stream)
            reader = self._reader(lines)
            if not self._given_header:
                next(reader, None)
            while True:
                lines.begin()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Broken(_csv_reason(error, lines.first), lines.keep_first())
                    reader = self._reader(lines)
                    continue
                except (*_BROKEN_STREAM, OSError) as error:
                    raise Damaged(_text_of(error)) from error
                if lines.undecodable:
                    yield Broken(_not_text(self._encoding), lines.text())
                elif len(cells) == width or not cells:
                    yield [cell or None for cell in cells]
                else:
                    yield Broken(f"has {_cells(len(cells))}, but the header has {width}", lines.text())

    def _json_rows(self) -> Iterator[Row | Broken]:
        columns = self.columns
        for found in self._objects():
            yield found if isinstance(found, Broken) else [found.get(column) for column in columns]

    def _objects(self) -> Iterator[dict[str, Any] | Broken]:
        for line in self._byte_lines():
            if not line.strip():
                continue
            try:
                yield _LINE.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield Broken(f"is no JSON object: {error}", line.decode(errors="surrogateescape").rstrip("\r\n"))

    def _byte_lines(self) -> Iterator[bytes]:
        try:
            if self._encoding not in ("utf-8", "utf-8-sig"):
                with self._text() as text:
                    yield from (line.encode(errors="surrogateescape") for line in text)
                return
            with opened(self.path) as stream:
                first = stream.readline()
                yield first.removeprefix(b"\xef\xbb\xbf")
                yield from stream
        except (*_BROKEN_STREAM, OSError) as error:
            raise Damaged(_text_of(error)) from error

    def _parquet_rows(self) -> Iterator[Row | Broken]:
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                    yield from zip(*(_python(column) for column in batch.columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(_text_of(error)) from error

    def _text(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(opened(self.path), encoding=self._encoding, newline="", errors="surrogateescape")


class _Lines:
    """The lines of a text, with those of the row that is being read, so that they can be read again."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._number = 0
        self.first = 1
        self.undecodable = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._stream)
        self._number += 1
        self._taken.append(line)
        if not line.isascii() and _SURROGATE.search(line):
            self.undecodable = True
        return line

    def begin(self) -> None:
        """A row begins at the next line."""
        self.first = self._number + 1
        self.undecodable = False
        self._taken.clear()

    def text(self) -> str:
        """The row's lines, without the last line's end."""
        return "".join(self._taken).rstrip("\r\n")

    def keep_first(self) -> str:
        """The row's first line; the others are read again as rows of their own."""
        first, *others = self._taken
        self._again.extendleft(reversed(others))
        self._number -= len(others)
        return first.rstrip("\r\n")


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed when it ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _python(column: Any) -> list[Any]:
    """Values of an Arrow column; NaN is an empty cell, instants have microseconds."""
    if pa.types.is_floating(column.type):
        return list(pc.if_else(pc.is_nan(column), None, column).to_pylist())
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return list(column.to_pylist())


def _csv_reason(error: csv.Error, line: int) -> str:
    if "field larger than field limit" in str(error):
        limit = f"{MAX_CELL_CHARACTERS:,} characters"
        return f"line {line}: a cell has more than {limit}, or a quotation mark is not closed"
    if "unexpected end of data" in str(error):
        return f"line {line}: a quotation mark is not closed"
    return f"line {line}: the quotation marks do not match ({error}); inside quotes a mark is written twice"


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _not_text(encoding: str) -> str:
    name = encoding.removesuffix("-sig").upper()
    return f'has bytes that are not {name}; if the file has another encoding, say `encoding = "cp1252"` in the mapping'


def _text_of(error: Exception) -> str:
    """Without the address that libraries put into their messages."""
    return " ".join(str(error).split()) or type(error).__name__


def _format_of(path: Path) -> Format:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in _SUFFIXES:
        raise InvalidInput(f"{path}: say its `format` (csv, jsonl or parquet)")
    return _SUFFIXES[suffix.lower()]
