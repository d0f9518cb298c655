"""HTTP plumbing between our own processes: the service token, problem JSON, struct bodies."""

import hmac
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from vigie_contracts.errors import HTTP_STATUS, InvalidInput, NotFound, Unauthorized, Unavailable, VigieError

from vigie_kit.logs import get

T = TypeVar("T")
PROBLEM = "application/problem+json"


class ServiceTokenMiddleware:
    """Lets requests below `prefix` pass only with `Authorization: Bearer TOKEN`, compared in constant time."""

    def __init__(self, app: ASGIApp, token: str, prefix: str = "/internal") -> None:
        if not token:
            raise InvalidInput("the service token is empty; set VIGIE_SERVICE_TOKEN")
        self._app = app
        self._expected = f"Bearer {token}".encode()
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"].startswith(self._prefix):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = problem(Unauthorized("this route needs the service token"))
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class StructResponse(Response):
    """A msgspec struct as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the struct."""
        return msgspec.json.encode(content)


def problem(error: VigieError, status: int | None = None) -> JSONResponse:
    """An RFC 9457 problem document of an error; its code decides the status unless one is given."""
    status = status or HTTP_STATUS.get(error.code, 500)
    body = {
        "type": "about:blank",
        "title": type(error).__name__,
        "status": status,
        "code": error.code,
        "detail": error.message,
        "retryable": error.retryable,
        **({"details": error.details} if error.details else {}),
    }
    return JSONResponse(body, status_code=status, media_type=PROBLEM)


def decode(body: bytes, type_: type[T]) -> T:
    """A JSON body as a struct; InvalidInput says which field is wrong."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the request body is wrong: {error}") from error


async def _on_vigie_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, VigieError)
    return problem(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = NotFound if error.status_code == 404 else InvalidInput if error.status_code < 500 else Unavailable
    return problem(kind(f"{request.method} {request.url.path}: {error.detail}"), error.status_code)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    get(__name__).error("request failed", path=request.url.path, exc_info=error)
    return problem(VigieError("an unexpected error; the log of the service tells more"))


exception_handlers: dict[Any, Any] = {
    VigieError: _on_vigie_error,
    HTTPException: _on_http_error,
    Exception: _on_unexpected,
}


def whole(text: str | None) -> int | None:
    """A whole number of a query, None when absent; InvalidInput for anything else."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no whole number") from error
