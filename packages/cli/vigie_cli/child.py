"""One child process: its own process group, its log file, and when it may be started again."""

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from vigie_cli.addresses import HOST
from vigie_cli.programs import Program

STARTS_A_MINUTE = 5
REFUSED = 2
"""Exit code of a service whose settings or data are wrong: starting it again would not help."""
FIRST_PAUSE_SECONDS = 0.5
LOG_BYTES = 20_000_000


class Child:
    """A program that is kept running."""

    def __init__(self, program: Program, logs: Path) -> None:
        self.program = program
        self.log_path = logs / f"{program.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts: deque[float] = deque(maxlen=STARTS_A_MINUTE)
        self.due_at: float | None = None
        self._first = True
        self._log_start = 0

    def start(self) -> int:
        """Start it in a process group of its own; answers the group."""
        environment = dict(self.program.environment)
        if not self._first:
            environment.pop("VIGIE_FAILPOINT", None)  # a failpoint kills once, else the child could never come back
        self._first, self.due_at = False, None
        self._log_start = self._rotate()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        return self.process.pid

    def exit_code(self) -> int | None:
        """The code of an ended process, None while it runs."""
        return None if self.process is None else self.process.poll()

    def plan_restart(self, now: float) -> float:
        """Decide when to start again: 0.5 s doubling, at most five times in a minute; answers the pause in seconds."""
        recent = [at for at in self.restarts if now - at < 60]
        pause = FIRST_PAUSE_SECONDS * float(2 ** len(recent))
        if len(recent) == STARTS_A_MINUTE:
            pause = max(pause, recent[0] + 60 - now)
        self.due_at = now + pause
        self.restarts.append(self.due_at)
        return pause

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, also to what the first process left behind."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def is_ready(self) -> bool:
        """Whether it runs and its readiness route answers 200."""
        return self.process is not None and self.exit_code() is None and answers(self.program)

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log since it was started."""
        return last_lines(self.log_path, lines, self._log_start)

    def wait_until(self, deadline: float) -> bool:
        """Wait for its end; False when it still runs at `deadline` (monotonic seconds)."""
        if self.process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(deadline - time.monotonic(), 0.01))
        return self.process.poll() is not None

    def _rotate(self) -> int:
        """Begin a new log file when the old one is large; answers where the new process begins to write."""
        size = self.log_path.stat().st_size if self.log_path.exists() else 0
        if size <= LOG_BYTES:
            return size
        self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return 0


def end(children: list[Child], seconds: float) -> None:
    """Ask the children to end, wait, and kill what is left of their groups."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for child in children:
        child.wait_until(deadline)
    for child in children:
        child.signal(signal.SIGKILL)
        child.wait_until(time.monotonic() + 5)


def answers(program: Program, timeout_seconds: float = 2.0) -> bool:
    """Whether the readiness route answers 200."""
    return problem(program, timeout_seconds) is None


def problem(program: Program, timeout_seconds: float = 5.0) -> str | None:
    """Why the readiness route does not answer 200, in a sentence; None when it does."""
    connection = HTTPConnection(HOST, program.port, timeout=timeout_seconds)
    try:
        connection.request("GET", program.ready_path)
        answer = connection.getresponse()
        if answer.status == HTTPStatus.OK:
            return None
        return f"{program.ready_path} answers {answer.status}: {answer.read(500).decode(errors='replace')}"
    except TimeoutError:
        return f"{program.ready_path} did not answer within {timeout_seconds:g} s"
    except (OSError, HTTPException) as error:
        return f"{program.ready_path} cannot be asked: {error}"
    finally:
        connection.close()


def last_lines(path: Path, lines: int, start: int = 0) -> str:
    """The last lines of a text file that may be long or absent, from byte `start` on."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 16_384, start))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
