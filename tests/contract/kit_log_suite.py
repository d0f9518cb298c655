"""What every log adapter must do: subclass `LogSuite` and say how to build one."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection
from vigie_contracts.events import Position
from vigie_kit.log import Entry, LogReader, LogWriter, advance


@dataclass
class LogUnderTest:
    """An adapter: `transaction` opens the producer's transaction, `reader` a fresh reader, `wake` a pair of ends.

    `read_elsewhere(after, limit)` reads in another process. `absent` is a reader of a log that nobody made.
    """

    writer: LogWriter
    transaction: Callable[[], AbstractContextManager[Connection]]
    reader: Callable[[], LogReader]
    absent: Callable[[], LogReader]
    read_elsewhere: Callable[[dict[int, int], int], list[Entry]]
    lane: int = 0


class LogSuite:
    """Inherit, and define the fixture `log`."""

    @pytest.fixture
    def log(self) -> LogUnderTest:
        raise NotImplementedError

    @pytest.fixture
    def reader(self, log: LogUnderTest) -> Iterator[LogReader]:
        reader = log.reader()
        yield reader
        reader.close()

    def append(self, log: LogUnderTest, *payloads: bytes) -> list[Position]:
        with log.transaction() as connection:
            return log.writer.append(connection, payloads, log.lane)

    def test_numbers_rise_by_one_from_one(self, log: LogUnderTest) -> None:
        assert self.append(log, b"a", b"b") == [Position(log.lane, 1), Position(log.lane, 2)]
        assert self.append(log, b"c") == [Position(log.lane, 3)]
        assert self.append(log) == []
        assert self.append(log, b"d") == [Position(log.lane, 4)]

    def test_reads_what_lies_after_a_position_up_to_a_limit(self, log: LogUnderTest, reader: LogReader) -> None:
        self.append(log, b"a", b"b", b"c", b"d")
        assert reader.read({log.lane: 1}, 2) == [Entry(Position(log.lane, 2), b"b"), Entry(Position(log.lane, 3), b"c")]
        assert [entry.payload for entry in reader.read({}, 10)] == [b"a", b"b", b"c", b"d"]
        assert reader.read({log.lane: 4}, 10) == []

    def test_a_rollback_leaves_nothing_and_no_gap(self, log: LogUnderTest, reader: LogReader) -> None:
        self.append(log, b"kept")
        with pytest.raises(RuntimeError, match="changed its mind"), log.transaction() as connection:  # noqa: PT012
            log.writer.append(connection, [b"lost"], log.lane)
            raise RuntimeError("the producer changed its mind")
        assert self.append(log, b"next") == [Position(log.lane, 2)]
        assert [entry.payload for entry in reader.read({}, 10)] == [b"kept", b"next"]

    def test_nothing_is_read_before_the_commit(self, log: LogUnderTest, reader: LogReader) -> None:
        self.append(log, b"first")
        with log.transaction() as connection:
            log.writer.append(connection, [b"second"], log.lane)
            assert [entry.payload for entry in reader.read({}, 10)] == [b"first"]
            assert reader.end() == {log.lane: 1}
        assert [entry.payload for entry in reader.read({log.lane: 1}, 10)] == [b"second"]

    def test_the_end_is_the_last_number_of_each_lane(self, log: LogUnderTest, reader: LogReader) -> None:
        assert reader.end() == {}
        self.append(log, b"a", b"b")
        assert reader.end() == {log.lane: 2}

    def test_an_absent_log_reads_as_empty(self, log: LogUnderTest) -> None:
        reader = log.absent()
        assert reader.read({}, 10) == []
        assert reader.end() == {}
        reader.close()

    def test_payloads_come_back_byte_for_byte(self, log: LogUnderTest, reader: LogReader) -> None:
        payloads = [bytes(range(256)), b"", '{"é":"\\u0000"}'.encode(), b"x" * 300_000]
        self.append(log, *payloads)
        assert [entry.payload for entry in reader.read({}, 10)] == payloads

    def test_another_process_reads_the_same(self, log: LogUnderTest) -> None:
        self.append(log, b"a", b"b", b"c")
        assert log.read_elsewhere({log.lane: 1}, 10) == [
            Entry(Position(log.lane, 2), b"b"),
            Entry(Position(log.lane, 3), b"c"),
        ]

    def test_a_cursor_advances_over_what_was_read(self, log: LogUnderTest, reader: LogReader) -> None:
        self.append(log, b"a", b"b", b"c")
        cursor: dict[int, int] = {}
        seen: list[bytes] = []
        while entries := reader.read(cursor, 2):
            seen += [entry.payload for entry in entries]
            cursor = advance(cursor, entries)
        assert seen == [b"a", b"b", b"c"]
        assert cursor == reader.end()

    def test_a_closed_reader_can_read_again(self, log: LogUnderTest, reader: LogReader) -> None:
        self.append(log, b"a")
        assert reader.end() == {log.lane: 1}
        reader.close()
        assert [entry.payload for entry in reader.read({}, 10)] == [b"a"]


def entries_of(rows: list[Any]) -> list[Entry]:
    """Entries from (lane, number, payload as hex) rows that another process printed."""
    return [Entry(Position(lane, number), bytes.fromhex(payload)) for lane, number, payload in rows]
