"""Which statements read a whole table: a cost that grows with the number of customers."""

from typing import Any

from sqlalchemy import Engine, event

_WITH_A_PLAN = ("SELECT", "DELETE", "UPDATE", "INSERT")


def statements(engine: Engine) -> dict[str, Any]:
    """Every statement from now on, with the last of its parameters."""
    found: dict[str, Any] = {}

    def keep(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:
        found[sql] = parameters[-1] if many else parameters

    event.listen(engine, "before_cursor_execute", keep)
    return found


def reading_all(engine: Engine, found: dict[str, Any]) -> list[str]:
    """Those whose plan goes through a table of ours without an end."""
    with engine.connect() as connection:
        return [sql for sql, parameters in list(found.items()) if _reads_all(connection, sql, parameters)]


def _reads_all(connection: Any, sql: str, parameters: Any) -> bool:
    if sql.split()[0] not in _WITH_A_PLAN or " LIMIT ?" in sql:
        return False
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
    scans = [row[3] for row in plan if row[3].startswith("SCAN")]
    return any("json_each" not in scan and "CONSTANT ROW" not in scan for scan in scans)
