import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from vigie_kit.database import execute_many, open_engine, reading, transaction


def pragma(path: Path, name: str) -> object:
    with open_engine(path).connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "part.db"


@pytest.mark.parametrize(
    ("name", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10_000)]
)
def test_commits_are_durable_and_constraints_hold(path: Path, name: str, value: object) -> None:
    assert pragma(path, name) == value


def test_a_transaction_commits_at_its_end(path: Path) -> None:
    engine = open_engine(path)
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert sqlite3.connect(path).execute("SELECT x FROM t").fetchall() == [(1,)]


def test_an_error_rolls_everything_back_and_leaves_the_connection_usable(path: Path) -> None:
    engine = open_engine(path)
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
    with pytest.raises(KeyError), transaction(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        raise KeyError
    with transaction(engine) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
        assert connection.exec_driver_sql("SELECT x FROM t").scalars().all() == [2]


def test_an_error_after_which_sqlite_ended_the_transaction_itself_is_not_hidden(path: Path) -> None:
    engine = open_engine(path)
    with pytest.raises(KeyError), transaction(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("ROLLBACK")
        raise KeyError


def test_readers_see_one_snapshot_while_a_writer_commits(path: Path) -> None:
    engine = open_engine(path)
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
    with reading(open_engine(path, read_only=True)) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 0
        with transaction(engine) as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 0
    with reading(engine) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 1


def test_a_read_only_engine_neither_writes_nor_creates(path: Path, tmp_path: Path) -> None:
    open_engine(path).connect().close()
    with pytest.raises(OperationalError, match="readonly"), reading(open_engine(path, read_only=True)) as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
    missing = tmp_path / "missing.db"
    with pytest.raises(OperationalError, match="unable to open"):
        open_engine(missing, read_only=True).connect()
    assert not missing.exists()


@pytest.mark.parametrize("sql", [
    "INSERT INTO t VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET n = n + excluded.n",
    "INSERT INTO t VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET n = ?",
    "UPDATE t SET k = k WHERE k = ? AND n = ?",
])  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 127, 128, 300])
def test_many_rows_at_once_do_what_they_do_one_by_one(tmp_path: Path, sql: str, count: int) -> None:
    rows = [(row % 100, row, row)[: sql.count("?")] for row in range(count)]
    found = []
    for name, run in (("once", lambda to: execute_many(to, sql, iter(rows))),
                      ("alone", lambda to: [to.exec_driver_sql(sql, row) for row in rows])):  # fmt: skip
        engine = open_engine(tmp_path / name)
        with transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE t (k INTEGER PRIMARY KEY, n INTEGER)")
            run(connection)
            found.append(connection.exec_driver_sql("SELECT * FROM t").all())
    assert found[0] == found[1]
