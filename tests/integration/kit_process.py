"""A small service on kit, as its own process: an SSE stream, a WebSocket, a route that hangs, internal routes."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from vigie_contracts.errors import Conflict
from vigie_kit import logs, server
from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, StructResponse, decode, exception_handlers


class Sum(msgspec.Struct):
    numbers: list[int]


class Total(msgspec.Struct):
    total: int


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    print("started", flush=True)
    yield
    print("ended", flush=True)


async def stream(request: Request) -> Response:
    async def items() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await request.app.state.drain.wait()
        yield "event: complete\n\n"

    return StreamingResponse(items(), media_type="text/event-stream")


async def deaf(_request: Request) -> Response:
    async def items() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(items(), media_type="text/event-stream")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    async for _ in websocket.iter_text():
        pass


async def add(request: Request) -> Response:
    return StructResponse(Total(sum(decode(await request.body(), Sum).numbers)))


async def conflict(_request: Request) -> Response:
    raise Conflict("somebody else was first")


async def fail(_request: Request) -> Response:
    raise ZeroDivisionError("a secret detail")


def create_app() -> Starlette:
    problems: dict[str, str | None] = {"database": None}
    return Starlette(
        routes=[
            *health_routes(lambda: problems),
            Route("/stream", stream),
            Route("/deaf", deaf),
            WebSocketRoute("/socket", socket),
            Route("/internal/add", add, methods=["POST"]),
            Route("/internal/conflict", conflict),
            Route("/fail", fail),
        ],
        middleware=[Middleware(ServiceTokenMiddleware, token="the-token")],
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )


if __name__ == "__main__":
    logs.configure("example")
    server.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), drain_seconds=float(sys.argv[2]))
