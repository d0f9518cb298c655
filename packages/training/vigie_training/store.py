"""The promotion ledger: every promotion, refusal and rollback, never changed (MLflow keeps no history of aliases)."""

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine
from vigie_kit.database import open_engine

_DDL = (
    "CREATE TABLE IF NOT EXISTS promotions ("
    " number INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, who TEXT NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL,"
    " from_version TEXT, to_version TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT, evidence TEXT NOT NULL)",
    "CREATE TRIGGER IF NOT EXISTS promotions_are_not_changed BEFORE UPDATE ON promotions"
    " BEGIN SELECT RAISE(ABORT, 'the promotion ledger is not changed'); END",
    "CREATE TRIGGER IF NOT EXISTS promotions_are_not_deleted BEFORE DELETE ON promotions"
    " BEGIN SELECT RAISE(ABORT, 'the promotion ledger is not deleted from'); END",
)
_COLUMNS = "number, at_us, who, name, action, from_version, to_version, verdict, reason, evidence"


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One decision about a model. `verdict`: held, overridden, refused, rolled back. `evidence`: the report."""

    number: int = 0
    at_us: int
    who: str
    name: str
    action: str
    from_version: str | None
    to_version: str
    verdict: str
    reason: str | None = None
    evidence: Any = None


class Ledger:
    """`ledger.db` of a data directory."""

    def __init__(self, data: Path) -> None:
        self.engine: Engine = open_engine(data / "ledger.db")
        with self.engine.connect() as conn:
            for statement in _DDL:
                conn.exec_driver_sql(statement)

    def close(self) -> None:
        """Let go of the file."""
        self.engine.dispose()

    def rows(self, name: str | None = None) -> list[LedgerRow]:
        """All rows, or a model's, oldest first."""
        where, values = (" WHERE name = ?", (name,)) if name else ("", ())
        with self.engine.connect() as conn:
            found = conn.exec_driver_sql(f"SELECT {_COLUMNS} FROM promotions{where} ORDER BY number", values).fetchall()
        return [_row(tuple(row)) for row in found]


def write(conn: Connection, row: LedgerRow) -> None:
    """Append a row inside the caller's transaction."""
    evidence = msgspec.json.encode(row.evidence).decode()
    conn.exec_driver_sql(
        "INSERT INTO promotions (at_us, who, name, action, from_version, to_version, verdict, reason, evidence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.at_us, row.who, row.name, row.action, row.from_version, row.to_version, row.verdict, row.reason, evidence),
    )


def _row(values: tuple[Any, ...]) -> LedgerRow:
    fields = dict(zip(_COLUMNS.split(", "), values, strict=True))
    fields["evidence"] = msgspec.json.decode(fields["evidence"])
    return LedgerRow(**fields)
