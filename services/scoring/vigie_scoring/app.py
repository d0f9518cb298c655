"""The scoring service as a Starlette application: routes, middleware, error handlers, and workers in its lifespan."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, exception_handlers
from vigie_kit.worker import Worker

from vigie_scoring.requests import Status
from vigie_scoring.routes import internal_routes
from vigie_scoring.usecases import Scoring


def create_app(
    scoring: Scoring,
    workers: Sequence[Worker],
    status: Callable[[], Status],
    token: str,
    *,
    is_restored: Callable[[], bool],
    on_stop: Callable[[], None],
) -> Starlette:
    """The application; ready once what served before the start is loaded again, also when that is no model."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for worker in workers:
            worker.start()
        yield
        for worker in workers:
            await run_in_threadpool(worker.stop)
        on_stop()

    def check() -> Mapping[str, str | None]:
        models = None if is_restored() else "the models that served before the start are being loaded"
        return {worker.name: worker.last_error for worker in workers} | {"models": models}

    return Starlette(
        routes=[*health_routes(check), *internal_routes(scoring, status)],
        middleware=[Middleware(ServiceTokenMiddleware, token=token)],
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )
