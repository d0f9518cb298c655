"""Keeps the children running: starts them, starts them again when they die, stops them in order.

Everything happens in one thread, so that a signal to the main thread never interrupts a start halfway.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vigie_contracts.errors import Unavailable

from vigie_cli import watchdog
from vigie_cli.child import REFUSED, STARTS_A_MINUTE, Child, end
from vigie_cli.programs import Program

TICK_SECONDS = 0.1
STOP_SECONDS = 15.0
READY_SECONDS = 180.0


class Supervisor:
    """`programs` are stopped in their order: the first alone, as it calls the others, then the rest together.

    `tell` gets a sentence for a person whenever a child dies. `lock` is a file descriptor that the watchdog keeps open.
    """

    def __init__(
        self, programs: list[Program], logs: Path, tell: Callable[[str], None], lock: int | None = None
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.children = [Child(program, logs) for program in programs]
        self.failure: str | None = None
        self._tell = tell
        self._lock = lock
        self._ready: set[str] = set()
        self._stopping = threading.Event()
        self._watchdog: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def start(self) -> None:
        """Start all children; returns at once."""
        self._thread.start()

    def wait_until_ready(self, seconds: float = READY_SECONDS, progress: Callable[[str], None] | None = None) -> None:
        """Wait until every child is ready; `progress` gets each name. Unavailable says who is not, with its log."""
        deadline = time.monotonic() + seconds
        while waiting := [child for child in self.children if child.program.name not in self._ready]:
            for child in waiting:
                if child.is_ready():
                    self._ready.add(child.program.name)
                    (progress or (lambda _name: None))(child.program.name)
            if self.failure is not None:
                raise Unavailable(self.failure)
            if time.monotonic() > deadline:
                raise Unavailable(_not_ready(waiting[0], seconds))
            self._stopping.wait(TICK_SECONDS)

    def wait(self) -> None:
        """Wait until stopped; Unavailable when the supervisor itself failed."""
        while self._thread.is_alive():
            self._thread.join(0.5)
        if self.failure is not None:
            raise Unavailable(self.failure)

    def stop(self) -> None:
        """Stop all children and wait for them."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._watchdog = self._start_watchdog()
            for child in self.children:
                self._start(child)
            while not self._stopping.wait(TICK_SECONDS):
                self._tend()
        except Exception as error:  # a supervisor: told to the person, children are stopped
            self.failure = f"the supervisor failed: {type(error).__name__}: {error}"
        finally:
            self._end()

    def _tend(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.due_at is not None:
                if now >= child.due_at:
                    self._start(child)
            elif (code := child.exit_code()) is not None:
                self._died(child, code, now)
        if self._watchdog is not None and self._watchdog.poll() is not None:
            self._watchdog = self._start_watchdog()

    def _died(self, child: Child, code: int, now: float) -> None:
        name = child.program.name
        self._release(child)
        told = f"{name} ended {_how(code)}; the last lines of {child.log_path}:\n{child.tail()}"
        if name not in self._ready and (code == REFUSED or len(child.restarts) == STARTS_A_MINUTE):
            self.failure = f"{told}\n{name} could not be started; mend this and run the command again."
            self._stopping.set()
            return
        pause = child.plan_restart(now)
        self._tell(f"{told}\n{name} starts again in {pause:.1f} s.")

    def _start(self, child: Child) -> None:
        group = child.start()
        self._note(f"+{group}\n")

    def _release(self, child: Child) -> None:
        """Kill what an ended child left in its group."""
        assert child.process is not None
        child.signal(signal.SIGKILL)
        self._note(f"-{child.process.pid}\n")

    def _end(self) -> None:
        end(self.children[:1], STOP_SECONDS)
        end(self.children[1:], STOP_SECONDS)
        self._note(".\n")
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            self._watchdog.wait()

    def _start_watchdog(self) -> "subprocess.Popen[str]":
        started = subprocess.Popen(
            [sys.executable, watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            pass_fds=() if self._lock is None else (self._lock,),
        )
        self._watchdog = started
        for child in self.children:
            if child.process is not None and child.exit_code() is None:
                self._note(f"+{child.process.pid}\n")
        return started

    def _note(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.write(line)
                self._watchdog.stdin.flush()


def _how(code: int) -> str:
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"


def _not_ready(child: Child, seconds: float) -> str:
    told = f"{child.program.name} was not ready within {seconds:.0f} s"
    return f"{told}; the last lines of {child.log_path}:\n{child.tail()}"
