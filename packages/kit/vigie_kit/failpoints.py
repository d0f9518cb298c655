"""Places where a test may kill the process. Without VIGIE_FAILPOINT they do nothing."""

import functools
import itertools
import os
import signal
from collections.abc import Iterator


def hit(name: str) -> None:
    """Kill this process at the n-th passing of the failpoint `NAME[:n]` in VIGIE_FAILPOINT."""
    planted, count, passings = _planted()
    if name == planted and next(passings) >= count:
        os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _planted() -> tuple[str, int, Iterator[int]]:
    """The failpoint, at which passing it kills, and the passings, counted from 1. Read when one is passed first."""
    name, _, count = os.environ.get("VIGIE_FAILPOINT", "").partition(":")
    return name, int(count or 1), itertools.count(1)
