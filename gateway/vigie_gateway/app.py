"""The gateway as a Starlette application: route table, middleware, lifespan."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from vigie_contracts.features import FeatureTable
from vigie_contracts.scores import ChurnDefinition, load_concepts
from vigie_kit import installation
from vigie_kit.client import ServiceClient
from vigie_kit.clock import Clock
from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, exception_handlers
from vigie_kit.logs import get

from vigie_gateway.access import Access
from vigie_gateway.context import Shared, Texts
from vigie_gateway.cursors import Cursors
from vigie_gateway.hub import Hub
from vigie_gateway.limits import Bucket
from vigie_gateway.page import page_routes
from vigie_gateway.schema import make_schema, printed
from vigie_gateway.services import Services
from vigie_gateway.settings import Settings
from vigie_gateway.view import View

BODY_BYTES = 256 * 1024


class Follower:
    """Keeps the hub following the log; an error is logged, told in readiness, and retried."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.problem: str | None = "not started"

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.problem = None
            try:
                await self._hub.run()
            except Exception as error:  # a supervisor: logged, told in readiness, retried
                self.problem = f"{type(error).__name__}: {error}"
                get(__name__).exception("following the log of scores failed")
                await asyncio.sleep(1.0)


def create_app(settings: Settings) -> Starlette:
    """Build the application; reads the feature repository's texts and the installation's clock at once."""
    shared = make_shared(settings)
    access = Access(settings.api_token, settings.allowed_origins)
    view = View(make_schema(introspection=settings.introspection), shared, access)
    follower = Follower(shared.hub)

    async def sdl(request: Request) -> Response:
        access.check_token(request.headers.get("authorization"))
        return PlainTextResponse(printed())

    async def status(_request: Request) -> Response:
        counts = dict(shared.services.calls)
        problems = [follower.problem] if follower.problem else []
        offsets = {"scores": {"0": shared.hub.end}}
        return JSONResponse(
            {"service": "gateway", "offsets": offsets, "lag": {}, "counts": counts, "problems": problems}
        )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(follower.run())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            shared.hub.close()
            await shared.services.aclose()

    pages = page_routes() if settings.page else []
    return Starlette(
        routes=[
            *pages,
            Route("/graphql", view),
            WebSocketRoute("/graphql", view),
            Route("/schema.graphql", sdl),
            Route("/internal/status", status),
            *health_routes(lambda: {"scores": follower.problem}),
        ],
        middleware=[
            Middleware(RequestBodyLimitMiddleware, max_body_size=BODY_BYTES),
            Middleware(ServiceTokenMiddleware, token=settings.service_token),
        ],
        exception_handlers=exception_handlers,
        lifespan=lifespan,
    )


def make_shared(settings: Settings) -> Shared:
    """What lives as long as the process."""
    repository = settings.feature_repo
    clients = (
        ServiceClient(url, settings.service_token)
        for url in (settings.ingest_url, settings.features_url, settings.scoring_url)
    )
    return Shared(
        services=Services(*clients),
        cursors=Cursors(settings.service_token),
        texts=Texts(
            load_concepts(repository),
            {row.key: row for row in ChurnDefinition.load_all(repository)},
            FeatureTable.load(repository).by_key,
        ),
        hub=Hub(settings.data, settings.most_lag),
        clock=Clock(installation.load(settings.data).clock),
        bucket=Bucket(),
        heartbeat_seconds=settings.heartbeat_seconds,
    )
