"""Answers as Segment's SDKs understand them: what they take for a success, and an error that they do not send again."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from vigie_contracts.errors import HTTP_STATUS, InvalidInput, NotFound, VigieError
from vigie_kit import http
from vigie_kit.failpoints import hit

from vigie_ingest.bodies import BodyTooLarge

RETRY_AFTER_SECONDS = 2
_SUCCESS = b'{"success":true}'


class Acknowledged(Response):
    """Exactly `200 {"success":true}`."""

    media_type = "application/json"

    def __init__(self) -> None:
        super().__init__(_SUCCESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hit("ingest.before_ack")
        await super().__call__(scope, receive, send)
        hit("ingest.after_ack")


def retry_after(error: VigieError) -> str:
    """When to come back, in whole seconds."""
    return str(error.details.get("retry_after", RETRY_AFTER_SECONDS))


def refused(error: VigieError) -> Response:
    """An error on the tracking routes: `{"code","message"}`, and when to come back if it is worth it."""
    status = 413 if isinstance(error, BodyTooLarge) else HTTP_STATUS.get(error.code, 500)
    headers = {"Retry-After": retry_after(error)} if error.retryable else None
    return JSONResponse({"code": error.code, "message": error.message}, status_code=status, headers=headers)


async def no_route(request: Request, error: Exception) -> Response:
    """No such path, or not by this method. Segment's SDKs give up on a 4xx only when it has `code` and `message`."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if path.startswith("/internal"):
        answer: Response = await http.exception_handlers[HTTPException](request, error)
        return answer
    kind = NotFound if error.status_code == 404 else InvalidInput
    told = kind(f"{request.method} {path} is no way in: {error.detail}; events go to POST /v1/batch, /v1/track, …")
    body = {"code": told.code, "message": told.message}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
