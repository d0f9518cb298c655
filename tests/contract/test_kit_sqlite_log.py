"""The embedded log passes the log suite, and what is its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from vigie_kit.database import open_engine, transaction
from vigie_kit.log import Entry, LogReader
from vigie_kit.sqlite_log import SqliteLogReader, SqliteLogWriter

from tests.contract.kit_log_suite import LogSuite, LogUnderTest, entries_of

READ = """
import json, sys, pathlib
from vigie_kit.sqlite_log import SqliteLogReader
path, lane, number, limit = sys.argv[1:]
found = SqliteLogReader(pathlib.Path(path), "events").read({int(lane): int(number)}, int(limit))
print(json.dumps([[e.position.lane, e.position.number, e.payload.hex()] for e in found]))
"""


class TestSqliteLog(LogSuite):
    @pytest.fixture
    def log(self, tmp_path: Path) -> LogUnderTest:
        path = tmp_path / "a folder?" / "pro%ducer.db"
        engine = open_engine(path)
        writer = SqliteLogWriter("events")
        with transaction(engine) as connection:
            writer.create(connection)

        def read_elsewhere(after: dict[int, int], limit: int) -> list[Entry]:
            done = subprocess.run(
                [sys.executable, "-c", READ, str(path), "0", str(after.get(0, 0)), str(limit)],
                check=True,
                capture_output=True,
                text=True,
            )
            return entries_of(json.loads(done.stdout))

        return LogUnderTest(
            writer=writer,
            transaction=lambda: transaction(engine),
            reader=lambda: SqliteLogReader(path, "events"),
            absent=lambda: SqliteLogReader(tmp_path / "nowhere.db", "events"),
            read_elsewhere=read_elsewhere,
        )

    def test_a_file_without_the_table_reads_as_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        with transaction(open_engine(path)) as connection:
            connection.exec_driver_sql("CREATE TABLE unrelated (x INTEGER)")
        reader: LogReader = SqliteLogReader(path, "events")
        assert reader.read({}, 10) == []
        assert reader.end() == {}

    def test_a_reader_opened_before_the_file_sees_it_later(self, tmp_path: Path) -> None:
        path = tmp_path / "late.db"
        reader = SqliteLogReader(path, "events")
        assert reader.read({}, 10) == []
        writer = SqliteLogWriter("events")
        with transaction(open_engine(path)) as connection:
            writer.create(connection)
            writer.append(connection, [b"a"])
        assert [entry.payload for entry in reader.read({}, 10)] == [b"a"]

    def test_a_log_whose_writer_is_gone_is_still_read(self, tmp_path: Path) -> None:
        path = tmp_path / "left.db"
        engine = open_engine(path)
        writer = SqliteLogWriter("events")
        with transaction(engine) as connection:
            writer.create(connection)
            writer.append(connection, [b"a"])
        engine.dispose()
        assert [entry.payload for entry in SqliteLogReader(path, "events").read({}, 10)] == [b"a"]

    def test_it_has_the_single_lane_zero(self, log: LogUnderTest) -> None:
        with pytest.raises(ValueError, match="single lane 0"), log.transaction() as connection:
            log.writer.append(connection, [b"a"], lane=1)

    def test_a_name_is_an_identifier(self) -> None:
        with pytest.raises(ValueError, match="no log name"):
            SqliteLogWriter("events; DROP TABLE x")
