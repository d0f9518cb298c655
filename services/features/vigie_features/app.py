"""The feature service as a Starlette application: routes, middleware, error handlers, and workers in its lifespan."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from vigie_contracts.reads import FeaturesStatus
from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, exception_handlers
from vigie_kit.worker import Worker

from vigie_features.reading import Reading
from vigie_features.routes import internal_routes


def create_app(
    reading: Reading,
    workers: Sequence[Worker],
    status: Callable[[], FeaturesStatus],
    token: str,
    *,
    is_rebuilt: Callable[[], bool],
    on_stop: Callable[[], None],
) -> Starlette:
    """The application; ready once the state agrees with the declarations and both workers run."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for worker in workers:
            worker.start()
        yield
        for worker in workers:
            await run_in_threadpool(worker.stop)
        on_stop()

    def check() -> Mapping[str, str | None]:
        rebuilding = None if is_rebuilt() else "the tiles are being rebuilt"
        return {worker.name: worker.last_error for worker in workers} | {"tiles": rebuilding}

    return Starlette(
        routes=[*health_routes(check), *internal_routes(reading, status)],
        middleware=[Middleware(ServiceTokenMiddleware, token=token)],
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )
