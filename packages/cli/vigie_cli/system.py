"""A whole embedded Vigie: installation, secrets, ports, processes. `vigie up` and `vigie demo` run one."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
from vigie_contracts.errors import Conflict
from vigie_contracts.instants import ClockSetting, Installation, format_instant
from vigie_kit import installation

from vigie_cli import credentials, running
from vigie_cli.addresses import Addresses, addresses, require_free
from vigie_cli.credentials import Credentials
from vigie_cli.programs import programs
from vigie_cli.supervisor import Supervisor


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM arrived. No error: nothing but the outermost level catches it."""


@dataclass(frozen=True)
class Wanted:
    """What `vigie up` was asked for; None means: as the installation has it, or the default for a new one."""

    data: Path
    feature_repo: Path
    port_base: int
    time_zone: str | None = None
    clock_us: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class System:
    """A system whose processes run."""

    data: Path
    feature_repo: Path
    addresses: Addresses
    credentials: Credentials
    installation: Installation
    supervisor: Supervisor


@contextlib.contextmanager
def started(
    wanted: Wanted, *, tell: Callable[[str], None], progress: Callable[[str], None] | None = None
) -> Iterator[System]:
    """Start everything, yield when all is ready, stop everything at the end. Conflict, InvalidInput, Unavailable."""
    data = wanted.data.resolve()
    settled = settle(wanted)
    with running.claim(data) as lock:
        require_free(wanted.port_base)
        keys = credentials.load_or_create(data)
        supervisor = Supervisor(
            programs(data, wanted.feature_repo, wanted.port_base, keys), data / "logs", tell=tell, lock=lock
        )
        where = addresses(wanted.port_base)
        running.record(data, port_base=wanted.port_base, addresses=where, feature_repo=wanted.feature_repo)
        try:
            supervisor.start()
            supervisor.wait_until_ready(progress=progress)
            yield System(data, wanted.feature_repo, where, keys, settled, supervisor)
        finally:
            supervisor.stop()


def settle(wanted: Wanted) -> Installation:
    """The installation of the data directory, made when there is none; Conflict when it was fixed otherwise."""
    if not (wanted.data / installation.FILE).exists():
        return installation.create(wanted.data, time_zone=wanted.time_zone or "UTC", clock=_clock(wanted))
    found = installation.load(wanted.data)
    if wanted.time_zone not in (None, found.time_zone):
        raise Conflict(_fixed(wanted.data, "--time-zone", found.time_zone))
    if wanted.clock_us not in (None, found.clock.base_virtual_us) or wanted.rate not in (None, found.clock.rate):
        raise Conflict(_fixed(wanted.data, "--clock and --rate", describe_clock(found.clock)))
    return found


def describe_clock(clock: ClockSetting) -> str:
    """A clock in words."""
    if clock == ClockSetting():
        return "the system's clock"
    return f"a clock that began at {format_instant(clock.base_virtual_us)} and runs at rate {clock.rate:g}"


def ready_line(system: System) -> str:
    """The one line of `vigie up --json`."""
    line = {
        **msgspec.structs.asdict(system.addresses),
        "token": system.credentials.api_token,
        "write_key": system.credentials.write_key,
    }
    return msgspec.json.encode(line).decode()


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """The first Ctrl-C or SIGTERM raises StopRequested here; later ones are ignored, as the end is bounded."""

    def request(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise StopRequested

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request)
    with contextlib.suppress(StopRequested):
        yield


def _clock(wanted: Wanted) -> ClockSetting:
    if wanted.clock_us is None and wanted.rate in (None, 1.0):
        return ClockSetting()
    now_us = time.time_ns() // 1_000
    begin_us = now_us if wanted.clock_us is None else wanted.clock_us
    return ClockSetting(base_real_us=now_us, base_virtual_us=begin_us, rate=1.0 if wanted.rate is None else wanted.rate)


def _fixed(data: Path, flags: str, value: str) -> str:
    return (
        f"{data} was set up with {value}, which is fixed once for an installation. Leave out {flags}, "
        "or name another folder with --data."
    )
