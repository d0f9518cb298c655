"""Stops the children of a supervisor that was killed.

It reads `+GROUP` and `-GROUP` (process groups) from standard input. `.` means an orderly end. When the input ends
without it, the supervisor died: every group is asked to end, and killed after a while. Run as a script; stdlib only.
"""

import contextlib
import os
import signal
import sys
import time

GRACE_SECONDS = 15.0


def watch() -> None:
    """Read until the input ends; then stop what is left, unless the end was orderly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        if line.startswith("."):
            return
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    stop_groups(groups, GRACE_SECONDS)


def stop_groups(groups: set[int], grace_seconds: float) -> None:
    """SIGTERM to each group, SIGKILL to what lives after `grace_seconds`."""
    for group in groups:
        _signal(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(_signal(group, 0) for group in groups):
        time.sleep(0.1)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether the group still existed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    watch()
