"""The installation's business clock, read from `installation.json`. The file is written once, by `vigie up`."""

import time
from functools import lru_cache
from pathlib import Path

import msgspec
from vigie_contracts.errors import IncompatibleData, Unavailable
from vigie_contracts.instants import Installation

FORMAT = 1


def installation(data: Path) -> Installation:
    """What is fixed for a data directory; Unavailable before its set-up, IncompatibleData for a newer format."""
    path = data / "installation.json"
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise Unavailable(f"{path} does not exist: `vigie up` sets up the data directory") from error
    return _load(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


def now_us(data: Path) -> int:
    """The business instant now, in microseconds."""
    return installation(data).clock.at(time.time_ns() // 1000)


@lru_cache(maxsize=16)
def _load(path: Path, _mtime_ns: int, _size: int, _inode: int) -> Installation:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Installation)
    except msgspec.DecodeError as error:
        raise IncompatibleData(f"{path} cannot be read: {error}") from error
    if found.format > FORMAT:
        raise IncompatibleData(f"{path} has format {found.format}; this program reads up to {FORMAT}: update Vigie")
    return found
