"""What an import did: counts, and each refusal with file, row, column and reason."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

KEPT_REFUSALS = 1_000
KEPT_EXAMPLES = 3
KEPT_REASONS = 200
OTHER = "other reasons"
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\bline \d+")
Verdict = Literal["refused", "quarantined"]


class RowRefusal(msgspec.Struct, frozen=True):
    """A row that was not imported. `row` counts from 1 after the header; `column` is None when it is the whole row.

    `code` is ingest's when the record was sent and quarantined there, else empty: the row did not fit the mapping.
    """

    file: str
    row: int
    column: str | None
    reason: str
    code: str = ""

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        return f"{self.file}, row {self.row}{column}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an import is. `total_rows` is an estimate for text files, None when unknown."""

    table: str
    file: str
    rows: int
    total_rows: int | None
    accepted: int
    duplicates: int
    refused: int
    skipped: int


class Reason(msgspec.Struct):
    """Why rows were not accepted: how many, and the first of them."""

    verdict: Verdict
    code: str
    reason: str
    column: str | None
    count: int = 0
    examples: list[RowRefusal] = []


class TableReport(msgspec.Struct, kw_only=True):
    """One table: rows = skipped by filters + accepted + duplicates + quarantined + refused.

    After an interruption the counts are of both runs together; the first `resumed_at` rows were done by the earlier
    one. Rows that were written but not yet acknowledged when it was interrupted are counted as duplicates.
    """

    table: str
    file: str
    rows: int = 0
    skipped: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    refused: int = 0
    resumed_at: int = 0
    reasons: dict[str, Reason] = {}

    def refuse(self, refusal: RowRefusal) -> None:
        """Count a refusal under its reason; values in quotes do not make reasons different."""
        verdict: Verdict = "quarantined" if refusal.code else "refused"
        if refusal.code:
            self.quarantined += 1
        else:
            self.refused += 1
        plain = _QUOTED.sub("…", refusal.reason)
        key = f"{refusal.code}\0{refusal.column or ''}\0{plain}"
        if key not in self.reasons and len(self.reasons) >= KEPT_REASONS:
            key, plain = f"{verdict}\0{OTHER}", OTHER
        if key not in self.reasons:
            self.reasons[key] = Reason(verdict, refusal.code, plain, refusal.column if plain != OTHER else None)
        found = self.reasons[key]
        found.count += 1
        if len(found.examples) < KEPT_EXAMPLES:
            found.examples = [*found.examples, refusal]


@dataclass
class ImportReport:
    """The whole import. `refusals` holds the first thousand of this run, of the mapping and of ingest.

    `notes` say what is worth knowing; `problems` why the import is not whole. `refused_files` can be mended.
    """

    seconds: float = 0.0
    dry_run: bool = False
    tables: list[TableReport] = field(default_factory=list)
    refusals: list[RowRefusal] = field(default_factory=list)
    refused_files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(table.rows for table in self.tables)

    @property
    def accepted(self) -> int:
        """Records that are new in the log."""
        return sum(table.accepted for table in self.tables)

    @property
    def duplicates(self) -> int:
        """Records that were there already."""
        return sum(table.duplicates for table in self.tables)

    @property
    def quarantined(self) -> int:
        """Records that ingest keeps in quarantine."""
        return sum(table.quarantined for table in self.tables)

    @property
    def refused(self) -> int:
        """Rows that do not fit the mapping."""
        return sum(table.refused for table in self.tables)

    @property
    def skipped(self) -> int:
        """Rows that the mapping's filters left out."""
        return sum(table.skipped for table in self.tables)

    @property
    def records_per_second(self) -> float:
        """Records acknowledged by ingest in this run, a second of wall clock."""
        done = self.accepted + self.duplicates + self.quarantined
        return done / self.seconds if self.seconds and not any(table.resumed_at for table in self.tables) else 0.0

    @property
    def rows_per_second(self) -> float:
        """Rows read in this run, a second of wall clock."""
        return sum(table.rows - table.resumed_at for table in self.tables) / self.seconds if self.seconds else 0.0

    def reasons(self, verdict: Verdict) -> list[tuple[str, Reason]]:
        """(file, reason) of a verdict, most frequent first."""
        found = [(table.file, reason) for table in self.tables for reason in table.reasons.values()]
        return sorted((row for row in found if row[1].verdict == verdict), key=lambda row: -row[1].count)

    def refuse(self, table: TableReport, refusal: RowRefusal) -> None:
        """Count a refusal and keep it among the first."""
        table.refuse(refusal)
        if len(self.refusals) < KEPT_REFUSALS:
            self.refusals.append(refusal)

    def as_json(self) -> bytes:
        """The report for a program, indented."""
        body: dict[str, Any] = {
            "dry_run": self.dry_run,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second),
            **{name: getattr(self, name) for name in _COUNTS},
            "tables": [{name: getattr(table, name) for name in _TABLE} for table in self.tables],
            "refused_by_reason": list(_reasons(self.reasons("refused"))),
            "quarantined_by_reason": list(_reasons(self.reasons("quarantined"))),
            "refused_files": self.refused_files,
            "notes": self.notes,
            "problems": self.problems,
        }
        return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


_COUNTS = ("rows", "skipped", "accepted", "duplicates", "quarantined", "refused")
_TABLE = ("table", "file", *_COUNTS, "resumed_at")


def _reasons(rows: Iterable[tuple[str, Reason]]) -> Iterator[dict[str, Any]]:
    for file, reason in rows:
        yield {
            "file": file,
            "column": reason.column,
            "code": reason.code or None,
            "reason": reason.reason,
            "count": reason.count,
            "examples": [{"row": row.row, "column": row.column, "reason": row.reason} for row in reason.examples],
        }
