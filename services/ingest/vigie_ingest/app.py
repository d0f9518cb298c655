"""The application: routes, middleware, error handlers, lifespan. No business words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from vigie_contracts.catalogue import Catalogue
from vigie_kit.clock import Clock
from vigie_kit.health import health_routes
from vigie_kit.http import ServiceTokenMiddleware, exception_handlers
from vigie_kit.installation import load

from vigie_ingest import store
from vigie_ingest.admission import Admission, AdmissionMiddleware
from vigie_ingest.answers import no_route
from vigie_ingest.appender import Appender
from vigie_ingest.bodies import KeyRing
from vigie_ingest.erasing import Eraser, Persons
from vigie_ingest.identity import Rules
from vigie_ingest.keystore import Keys
from vigie_ingest.messages import Normaliser
from vigie_ingest.plan import Plan
from vigie_ingest.quarantine import Quarantine
from vigie_ingest.routes import Internal, Receipts
from vigie_ingest.sealing import Sealer
from vigie_ingest.settings import Settings
from vigie_ingest.shape_routes import Config, Shapes
from vigie_ingest.source_routes import SourceRoutes
from vigie_ingest.sources import Sources
from vigie_ingest.tracking import Tracking
from vigie_ingest.usecases import Reads
from vigie_ingest.writer import Writer


def create_app(settings: Settings) -> Starlette:
    """The ingest service on a data directory. InvalidInput for wrong settings or configuration files."""
    clock = Clock(load(settings.data).clock)
    catalogue = Catalogue.load(settings.feature_repo)
    rules = Rules.load(settings.feature_repo)
    keys = KeyRing({})
    engine = store.open_database(settings.data)
    member_keys = Keys(settings.keys)
    member_keys.require(store.bind_keys(engine, member_keys.id))
    sealer = Sealer(catalogue, member_keys)
    appender = Appender(engine, clock, rules, sealer, settings.data / "run")
    writer = Writer(appender, settings.ingest_queue_events)
    admission = Admission(writer, settings.queue(), settings.ingest_max_batch_events)
    sources = Sources(engine, keys, admission)
    sources.bootstrap(settings.sources(), settings.secrets())
    normaliser = Normaliser(catalogue, rules, Plan.load(settings.feature_repo, catalogue))
    reads = Reads(engine, catalogue, sealer, settings.ingest_unset_denied)
    persons = Persons(engine, sealer, catalogue)
    eraser = Eraser(engine, clock, persons, sealer, appender)

    tracking = Tracking(keys, normaliser, admission, clock, settings.ingest_max_body_bytes, settings.ingest_public_url)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(eraser.resume)
        writer.start()
        yield
        writer.stop()
        appender.close()
        engine.dispose()
        member_keys.close()

    return Starlette(
        routes=[
            *tracking.routes(),
            *Shapes(keys, normaliser, admission, clock, Config.of(settings)).routes(),
            *Receipts(keys, reads, settings.service_token).routes(),
            *SourceRoutes(sources, writer).routes(),
            *Internal(reads, normaliser, writer, clock, persons, eraser).routes(),
            *Quarantine(engine, normaliser, writer, clock).routes(),
            *health_routes(lambda: {"writer": writer.problem}),
        ],
        middleware=[
            Middleware(ServiceTokenMiddleware, token=settings.service_token),
            Middleware(AdmissionMiddleware, admission=admission, keys=keys),
        ],
        exception_handlers={**exception_handlers, HTTPException: no_route},
        lifespan=lifespan,
    )
