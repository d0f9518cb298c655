"""What an import did: counts, and each refusal with file, row, column and reason."""

from collections import Counter
from dataclasses import dataclass, field

KEPT_REFUSALS = 1_000


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """A row that was not imported. `row` counts from 1 after the header; `column` is None when it is the whole row."""

    file: str
    row: int
    column: str | None
    reason: str

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


@dataclass
class TableReport:
    """One table: rows read = skipped by filters + accepted + duplicates + refused (+ taken over by a resume)."""

    table: str
    file: str
    rows: int = 0
    skipped: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    resumed_at: int = 0


@dataclass
class ImportReport:
    """The whole import. `refusals` holds the first thousand; `reasons` counts all."""

    seconds: float = 0.0
    tables: list[TableReport] = field(default_factory=list)
    refusals: list[RowRefusal] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

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
    def refused(self) -> int:
        """Rows and records that were refused."""
        return sum(table.refused for table in self.tables)

    @property
    def skipped(self) -> int:
        """Rows that the mapping's filters left out."""
        return sum(table.skipped for table in self.tables)

    @property
    def records_per_second(self) -> float:
        """Records acknowledged by ingest, a second of wall clock."""
        return (self.accepted + self.duplicates) / self.seconds if self.seconds else 0.0

    def refuse(self, table: TableReport, refusal: RowRefusal) -> None:
        """Count a refusal and keep it among the first."""
        table.refused += 1
        column = f" ({refusal.column})" if refusal.column else ""
        self.reasons[f"{refusal.file}{column}: {refusal.reason}"] += 1
        if len(self.refusals) < KEPT_REFUSALS:
            self.refusals.append(refusal)
