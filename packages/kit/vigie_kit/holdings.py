"""Tables whose rows belong to somebody, declared once: so that counting, exporting and deleting never differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigie_contracts.instants import format_instant
from vigie_contracts.subjects import Place, Section

from vigie_kit.database import Connection

Ids = Sequence[str] | Sequence[int]
DELETED = "rows deleted"
_NEVER_US = 2**57
"""Further than any date: stands for never."""


@dataclass(frozen=True)
class Table:
    """Rows of a table that are somebody's by an id `column` of the kind `by` (a name of ids). `what`: in a sentence.

    With `or_column` a row is also whose id stands there.
    """

    name: str
    column: str
    by: str
    what: str
    or_column: str = ""

    def count(self, connection: Connection, ids: Mapping[str, Ids]) -> int:
        """How many rows there are of these ids."""
        sql = f"SELECT count(*) FROM {self.name} WHERE {self._condition}"
        return int(connection.exec_driver_sql(sql, (self._values(ids),)).scalar_one())

    def delete(self, connection: Connection, ids: Mapping[str, Ids]) -> None:
        """Delete them."""
        connection.exec_driver_sql(f"DELETE FROM {self.name} WHERE {self._condition}", (self._values(ids),))

    def rows(self, connection: Connection, ids: Mapping[str, Ids]) -> list[dict[str, Any]]:
        """All columns of them, by name."""
        found = connection.exec_driver_sql(f"SELECT * FROM {self.name} WHERE {self._condition}", (self._values(ids),))
        return [dict(row) for row in found.mappings()]

    def place(self, connection: Connection, ids: Mapping[str, Ids]) -> Place:
        """The count as a place."""
        return Place(name=self.name, found=self.count(connection, ids), erased_by=DELETED)

    def section(self, connection: Connection, ids: Mapping[str, Ids]) -> Section:
        """The rows for people."""
        return Section(what=self.what, rows=[readable(row) for row in self.rows(connection, ids)])

    @property
    def _condition(self) -> str:
        columns = (self.column, self.or_column) if self.or_column else (self.column,)
        return " OR ".join(f"{column} IN (SELECT value FROM json_each(?1))" for column in columns)

    def _values(self, ids: Mapping[str, Ids]) -> str:
        return json.dumps(list(ids[self.by]))


def readable(value: Any) -> Any:
    """For people: `…_us` become instants under the name without the unit, JSON in bytes is opened, at any depth."""
    if isinstance(value, dict):
        return dict(_named(str(key), inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return [readable(inner) for inner in value]
    return _opened(value) if isinstance(value, bytes) else value


def _named(key: str, value: Any) -> tuple[str, Any]:
    if key.endswith("_us") and isinstance(value, int):
        return key.removesuffix("_us"), format_instant(value) if abs(value) < _NEVER_US else "never"
    return key.removesuffix("_us"), readable(value)


def _opened(value: bytes) -> Any:
    try:
        return readable(json.loads(value))
    except ValueError:
        return f"{len(value)} bytes in an internal format"
