"""Files as rows: CSV (also gzip), JSON lines (also gzip) and Parquet, all as lists of cells under named columns."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from vigie_contracts.errors import InvalidInput

from vigie_cli.importing.mapping import Format

PARQUET_ROWS = 16_384
Row = Sequence[Any]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_LINE = msgspec.json.Decoder(dict[str, Any])


class Source:
    """A file that is read from its beginning; `columns` in order, `rows()` as lists of cells (empty cells are None)."""

    def __init__(self, folder: Path, file: str, format_: Format | None) -> None:
        self.path = folder / file if folder.is_dir() else folder
        if not self.path.is_file():
            raise InvalidInput(f"{self.path} does not exist")
        self.file = file
        self.format = format_ or _format_of(self.path)
        self.columns = self._columns()

    def rows(self) -> Iterator[Row]:
        """All rows. InvalidInput, with the row, for a file that cannot be read on."""
        if self.format == "parquet":
            return self._parquet_rows()
        return self._csv_rows() if self.format == "csv" else self._json_rows()

    def count(self) -> int:
        """Rows of the file; for text files the lines."""
        if self.format == "parquet":
            return int(pq.read_metadata(self.path).num_rows)
        with _opened(self.path) as stream:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))
        return max(lines - (1 if self.format == "csv" else 0), 0)

    def _columns(self) -> list[str]:
        if self.format == "parquet":
            return list(pq.read_schema(self.path).names)
        with _text(self.path) as stream:
            if self.format == "csv":
                return [name.strip() for name in next(csv.reader(stream), [])]
        return sorted({name for line in self._lines() for name in line})

    def _csv_rows(self) -> Iterator[Row]:
        width = len(self.columns)
        with _text(self.path) as stream:
            reader = csv.reader(stream)
            next(reader, None)
            try:
                for cells in reader:
                    row: list[Any] = [cell or None for cell in cells]
                    yield row if len(row) == width else (row + [None] * width)[:width]
            except (csv.Error, UnicodeDecodeError) as error:
                raise InvalidInput(f"{self.path}, line {reader.line_num}: {error}") from error

    def _json_rows(self) -> Iterator[Row]:
        for line in self._lines():
            yield [line.get(column) for column in self.columns]

    def _lines(self) -> Iterator[dict[str, Any]]:
        with _opened(self.path) as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    yield _LINE.decode(line)
                except msgspec.DecodeError as error:
                    raise InvalidInput(f"{self.path}, line {number}: {error}") from error

    def _parquet_rows(self) -> Iterator[Row]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _format_of(path: Path) -> Format:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in _SUFFIXES:
        raise InvalidInput(f"{path}: say its `format` (csv, jsonl or parquet)")
    return _SUFFIXES[suffix]


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline="")
