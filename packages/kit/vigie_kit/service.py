"""A service of workers as an application: internal routes behind the service token, workers in its lifespan."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, exception_handlers
from vigie_kit.worker import Worker


def worker_app(
    routes: Sequence[BaseRoute],
    workers: Sequence[Worker],
    token: str,
    *,
    problems: Callable[[], Mapping[str, str | None]],
    on_stop: Callable[[], None],
) -> Starlette:
    """The application; ready once every worker runs and none of `problems` (by name, null when all is well) is left."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for worker in workers:
            worker.start()
        yield
        for worker in workers:
            await run_in_threadpool(worker.stop)
        on_stop()

    def check() -> Mapping[str, str | None]:
        return {worker.name: worker.last_error for worker in workers} | dict(problems())

    return Starlette(
        routes=[*health_routes(check), *routes],
        middleware=[Middleware(ServiceTokenMiddleware, token=token)],
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )
