"""A supervised thread that repeats a step: the only place where any exception is caught, logged and retried."""

import threading
from collections.abc import Callable

from vigie_kit.logs import get

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class Worker:
    """Calls `step` until it returns False (nothing to do), then `wait`, until stopped.

    A step that raises is logged and repeated after 0.1 s, doubling to 5 s; `healthy` is False meanwhile.
    """

    def __init__(self, name: str, step: Callable[[], bool], wait: Callable[[], object]) -> None:
        self.name = name
        self.last_error: str | None = None
        self._step = step
        self._wait = wait
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether the thread runs and its last step did not fail."""
        return self._thread.is_alive() and self.last_error is None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Ask the thread to end after its step, and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                busy = self._step()
            except Exception as error:  # a supervisor: logged, told in readiness, retried
                self.last_error = f"{type(error).__name__}: {error}"
                get(__name__).exception("worker step failed", worker=self.name, retry_in_seconds=pause)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            self.last_error, pause = None, FIRST_PAUSE_SECONDS
            if not busy and not self._stopping.is_set():
                self._wait()
