"""Wake-ups: after a commit the writer sends a datagram on loopback to each reader. A poll is the safety net."""

import asyncio
import contextlib
import os
import select
import socket
import threading
from pathlib import Path
from types import TracebackType

POLL_SECONDS = 0.25


class Notifier:
    """Wakes the readers of one log. Losing a datagram costs a reader one poll interval, nothing else.

    One connected socket a reader: only a connected one is told that nobody listens there any more.
    """

    def __init__(self, run_dir: Path, log: str) -> None:
        self._folder = run_dir / "readers" / log
        self._sockets: dict[str, socket.socket] = {}
        self._lock = threading.Lock()

    def notify(self) -> None:
        """Send one byte to every registered reader; forgets readers that are gone. Safe from any thread."""
        with self._lock:
            registered = self._registered()
            for port in self._sockets.keys() - registered:
                self._sockets.pop(port).close()
            for port in registered:
                self._send(port)

    def close(self) -> None:
        """Close the sockets."""
        with self._lock:
            while self._sockets:
                self._sockets.popitem()[1].close()

    def _send(self, port: str) -> None:
        try:
            if port not in self._sockets:
                self._sockets[port] = _connected(int(port))
            self._sockets[port].send(b"!")
        except ConnectionRefusedError:
            self._sockets.pop(port).close()
            (self._folder / port).unlink(missing_ok=True)
        except BlockingIOError:
            return  # its buffer is full of wake-ups already

    def _registered(self) -> set[str]:
        try:
            return {name for name in os.listdir(self._folder) if name.isdigit()}
        except FileNotFoundError:
            return set()


def _connected(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setblocking(False)
    found.connect(("127.0.0.1", port))
    return found


class Listener:
    """A reader's ear: registered while the context is open."""

    def __init__(self, run_dir: Path, log: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._file = run_dir / "readers" / log / str(self._socket.getsockname()[1])

    def __enter__(self) -> "Listener":
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)
        self._socket.close()

    def wait(self, timeout_seconds: float = POLL_SECONDS) -> bool:
        """Block until woken or the time is over; True when woken. Swallows all wake-ups that came together."""
        ready, _, _ = select.select([self._socket], [], [], timeout_seconds)
        return bool(ready) and self._drain()

    async def wait_async(self, timeout_seconds: float = POLL_SECONDS) -> bool:
        """The same on the event loop."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, 1), timeout_seconds)
        except TimeoutError:
            return False
        self._drain()
        return True

    def _drain(self) -> bool:
        found = False
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(1):
                found = True
        return found
