"""What is acknowledged stays: kills under load, power cuts that drop what was not synced, a full disk, a busy log."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.ingest_process import KEY, IngestProcess, running
from tests.servers import until

SENDERS, BATCH = 3, 10
BETWEEN_KILLS = 200
KILLS = [2, pytest.param(20, marks=pytest.mark.large)]
SMALL_DISK, LARGER_DISK = "size=2m", "size=64m"


def track(message_id: str, user: str = "u", **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Logged In", "messageId": message_id, "userId": user, **more}


class Senders:
    """Clients that send batches again and again until each is acknowledged, as an SDK does."""

    def __init__(self, process: IngestProcess) -> None:
        self.acknowledged: set[str] = set()
        self._process = process
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._stream, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def await_more(self) -> None:
        """Until so many more events are acknowledged."""
        floor = len(self.acknowledged) + BETWEEN_KILLS
        until("events under load", lambda: len(self.acknowledged) >= floor)

    def _stream(self, sender: int) -> None:
        number = 0
        while not self._stopping.is_set():
            ids = [f"{sender}-{number}-{place}" for place in range(BATCH)]
            users = (f"u{sender}", f"u{sender}-{number}")
            body = {"batch": [track(name, users[place % 2]) for place, name in enumerate(ids)], "writeKey": KEY}
            if self._delivered(body):
                self.acknowledged.update(ids)
            number += 1

    def _delivered(self, body: dict[str, Any]) -> bool:
        while not self._stopping.is_set():
            try:
                if self._process.post("/v1/batch", body).status_code == 200:
                    return True
            except httpx.TransportError:
                time.sleep(0.02)
        return False


def assert_each_once(process: IngestProcess, acknowledged: set[str]) -> None:
    """Every acknowledged event lies in the log, none twice, and each can be opened with its member's key."""
    events = process.events()
    counts = Counter(event.event_id for event in events)
    assert acknowledged <= counts.keys()
    assert set(counts.values()) == {1}
    assert all(event.user_id for event in events)


@pytest.mark.parametrize("kills", KILLS)
def test_kills_under_load_lose_and_double_nothing(tmp_path: Path, kills: int) -> None:
    with running(tmp_path) as process:
        with Senders(process) as senders:
            for _ in range(kills):
                senders.await_more()
                process.kill()
                process.start()
            senders.await_more()
        assert_each_once(process, senders.acknowledged)


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`unsynced.c` compiled."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc): a power cut needs a library that drops what was not synced")
    library = tmp_path_factory.mktemp("unsynced") / "unsynced.so"
    source = Path(__file__).with_name("unsynced.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def cut_power(process: IngestProcess, kept: Path) -> None:
    """End the process and leave in its folder what a disk holds that lost all that was not synced."""
    process.kill()
    for file in process.folder.glob("*.db*"):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy(file, process.folder / file.name)


@pytest.mark.parametrize("cuts", KILLS)
def test_power_cuts_under_load_lose_and_double_nothing(tmp_path: Path, unsynced: Path, cuts: int) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with running(tmp_path / "data", settings={"LD_PRELOAD": str(unsynced), "UNSYNCED": str(kept)}) as process:
        with Senders(process) as senders:
            for _ in range(cuts):
                senders.await_more()
                cut_power(process, kept)
                process.start()
            senders.await_more()
        cut_power(process, kept)
        assert_each_once(process, senders.acknowledged)


def test_the_library_of_power_cuts_drops_what_was_not_synced(tmp_path: Path, unsynced: Path) -> None:
    kept = {}
    for level in ("full", "off"):
        folder = tmp_path / level
        folder.mkdir()
        code = (
            f"import os, sqlite3; c = sqlite3.connect({str(tmp_path / level)!r} + '.db', isolation_level=None);"
            f" c.execute('pragma journal_mode = wal'); c.execute('pragma synchronous = {level}');"
            " c.execute('create table t (n)'); [c.execute('insert into t values (1)') for _ in range(9)];"
            " os.kill(os.getpid(), 9)"
        )
        environment = {**os.environ, "LD_PRELOAD": str(unsynced), "UNSYNCED": str(folder)}
        subprocess.run(["python3", "-c", code], env=environment, check=False)
        kept[level] = _count(folder / f"{level}.db")
    assert kept == {"full": 9, "off": None}


def _count(path: Path) -> int | None:
    """The rows that were kept; None when not even the table was."""
    with contextlib.closing(sqlite3.connect(path)) as file, contextlib.suppress(sqlite3.OperationalError):
        return int(file.execute("SELECT count(*) FROM t").fetchone()[0])
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip() if done else 'it needs root'})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_loses_nothing_and_it_goes_on_by_itself(small_disk: Path) -> None:
    with running(small_disk / "data") as process:
        acknowledged: set[str] = set()

        def fill() -> httpx.Response | None:
            ids = [f"e{len(acknowledged) + place}" for place in range(BATCH)]
            batch = [track(name, properties={"padding": os.urandom(500).hex()}) for name in ids]
            answer = process.post("/v1/batch", {"batch": batch, "writeKey": KEY})
            if answer.status_code != 200:
                return answer
            acknowledged.update(ids)
            return None

        refused = until("the disk to be full", fill)
        assert refused is not None
        assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
        assert int(refused.headers["retry-after"]) >= 1
        until("readiness to fall", lambda: not process.ready())
        assert httpx.get(f"{process.url}/livez", trust_env=False).status_code == 200
        assert process.receipt("e0")["verdict"] == "accepted"
        assert process.receipt(f"e{len(acknowledged)}")["verdict"] == "unknown"

        subprocess.run(["mount", "-o", f"remount,{LARGER_DISK}", str(small_disk)], check=True)
        until("events to be taken again", lambda: fill() is None)
        until("readiness to return", process.ready)
        assert_each_once(process, acknowledged)


def test_a_busy_log_is_said_and_loses_nothing_and_it_goes_on_by_itself(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        with contextlib.closing(sqlite3.connect(process.folder / "ingest.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = process.post("/v1/batch", {"batch": [track("a")], "writeKey": KEY})
            assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
            until("readiness to fall", lambda: not process.ready())
            time.sleep(1)  # no request meanwhile: it must not think that all is well
            assert not process.ready()
            assert process.receipt("a")["verdict"] == "unknown"
            other.execute("ROLLBACK")
        until("it is taken", lambda: process.post("/v1/batch", {"batch": [track("a")], "writeKey": KEY}).is_success)
        until("readiness to return", process.ready)
        assert_each_once(process, {"a"})
