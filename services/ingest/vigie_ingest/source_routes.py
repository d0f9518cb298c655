"""Routes of sources and keys for our own processes; the service token is checked before."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.sources import KeyRotate, SourceCreate, SourceSwitch, SourceUpdate
from vigie_kit.http import StructResponse, decode

from vigie_ingest.sources import Sources
from vigie_ingest.writer import Writer


class SourceRoutes:
    """All below `/internal/sources`."""

    def __init__(self, sources: Sources, writer: Writer) -> None:
        self._sources = sources
        self._writer = writer

    def routes(self) -> list[Route]:
        """Every route below."""
        return [
            Route("/internal/sources", self.rows),
            Route("/internal/sources/create", self.create, methods=["POST"]),
            Route("/internal/sources/update", self.update, methods=["POST"]),
            Route("/internal/sources/rotate", self.rotate, methods=["POST"]),
            Route("/internal/sources/switch", self.switch, methods=["POST"]),
        ]

    async def rows(self, _request: Request) -> Response:
        """All sources."""
        return StructResponse(await run_in_threadpool(self._sources.rows))

    async def create(self, request: Request) -> Response:
        """A source and its first key."""
        asked = decode(await request.body(), SourceCreate)
        return StructResponse(await self._writer.call(lambda: self._sources.create(asked)))

    async def update(self, request: Request) -> Response:
        """Origins and limits."""
        asked = decode(await request.body(), SourceUpdate)
        return StructResponse(await self._writer.call(lambda: self._sources.update(asked)))

    async def rotate(self, request: Request) -> Response:
        """A new key."""
        asked = decode(await request.body(), KeyRotate)
        return StructResponse(await self._writer.call(lambda: self._sources.rotate(asked)))

    async def switch(self, request: Request) -> Response:
        """Disable or enable."""
        asked = decode(await request.body(), SourceSwitch)
        return StructResponse(await self._writer.call(lambda: self._sources.switch(asked)))
