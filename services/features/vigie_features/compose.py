"""Puts the service together: declarations, database, log readers, workers, application."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from starlette.applications import Starlette
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.features import FeatureTable
from vigie_contracts.scores import ChurnDefinition
from vigie_contracts.segments import SegmentTable
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.service import worker_app
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_kit.wakeup import Listener, Notifier
from vigie_kit.worker import Worker
from vigie_tiles.layout import Layout

from vigie_features.archive import Archive, Archivist
from vigie_features.assessing import Assessor
from vigie_features.consumer import Consumer
from vigie_features.defining import Defining
from vigie_features.definitions import Definitions
from vigie_features.lag import StatusReport
from vigie_features.previewing import Previewing
from vigie_features.reading import Reading, ServedCopy
from vigie_features.rebuild import Rebuild
from vigie_features.routes import internal_routes
from vigie_features.settings import FeaturesSettings
from vigie_features.store import CHANGES, SEGMENTS, Store
from vigie_features.sweep import Sweeper
from vigie_features.writer import Writer

LOG, LOG_FILE = "events", "ingest.db"
ARCHIVE = "archive"
ARCHIVE_LOOK_SECONDS = 0.25


def compose(settings: FeaturesSettings) -> Starlette:
    """The application, not started yet; InvalidInput, NotFound or IncompatibleData say what is wrong with the data."""
    installed = installation.load(settings.data)
    clock = Clock(installed.clock)
    catalogue, table = Catalogue.load(settings.feature_repo), FeatureTable.load(settings.feature_repo)
    churn = [definition.key for definition in ChurnDefinition.load_all(settings.feature_repo)]
    definitions = Definitions(SegmentTable.load(settings.feature_repo, table, churn), table)
    layout = Layout(table, installed.time_zone)
    store, log = Store(settings.data), SqliteLogReader(settings.data / LOG_FILE, LOG)
    store.create()
    assessor = Assessor(layout, definitions, clock.now_us)
    rebuild = Rebuild(store, log, table, layout, definitions, assessor, settings.batch_records, clock.now_us)
    rebuild.prepare()
    writer = _writer(settings, store, log, layout, assessor, rebuild, clock)
    archive = Archive(settings.data / ARCHIVE)
    archive.open()
    archive_log = SqliteLogReader(settings.data / LOG_FILE, LOG)
    listener, stopping = Listener(settings.data / "run", LOG), threading.Event()
    listener.__enter__()
    workers = [
        Worker("writer", writer.step, listener.wait),
        Worker("archive", _archivist(settings, archive, archive_log).step, lambda: stopping.wait(ARCHIVE_LOOK_SECONDS)),
    ]
    serving = _Serving(settings, store, layout, installed.created_at, lambda: writer.rebuilt)
    workers += serving.workers
    status = StatusReport(store, log, archive, clock, lambda: writer.rebuilt, time.monotonic)

    def stop() -> None:
        stopping.set()
        listener.__exit__(None, None, None)
        for reader in (log, archive_log):
            reader.close()
        serving.close()
        store.close()

    def is_rebuilt() -> bool:
        return writer.rebuilt

    reading = Reading(store, catalogue, table, layout, definitions, clock.now_us, is_rebuilt, archive, serving.copy)
    previewing = Previewing(store, table, layout, definitions, clock.now_us, is_rebuilt)
    defining = Defining(store, definitions, previewing, clock.now_us, is_rebuilt)
    return worker_app(
        internal_routes(reading, previewing, defining, lambda: status.report(workers)),
        workers,
        settings.service_token,
        problems=lambda: {"tiles": None if writer.rebuilt else "the tiles are being rebuilt"},
        on_stop=stop,
    )


def _writer(
    settings: FeaturesSettings,
    store: Store,
    log: SqliteLogReader,
    layout: Layout,
    assessor: Assessor,
    rebuild: Rebuild,
    clock: Clock,
) -> Writer:
    run = settings.data / "run"
    return Writer(
        rebuild,
        Consumer(store, log, layout, assessor, settings.batch_records),
        Sweeper(store, assessor, settings.sweep_page, clock.now_us),
        (Notifier(run, CHANGES), Notifier(run, SEGMENTS)),
        sweep_seconds=settings.sweep_seconds,
        system_seconds=time.monotonic,
    )


class _Serving:
    """The worker of the copy in Redis, where one is set, with what it opens."""

    def __init__(
        self, settings: FeaturesSettings, store: Store, layout: Layout, created_at: str, is_ready: Callable[[], bool]
    ) -> None:
        self.workers: list[Worker] = []
        self.copy: ServedCopy | None = None
        self._open = ExitStack()
        if not settings.redis_url:
            return
        from vigie_tiles.redis_tiles import RedisTiles  # its client is loaded only where Redis is used

        from vigie_features.serving import ServingCopy

        copy = RedisTiles(settings.redis_url, created_at, layout)
        self.copy = copy
        log = SqliteLogReader(settings.data / LOG_FILE, LOG)
        self._open.callback(log.close)
        self._open.callback(copy.close)
        listener = self._open.enter_context(Listener(settings.data / "run", CHANGES))
        self.workers.append(Worker("redis", ServingCopy(store, log, copy, is_ready).step, listener.wait))

    def close(self) -> None:
        """Release log, Redis and the ear."""
        self._open.close()


def _archivist(settings: FeaturesSettings, archive: Archive, log: SqliteLogReader) -> Archivist:
    return Archivist(
        archive,
        log,
        records=settings.archive_records,
        seconds=settings.archive_seconds,
        system_seconds=time.monotonic,
    )
