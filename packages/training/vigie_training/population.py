"""Who may be in a training set, read from the Parquet archive: first events, outcomes, consent, the observed period."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US
from vigie_tiles.batch import read_manifest

WEEK_US = 7 * DAY_US
MONDAY_US = 4 * DAY_US
"""1970-01-05 was the first Monday."""
SPARSE_WEEK = 0.1

Instants = NDArray[np.int64]
Ids = NDArray[np.object_]
NEVER = np.iinfo(np.int64).max

_COLUMNS = {
    "events": {
        "lane": "INTEGER",
        "number": "BIGINT",
        "member_id": "VARCHAR",
        "source_id": "VARCHAR",
        "event_id": "VARCHAR",
        "name": "VARCHAR",
        "catalogued": "BOOLEAN",
        "known_at_us": "BIGINT",
        "effective_at_us": "BIGINT",
        "properties": "VARCHAR",
        "measures": "MAP(VARCHAR, BIGINT)",
    },
    "map": {
        "lane": "INTEGER",
        "number": "BIGINT",
        "member_id": "VARCHAR",
        "to_customer_id": "VARCHAR",
        "known_at_us": "BIGINT",
    },
    "consent": {
        "lane": "INTEGER",
        "number": "BIGINT",
        "member_id": "VARCHAR",
        "purpose": "VARCHAR",
        "state": "VARCHAR",
        "effective_at_us": "BIGINT",
        "known_at_us": "BIGINT",
        "source_id": "VARCHAR",
        "event_id": "VARCHAR",
    },
}


@dataclass(frozen=True)
class Population:
    """Customers as the map knows them now. `eligible_from_us` (n,), `outcome_us` (n,; NEVER when it did not happen).

    `denied` customers (analytics) are not in it; `observed_from_us` … `observed_until_us` is the period with real data.
    """

    customer_ids: Ids
    eligible_from_us: Instants
    outcome_us: Instants
    observed_from_us: int
    observed_until_us: int
    denied: int

    def __len__(self) -> int:
        return len(self.customer_ids)


@contextmanager
def archive_views(archive: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with views `events`, `map`, `consent` and the table `customer_of` (member_id, customer_id), now."""
    _, files = read_manifest(archive)
    if not any(kind == "events" for kind, _ in files):
        raise InvalidInput(f"{archive} holds no events yet; send some, or `vigie import` or `vigie simulate` a history")
    with duckdb.connect() as db:
        db.execute("SET threads = 2; SET enable_progress_bar = false")
        for kind, columns in _COLUMNS.items():
            db.execute(_view(kind, columns, [archive / name for of, name in files if of == kind]))
        db.execute(
            "CREATE TEMP TABLE customer_of AS SELECT member_id, arg_max(to_customer_id, number) AS customer_id"
            " FROM map GROUP BY member_id"
        )
        yield db


def read_population(
    db: duckdb.DuckDBPyConnection, *, outcome: str, min_history_days: int, purpose: str = "analytics"
) -> Population:
    """All customers but those who deny `purpose`, with when they become eligible and when they left."""
    found = db.sql(
        "SELECT coalesce(c.customer_id, e.member_id) AS customer_id,"
        " min(greatest(e.known_at_us, e.effective_at_us + $history)) AS eligible_from_us,"
        " min(e.effective_at_us) FILTER (WHERE e.catalogued AND e.name = $outcome) AS outcome_us"
        " FROM events e LEFT JOIN customer_of c USING (member_id) GROUP BY 1 ORDER BY 1",
        params={"history": min_history_days * DAY_US, "outcome": outcome},
    ).to_arrow_table()
    ids = strings(found["customer_id"])
    denied = denying(db, purpose)
    kept = np.array([customer_id not in denied for customer_id in ids], dtype=bool)
    begin_us, end_us = _observed(db)
    return Population(
        customer_ids=ids[kept],
        eligible_from_us=found["eligible_from_us"].to_numpy()[kept],
        outcome_us=found["outcome_us"].fill_null(int(NEVER)).to_numpy()[kept],
        observed_from_us=begin_us,
        observed_until_us=end_us,
        denied=int((~kept).sum()),
    )


def denying(db: duckdb.DuckDBPyConnection, purpose: str) -> frozenset[str]:
    """Customers with a member whose latest statement denies the purpose."""
    rows = db.execute(
        "SELECT DISTINCT coalesce(c.customer_id, s.member_id) FROM ("
        "  SELECT member_id, arg_max(state, row(effective_at_us, known_at_us, source_id, event_id)) AS state"
        "  FROM consent WHERE purpose = ? GROUP BY member_id"
        ") s LEFT JOIN customer_of c USING (member_id) WHERE s.state = 'denied'",
        [purpose],
    ).fetchall()
    return frozenset(row[0] for row in rows)


def text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def strings(column: pa.ChunkedArray) -> Ids:
    """A string column as an array of Python strings."""
    return np.array(column.to_pylist(), dtype=object)


def week_of(instants: Instants) -> Instants:
    """Number of the week (Monday 00:00 UTC) that holds each instant."""
    return (instants - MONDAY_US) // WEEK_US


def _view(kind: str, columns: dict[str, str], files: list[Path]) -> str:
    if not files:
        empty = ", ".join(f"NULL::{of} AS {name}" for name, of in columns.items())
        return f"CREATE VIEW {kind} AS SELECT {empty} WHERE false"
    listed = ", ".join(text(str(path)) for path in files)
    return f"CREATE VIEW {kind} AS SELECT {', '.join(columns)} FROM read_parquet([{listed}])"


def _observed(db: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """From the first week with a tenth of a typical week's events: single old records are no history."""
    weeks = db.execute(
        f"SELECT (effective_at_us - {MONDAY_US}) // {WEEK_US} AS week, count(*) AS n, min(effective_at_us) AS first,"
        " max(known_at_us) AS last FROM events GROUP BY 1 ORDER BY 1"
    ).fetchnumpy()
    counts = weeks["n"].astype(np.int64)
    by_size = np.sort(counts)
    typical = by_size[np.searchsorted(np.cumsum(by_size), counts.sum() / 2)]
    begins = int(np.argmax(counts >= SPARSE_WEEK * typical))
    return int(weeks["first"][begins]), int(weeks["last"].max())
