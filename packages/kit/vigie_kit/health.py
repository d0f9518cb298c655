"""`/livez` (the loop answers) and `/readyz` (everything it needs is there, and it is not draining)."""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from vigie_kit.server import Drain


def health_routes(check: Callable[[], Mapping[str, str | None]]) -> list[Route]:
    """Routes for `check`, which answers name -> None when fine, else a sentence about the problem."""

    async def livez(_request: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    async def readyz(request: Request) -> JSONResponse:
        checks = dict(check())
        drain: Drain | None = getattr(request.app.state, "drain", None)
        checks["draining"] = "shutting down" if drain is not None and drain.draining else None
        ready = all(problem is None for problem in checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)

    return [Route("/livez", livez), Route("/readyz", readyz)]
