"""A log that cannot be written ends nobody's work."""

import contextlib
import io
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from vigie_kit import logs
from vigie_kit.logs import ForgivingStream
from vigie_kit.worker import Worker

FULL = Path("/dev/full")


class FullUntilRoom(io.StringIO):
    """A stream on a disk that is full until `room`."""

    room = False

    def write(self, text: str) -> int:
        if not self.room:
            raise OSError(28, os.strerror(28))
        return super().write(text)


def test_lost_lines_are_counted_and_told_when_there_is_room_again() -> None:
    disk = FullUntilRoom()
    stream = ForgivingStream(disk)
    for text in ("one", "\n", "two\n"):
        assert stream.write(text) == len(text)
    disk.room = True
    stream.write("three\n")
    told, line = disk.getvalue().splitlines()
    assert json.loads(told) == {"event": "log lines were lost", "lines": 2}
    assert line == "three"


@pytest.mark.skipif(not FULL.exists(), reason="this machine has no /dev/full")
def test_a_worker_goes_on_though_its_error_cannot_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[str, Any] = structlog.get_config()
    recovered, failures = threading.Event(), [ValueError("the first step")]

    def step() -> bool:
        if failures:
            raise failures.pop()
        recovered.set()
        return False

    full = FULL.open("w")
    monkeypatch.setattr("sys.stderr", full)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    logs.configure("test")
    worker = Worker("test", step, lambda: recovered.wait(0.01))
    worker.start()
    try:
        assert recovered.wait(20)
    finally:
        worker.stop()
        structlog.configure(**before)
        with contextlib.suppress(OSError):
            full.close()
