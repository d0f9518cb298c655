"""Puts the service together: which logs it tails, what it loads, and the two threads that work beside the server."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from starlette.applications import Starlette
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput, Unavailable
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.offers import load_offers
from vigie_contracts.scores import ChurnDefinition
from vigie_contracts.segments import SegmentTable, Vocabulary
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.service import worker_app
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_kit.wakeup import Listener, Notifier
from vigie_kit.worker import Worker
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileReader

from vigie_scoring.arbitration import OfferCatalogue
from vigie_scoring.block import FeatureBlock
from vigie_scoring.champions import Champions
from vigie_scoring.clients import MlflowRegistry
from vigie_scoring.consumer import Consumer, Logs
from vigie_scoring.deciding import Decider, channels_of
from vigie_scoring.facts import FactReader
from vigie_scoring.lag import StateLag
from vigie_scoring.requests import Status
from vigie_scoring.routes import internal_routes
from vigie_scoring.segments import ScoreSegments
from vigie_scoring.settings import Settings
from vigie_scoring.store import SCORES_LOG, SEGMENTS_LOG, Store
from vigie_scoring.usecases import Scoring

COUNTED = ("members", "standing", "history", "decisions", "standing_decisions", "work_list", "memberships", "pending")


@dataclass(frozen=True)
class Declared:
    """What the feature repository declares, read once at start."""

    catalogue: Catalogue
    table: FeatureTable
    definitions: list[ChurnDefinition]
    offers: OfferCatalogue
    segments: ScoreSegments


def declared(settings: Settings) -> Declared:
    """Read and check the feature repository; InvalidInput says which file is wrong and how."""
    repo = settings.feature_repo
    table = FeatureTable.load(repo)
    definitions = ChurnDefinition.load_all(repo)
    keys = [definition.key for definition in definitions]
    offers = OfferCatalogue.compiled(load_offers(repo), Vocabulary(table, keys))
    segments = ScoreSegments(SegmentTable.load(repo, table, keys))
    return Declared(Catalogue.load(repo), table, definitions, offers, segments)


def compose(settings: Settings) -> Starlette:
    """The application with its workers, ready to be served. InvalidInput or NotFound for what is wrong at start."""
    installed = installation.load(settings.data)
    found = declared(settings)
    clock = Clock(installed.clock)
    store = Store(settings.data / "scoring.db", settings.scoring_unset_denied)
    lag = StateLag(settings.scoring_stale_seconds, clock)
    tiles = TileReader(settings.data / "features.db", Layout(found.table, installed.time_zone))
    champions = _champions(settings, found, partial(_live, tiles, found.table))
    run_dir = settings.data / "run"
    waker = Notifier(run_dir, "changes")
    decider = Decider(found.offers, channels_of(settings.scoring_channels), set(found.table.by_key))
    consumer = Consumer(
        store,
        _logs(settings),
        tile_reads(tiles),
        tiles.reached,
        partial(_known, tiles, found.table),
        found.definitions,
        lambda: champions.serving,
        decider,
        found.segments,
        FactReader(found.catalogue, {definition.outcome for definition in found.definitions}),
        clock.now_us,
        lag,
        _notify(Notifier(run_dir, SCORES_LOG), Notifier(run_dir, SEGMENTS_LOG)),
        batch=settings.scoring_batch,
        threshold=settings.scoring_update_threshold,
        restored=lambda: champions.restored,
    )
    scoring = Scoring(
        store=store,
        champions=champions,
        definitions=found.definitions,
        catalogue=found.offers,
        segments=found.segments,
        channels=decider.channels,
        lag=lag,
        now_us=clock.now_us,
        wake=waker.notify,
    )
    resources = contextlib.ExitStack()
    listener = resources.enter_context(Listener(run_dir, "changes"))
    resources.callback(store.close)
    workers = [Worker("scoring", consumer.step, listener.wait), _champion_worker(champions, settings, waker)]

    def status() -> Status:
        return _status(consumer, champions, store, lag, workers)

    def problems() -> dict[str, str | None]:
        return {"models": None if champions.restored else "the models that served before the start are being loaded"}

    return worker_app(
        internal_routes(scoring, status), workers, settings.service_token, problems=problems, on_stop=resources.close
    )


def _live(tiles: TileReader, declared: FeatureTable) -> FeatureTable:
    """The features that the tiles answer; those declared at the start while nobody can say."""
    try:
        return tiles.live()
    except Unavailable:
        return declared


def _known(tiles: TileReader, declared: FeatureTable) -> FeatureTable:
    """Live features, and those declared at the start, which are null until they are live."""
    live = _live(tiles, declared)
    return FeatureTable(tuple({**declared.by_key, **live.by_key}.values()))


def _champions(settings: Settings, found: Declared, live: Callable[[], FeatureTable]) -> Champions:
    if settings.promotion not in ("gated", "open"):
        raise InvalidInput(f"VIGIE_PROMOTION is `gated` or `open`, not {settings.promotion!r}")
    return Champions(
        found.definitions,
        live,
        MlflowRegistry(settings.mlflow_uri),
        settings.data / "models",
        gated=settings.promotion == "gated",
        threads=settings.scoring_threads,
    )


def _notify(*notifiers: Notifier) -> Callable[[], None]:
    def notify() -> None:
        for notifier in notifiers:
            notifier.notify()

    return notify


def _champion_worker(champions: Champions, settings: Settings, waker: Notifier) -> Worker:
    """Loads in the background (the imports take seconds), then polls; a swap wakes the consumer to re-score."""
    pause = threading.Event()

    def step() -> bool:
        if not champions.restored:
            champions.restore()
        if champions.poll():
            waker.notify()
        return False

    return Worker("champions", step, lambda: pause.wait(settings.scoring_poll_seconds))


def _logs(settings: Settings) -> Logs:
    return Logs(
        events=SqliteLogReader(settings.data / "ingest.db", "events"),
        changes=SqliteLogReader(settings.data / "features.db", "changes"),
        feature_segments=SqliteLogReader(settings.data / "features.db", "segments"),
    )


def tile_reads(reader: TileReader) -> Callable[[Sequence[str], Sequence[FeatureSpec], int], FeatureBlock]:
    """Reads of the feature state as blocks; no customers, no read."""

    def read(customer_ids: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> FeatureBlock:
        columns = {feature.key: place for place, feature in enumerate(features)}
        if not customer_ids:
            values, flags = np.zeros((0, len(features)), np.int64), np.zeros((0, len(features)), np.bool_)
            return FeatureBlock({}, columns, values, flags, np.zeros(0, np.int64), {}, np.zeros(0, np.bool_))
        found = reader.read(customer_ids, features, now_us)
        rows = {customer_id: place for place, customer_id in enumerate(customer_ids)}
        return FeatureBlock(
            rows, columns, found.matrix.values, found.matrix.valid, found.t_us, dict(found.pos), found.present
        )

    return read


def _status(consumer: Consumer, champions: Champions, store: Store, lag: StateLag, workers: Sequence[Worker]) -> Status:
    with store.reading() as snapshot:
        counts = {table: snapshot.count(table) for table in COUNTED}
    problems = [f"{worker.name}: {worker.last_error}" for worker in workers if worker.last_error]
    problems += champions.concerns()
    return Status(
        service="scoring",
        offsets={name: {str(lane): number for lane, number in c.items()} for name, c in consumer.offsets().items()},
        lag=consumer.lags(),
        state_lag_seconds=round(lag.seconds(), 3),
        counts=counts,
        rescoring={
            name: {"version": progress.version, "after": progress.after}
            for name, progress in consumer.rescoring().items()
        },
        problems=problems,
    )
