"""Places where a test may kill the process. Without VIGIE_FAILPOINT they do nothing."""

import os
import signal

_NAME, _, _COUNT = os.environ.get("VIGIE_FAILPOINT", "").partition(":")
_REMAINING = [int(_COUNT or 1)]


def hit(name: str) -> None:
    """Kill this process at the n-th passing of the failpoint `NAME[:n]` in VIGIE_FAILPOINT."""
    if name != _NAME:
        return
    _REMAINING[0] -= 1
    if _REMAINING[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
