"""`run/supervisor.json`: which supervisor runs on a data directory. A lock decides; the record only tells where."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from vigie_contracts.errors import Conflict, NotFound, Unavailable
from vigie_kit.files import replace_file

from vigie_cli.addresses import Addresses

RECORD = "supervisor.json"
LOCK = "supervisor.lock"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A running system, as other commands find it."""

    pid: int
    started_at: str
    port_base: int
    addresses: Addresses
    feature_repo: str


@contextlib.contextmanager
def claim(data: Path) -> Iterator[int]:
    """Be the only supervisor of `data` while inside; yields the lock's descriptor. Conflict when there is another."""
    folder = data / "run"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not (_try_lock(descriptor) or _try_again(descriptor)):
            raise Conflict(_already(data))
        try:
            yield descriptor
        finally:
            (folder / RECORD).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def record(data: Path, *, port_base: int, addresses: Addresses, feature_repo: Path) -> None:
    """Tell other commands where the system runs."""
    told = Running(
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        port_base=port_base,
        addresses=addresses,
        feature_repo=str(feature_repo),
    )
    replace_file(data / "run" / RECORD, msgspec.json.encode(told), mode=0o600)


def is_running(data: Path) -> bool:
    """Whether a supervisor (or its children, still ending) holds the lock."""
    try:
        descriptor = os.open(data / "run" / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def find(data: Path) -> Running:
    """The running system; NotFound, with the command that starts one, when there is none."""
    if not is_running(data):
        raise NotFound(f"no Vigie runs on {data}; start it with `vigie up --data {data}`")
    try:
        return msgspec.json.decode((data / "run" / RECORD).read_bytes(), type=Running)
    except FileNotFoundError as error:
        raise Unavailable(f"the Vigie on {data} is just starting or ending; try again in a moment") from error


def stop(data: Path, seconds: float = 45.0) -> None:
    """SIGTERM to the supervisor of `data` and wait until everything ended; NotFound, Unavailable."""
    found = find(data)
    with contextlib.suppress(ProcessLookupError):
        os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_running(data):
        if time.monotonic() > deadline:
            raise Unavailable(f"the Vigie on {data} (process {found.pid}) did not end within {seconds:.0f} s")
        time.sleep(0.1)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_again(descriptor: int) -> bool:
    """Somebody who only looked had the lock for a moment."""
    time.sleep(0.2)
    return _try_lock(descriptor)


def _already(data: Path) -> str:
    try:
        found = msgspec.json.decode((data / "run" / RECORD).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return f"another Vigie is starting or ending on {data}; try again in a moment"
    return (
        f"Vigie already runs on {data} (process {found.pid}, {found.addresses.gateway}); "
        f"`vigie status --data {data}` shows it, `vigie down --data {data}` stops it"
    )
