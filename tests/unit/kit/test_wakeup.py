import asyncio
import threading
import time
from pathlib import Path

import uvloop
from vigie_kit.wakeup import Listener, Notifier


def test_a_commit_wakes_every_reader(tmp_path: Path) -> None:
    notifier = Notifier(tmp_path, "events")
    with Listener(tmp_path, "events") as first, Listener(tmp_path, "events") as second:
        notifier.notify()
        assert first.wait(5) is True
        assert second.wait(5) is True
    notifier.close()


def test_a_reader_that_already_waits_wakes_at_once(tmp_path: Path) -> None:
    notifier = Notifier(tmp_path, "events")
    with Listener(tmp_path, "events") as listener:
        threading.Timer(0.05, notifier.notify).start()
        began = time.monotonic()
        assert listener.wait(10) is True
        assert time.monotonic() - began < 5


def test_readers_of_another_log_sleep_on(tmp_path: Path) -> None:
    with Listener(tmp_path, "changes") as listener:
        Notifier(tmp_path, "events").notify()
        assert listener.wait(0.01) is False


def test_wake_ups_that_came_together_count_as_one(tmp_path: Path) -> None:
    notifier = Notifier(tmp_path, "events")
    with Listener(tmp_path, "events") as listener:
        for _ in range(5):
            notifier.notify()
        assert listener.wait(5) is True
        assert listener.wait(0.01) is False


def test_the_event_loop_is_woken_too(tmp_path: Path) -> None:
    async def wait() -> tuple[bool, bool]:
        with Listener(tmp_path, "events") as listener:
            Notifier(tmp_path, "events").notify()
            return await listener.wait_async(5), await listener.wait_async(0.01)

    assert asyncio.run(wait()) == (True, False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(wait()) == (True, False)


def test_a_reader_that_was_killed_is_forgotten(tmp_path: Path) -> None:
    notifier = Notifier(tmp_path, "events")
    killed = Listener(tmp_path, "events")
    with killed:
        port = killed._socket.getsockname()[1]
    stale = tmp_path / "readers" / "events" / str(port)
    stale.touch()
    notifier.notify()
    notifier.notify()
    assert not stale.exists()


def test_nobody_registered_is_no_error(tmp_path: Path) -> None:
    Notifier(tmp_path, "events").notify()
