"""Puts the service together: declarations, database, log readers, workers, application."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import Installation
from vigie_contracts.reads import FeaturesStatus
from vigie_contracts.scores import ChurnDefinition
from vigie_contracts.segments import SegmentTable
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.service import worker_app
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_kit.wakeup import Listener, Notifier
from vigie_kit.worker import Worker
from vigie_tiles.layout import Layout
from vigie_tiles.live import REBUILT

from vigie_features.applying import Applying
from vigie_features.archive import Archive, Archivist
from vigie_features.assessing import Assessor
from vigie_features.consumer import Consumer
from vigie_features.defining import Defining
from vigie_features.definitions import Definitions
from vigie_features.folding import Folding
from vigie_features.generation import Generation, Generations
from vigie_features.lag import StatusReport
from vigie_features.metrics import metrics_route
from vigie_features.previewing import Previewing
from vigie_features.reading import Reading
from vigie_features.routes import internal_routes
from vigie_features.settings import FeaturesSettings
from vigie_features.store import CHANGES, SEGMENTS, Store
from vigie_features.sweep import Sweeper
from vigie_features.walking import Walking
from vigie_features.writer import Writer

if TYPE_CHECKING:
    from vigie_tiles.redis_tiles import RedisTiles

    from vigie_features.serving import ServingCopy

LOG, LOG_FILE = "events", "ingest.db"
ARCHIVE = "archive"
ARCHIVE_LOOK_SECONDS = 0.25


def compose(settings: FeaturesSettings) -> Starlette:
    """The application, not started yet; InvalidInput, NotFound or IncompatibleData say what is wrong with the data."""
    installed = installation.load(settings.data)
    clock = Clock(installed.clock)
    store, log = Store(settings.data), SqliteLogReader(settings.data / LOG_FILE, LOG)
    store.create()
    resources = ExitStack()
    resources.callback(store.close)
    archive = Archive(settings.data / ARCHIVE)
    parts = _Parts(settings, store, log, archive, clock, installed)
    declared = Layout(parts.declared, installed.time_zone)
    folding = Folding(
        store, log, installed.time_zone, settings.batch_records, lambda layout: generations.switch(layout)
    )
    live = folding.prepare(declared)
    generations = Generations(store, parts.generation, live or declared, is_live=live is not None)
    parts.is_live = lambda: generations.is_live
    writer = _writer(settings, generations, folding)
    archive.open()
    archive_log = SqliteLogReader(settings.data / LOG_FILE, LOG)
    listener, stopping = Listener(settings.data / "run", LOG), threading.Event()
    resources.enter_context(listener)
    workers = [
        Worker("writer", writer.step, listener.wait),
        Worker("archive", _archivist(settings, archive, archive_log).step, lambda: stopping.wait(ARCHIVE_LOOK_SECONDS)),
    ]
    if settings.redis_url:
        heard = resources.enter_context(Listener(settings.data / "run", CHANGES))
        workers.append(Worker("redis", lambda: _serve(generations), heard.wait))
    status = StatusReport(store, log, archive, clock, lambda: generations.is_live, time.monotonic)
    applying = Applying(store, folding, lambda: FeatureTable.load(settings.feature_repo), generations.features_in_use)

    def stop() -> None:
        stopping.set()
        for reader in (log, archive_log):
            reader.close()
        parts.close()
        resources.close()

    def report() -> FeaturesStatus:
        return status.report(workers)

    return worker_app(
        [*internal_routes(generations, applying, report, status.compared), metrics_route(report)],
        workers,
        settings.service_token,
        problems=lambda: {"tiles": None if generations.is_live else REBUILT},
        on_stop=stop,
    )


def _serve(generations: Generations) -> bool:
    serving = generations.current.serving
    return serving is not None and serving.step()


def _writer(settings: FeaturesSettings, generations: Generations, folding: Folding) -> Writer:
    run = settings.data / "run"
    return Writer(
        generations,
        folding,
        (Notifier(run, CHANGES), Notifier(run, SEGMENTS)),
        sweep_seconds=settings.sweep_seconds,
        system_seconds=time.monotonic,
    )


class _Parts:
    """Makes a generation from what outlives it. `declared` is the feature table of the repository at the start."""

    def __init__(
        self,
        settings: FeaturesSettings,
        store: Store,
        log: SqliteLogReader,
        archive: Archive,
        clock: Clock,
        installed: Installation,
    ) -> None:
        repository = settings.feature_repo
        self.is_live: Callable[[], bool] = lambda: False
        self._settings = settings
        self._store = store
        self._log = log
        self._archive = archive
        self._clock = clock
        self._installed = installed
        self._catalogue = Catalogue.load(repository)
        self._churn = [definition.key for definition in ChurnDefinition.load_all(repository)]
        self._open = ExitStack()
        self.declared = FeatureTable.load(repository)
        SegmentTable.load(repository, self.declared, self._churn)  # what is wrong in the file is said at the start

    def generation(self, layout: Layout) -> Generation:
        """The parts for the feature table of a layout."""
        settings, store, now_us, table = self._settings, self._store, self._clock.now_us, layout.table
        segments = SegmentTable.load(settings.feature_repo, table, self._churn, skip_unknown=True)
        definitions = Definitions(segments, table)
        assessor = Assessor(layout, definitions, now_us)
        copy, serving = self._copy(layout)

        def is_live() -> bool:
            return self.is_live()

        previewing = Previewing(store, table, layout, definitions, now_us, is_live)
        return Generation(
            layout=layout,
            definitions=definitions,
            consumer=Consumer(store, self._log, layout, assessor, settings.batch_records),
            sweeper=Sweeper(store, assessor, settings.sweep_page, now_us),
            walking=Walking(store, table, layout, definitions, assessor, settings.batch_records, now_us),
            reading=Reading(store, self._catalogue, table, layout, definitions, now_us, is_live, self._archive, copy),
            previewing=previewing,
            defining=Defining(store, definitions, previewing, now_us, is_live),
            serving=serving,
        )

    def _copy(self, layout: Layout) -> "tuple[RedisTiles | None, ServingCopy | None]":
        """The copy in Redis, where one is set, and what keeps it in step."""
        if not self._settings.redis_url:
            return None, None
        from vigie_tiles.redis_tiles import RedisTiles  # its client is loaded only where Redis is used

        from vigie_features.serving import ServingCopy

        copy = RedisTiles(self._settings.redis_url, self._installed.created_at, layout)
        log = SqliteLogReader(self._settings.data / LOG_FILE, LOG)
        self._open.callback(log.close)
        self._open.callback(copy.close)
        return copy, ServingCopy(self._store, log, copy, lambda: self.is_live())

    def close(self) -> None:
        """Release the logs and connections of the copies."""
        self._open.close()


def _archivist(settings: FeaturesSettings, archive: Archive, log: SqliteLogReader) -> Archivist:
    return Archivist(
        archive,
        log,
        records=settings.archive_records,
        seconds=settings.archive_seconds,
        system_seconds=time.monotonic,
    )
