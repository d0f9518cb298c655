"""GraphQL over HTTP, graphql-sse and graphql-transport-ws on Strawberry's ASGI view, with the draft's status codes."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
from cross_web import HTTPException
from graphql import GraphQLSyntaxError
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse
from strawberry.schema import BaseSchema
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from vigie_contracts.errors import HTTP_STATUS, VigieError

from vigie_gateway.access import Access
from vigie_gateway.context import Context, Shared
from vigie_gateway.loaders import Loaders

ANSWER = "application/graphql-response+json"
CONNECTION_INIT_SECONDS = 5
SUBSCRIPTIONS_A_CONNECTION = 20


class View(GraphQL[Context, None]):
    """The endpoint. A token is needed for everything; on a WebSocket it comes in `connection_init`."""

    def __init__(self, schema: BaseSchema, shared: Shared, access: Access) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=timedelta(seconds=CONNECTION_INIT_SECONDS),
            max_subscriptions_per_connection=SUBSCRIPTIONS_A_CONNECTION,
        )
        self._shared = shared
        self._access = access

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """A context of one request, or of one connection (whose loaders keep nothing)."""
        keeps = not isinstance(request, WebSocket)
        drain = getattr(request.app.state, "drain", None)
        return Context(self._shared, Loaders(self._shared.services, cache=keeps), drain)

    async def on_ws_connect(self, context: Context) -> Any:
        """Refuse a connection whose `connection_init` holds no valid token."""
        given = {key.lower(): value for key, value in (context.connection_params or {}).items()}
        try:
            self._access.check_token(str(given.get("authorization", "")))
        except VigieError as error:
            raise ConnectionRejectionError({"code": error.code, "message": error.message}) from error
        return await super().on_ws_connect(context)

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """The response whose status `process_result` may set."""
        response = await super().get_sub_response(request)
        request.state.sub_response = response
        return response

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Give a request that was never executed its status, for clients that ask for the draft's media type."""
        if result.data is None and result.errors and ANSWER in request.headers.get("accept", ""):
            first = result.errors[0]
            if isinstance(first, GraphQLSyntaxError):
                request.state.sub_response.status_code = 400
            elif first.path is None:
                request.state.sub_response.status_code = 422
        return await super().process_result(request, result)

    def create_response(self, response_data: Any, sub_response: Response) -> Response:
        """JSON by orjson."""
        return Response(
            orjson.dumps(response_data), status_code=sub_response.status_code or 200, media_type="application/json"
        )

    async def run(self, request: Any, context: Any = ..., root_value: Any = None) -> Any:
        """Check who asks, answer, and name the media type that the client asked for."""
        try:
            self._access.check_origin(request)
            if isinstance(request, WebSocket):
                await self._until_drained(request)
                return request
            self._access.check_token(request.headers.get("authorization"))
            answer = await super().run(request)
        except VigieError as error:
            return await _refuse(request, error)
        except HTTPException as error:
            status = 405 if request.method == "GET" and "not allowed" in error.reason else error.status_code
            return JSONResponse({"errors": [{"message": error.reason}]}, status_code=status, media_type=ANSWER)
        if answer.media_type == "application/json" and ANSWER in request.headers.get("accept", ""):
            answer.headers["content-type"] = f"{ANSWER}; charset=utf-8"
        return answer

    async def _until_drained(self, socket: WebSocket) -> None:
        """Serve a connection; when the process drains, close it with 1001 after its subscriptions could end."""
        drain = getattr(socket.app.state, "drain", None)
        serving = asyncio.ensure_future(super().run(socket))
        if drain is None:
            await serving
            return
        draining = asyncio.ensure_future(drain.wait())
        await asyncio.wait([serving, draining], return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        if not serving.done():
            await asyncio.wait([serving], timeout=1.0)
        if not serving.done():
            serving.cancel()
            await asyncio.wait([serving])
            await _close(socket)
        elif not serving.cancelled() and serving.exception() is not None:
            raise serving.exception()  # type: ignore[misc]


async def _close(socket: WebSocket) -> None:
    try:
        await socket.close(1001, "going away")
    except RuntimeError:
        return


async def _refuse(request: HTTPConnection, error: VigieError) -> Response:
    if isinstance(request, WebSocket):
        await request.close(4403, error.message)
    body = {"errors": [{"message": error.message, "extensions": {"code": error.code}}]}
    return JSONResponse(body, status_code=HTTP_STATUS[error.code], media_type=ANSWER)
