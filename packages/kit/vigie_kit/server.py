"""Runs an ASGI application and drains it on SIGTERM, also while streams are open.

uvicorn waits for open streams before it runs the lifespan's end, so streams must be told first: `Drain` tells them.
"""

import asyncio
import gc
import signal
import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette

DRAIN_SECONDS = 10.0
COLLECT_AFTER = 20_000
"""Containers made since the last collection of garbage; Python's own 700 looks through each batch several times."""


class Drain:
    """Set once, when the process was asked to end. Streams await `wait()` and then end themselves."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.draining = False

    def begin(self) -> None:
        """Tell everybody."""
        self.draining = True
        self._event.set()

    async def wait(self) -> None:
        """Return when draining began."""
        await self._event.wait()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would remember the signal and raise it again after its shutdown; a drained process ends by 0 instead.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain.begin)


def run(app: Starlette, *, host: str, port: int, drain_seconds: float = DRAIN_SECONDS) -> None:
    """Serve until SIGTERM or SIGINT. Returns when connections closed, at the latest after `drain_seconds`, and the
    lifespan ended; a second SIGINT waits for neither. Exit code 3 when it could not start (the port is taken).
    """
    drain = Drain()
    app.state.drain = drain
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
        timeout_keep_alive=30,
    )
    server = _Server(config, drain)
    _settle_memory()
    # A signal in the moment before uvicorn listens for signals counts too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run()
    if not server.started:
        raise SystemExit(3)


def _settle_memory() -> None:
    """What was made while starting stays for ever: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
