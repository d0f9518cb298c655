"""A consumer on real logs, with features that a test states instead of tiles."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import (
    Change,
    ConsentStated,
    Event,
    LogRecord,
    Position,
    SegmentMoved,
    decode_record,
    encode_record,
)
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import CHAMPION, PROPENSITY_MODEL
from vigie_contracts.offers import load_offers
from vigie_contracts.scores import Amount, Attrition, ChurnDefinition, ScoreRecord, decode_score
from vigie_contracts.segments import SegmentTable, Vocabulary
from vigie_kit.clock import Clock
from vigie_kit.database import open_engine, transaction
from vigie_kit.sqlite_log import SqliteLogReader, SqliteLogWriter
from vigie_scoring.arbitration import OfferCatalogue
from vigie_scoring.block import FeatureBlock
from vigie_scoring.champions import Serving
from vigie_scoring.consumer import Consumer, Logs
from vigie_scoring.deciding import Decider
from vigie_scoring.facts import FactReader
from vigie_scoring.lag import StateLag
from vigie_scoring.loaded import LoadedModel, load_model
from vigie_scoring.segments import ScoreSegments
from vigie_scoring.store import Store

from tests.unit.scoring.scoring_models import churn_booster, propensity_booster, write_model

REPO = Path(__file__).parents[2] / "integration" / "scoring_repo"
TABLE = FeatureTable.load(REPO)
CLOSURE = ChurnDefinition.load(REPO, "closure")
OFFERS = OfferCatalogue.compiled(load_offers(REPO), Vocabulary(TABLE, ["closure"]))
INACTIVITY = msgspec.structs.replace(
    CLOSURE, key="inactivity", kind="inactivity", primary=False, activity=("app.logged_in", "complaint.filed")
)
ATTRITION = msgspec.structs.replace(
    CLOSURE,
    key="balance_attrition",
    kind="balance_attrition",
    primary=False,
    horizon_days=10,
    min_history_days=30,
    attrition=Attrition(
        amounts=(Amount(events=("salary.received",), value_property="amount", where={"source": "work"}),),
        periods=3,
        share=0.4,
        least=100,
    ),
)
START = 20_000 * DAY_US
SAFE, RISKY = (9, 30, 0, 1), (0, 1, 3, 300)


class _Watch(Clock):
    """A business clock that a test sets."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def now_us(self) -> int:
        return self._world.now_us


class World:
    """Files ingest.db, features.db and scoring.db in a folder, a business clock and a step at a time."""

    def __init__(self, data: Path, *, batch: int = 256, definitions: Sequence[ChurnDefinition] = (CLOSURE,)) -> None:
        self.data = data
        self.definitions = list(definitions)
        self.batch = batch
        self.now_us = START
        self.system_seconds = 0.0
        self.applied = 0
        self.values: dict[str, tuple[int | None, ...]] = {}
        self.serving = Serving()
        self.restored = True
        self.events = _Log(data / "ingest.db", "events")
        self.changes = _Log(data / "features.db", "changes")
        self.feature_segments = _Log(data / "features.db", "segments")
        self.swept_us: int | None = None
        self.lag = StateLag(60.0, _Watch(self), lambda: self.system_seconds)
        self.consumer = self.start()

    def start(self) -> Consumer:
        """A consumer as after a start of the process."""
        self.store = Store(self.data / "scoring.db")
        self.consumer = Consumer(
            self.store,
            Logs(self.events.reader(), self.changes.reader(), self.feature_segments.reader()),
            self.read,
            lambda: ({0: self.applied} if self.applied else {}, self.swept_us),
            lambda: TABLE,
            self.definitions,
            lambda: self.serving,
            Decider(OFFERS, ("IN_APP", "EMAIL"), set(TABLE.by_key)),
            ScoreSegments(SegmentTable.load(REPO, TABLE, ["closure"])),
            FactReader(Catalogue.load(REPO), {CLOSURE.outcome}),
            lambda: self.now_us,
            self.lag,
            lambda: None,
            batch=self.batch,
            restored=lambda: self.restored,
        )
        return self.consumer

    def read(self, customer_ids: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> FeatureBlock:
        keys = list(TABLE.by_key)
        places = [keys.index(feature.key) for feature in features]
        rows = [self.values.get(customer_id, (0, 0, 0, None)) for customer_id in customer_ids]
        table = [[row[place] for place in places] for row in rows]
        return FeatureBlock(
            rows={customer_id: row for row, customer_id in enumerate(customer_ids)},
            columns={feature.key: column for column, feature in enumerate(features)},
            values=np.array([[value or 0 for value in row] for row in table], np.int64).reshape(len(rows), len(places)),
            valid=np.array([[v is not None for v in row] for row in table], bool).reshape(len(rows), len(places)),
            t_us=np.full(len(rows), now_us),
            pos={0: self.applied} if self.applied else {},
            present=np.array([customer_id in self.values for customer_id in customer_ids], bool),
        )

    def run(self) -> int:
        """Step until nothing is left to do; returns the number of steps that did something."""
        steps = 0
        while self.consumer.step():
            steps += 1
            assert steps < 500
        return steps

    # ---- what happens outside

    def event(
        self,
        member_id: str,
        name: str = "app.logged_in",
        *,
        days_ago: float = 0,
        amount: int | None = None,
        **properties: object,
    ) -> int:
        """Append an event; returns its number."""
        at_us = self.now_us - int(days_ago * DAY_US)
        number = self.events.last() + 1
        return self.record(
            Event(
                member_id=member_id,
                event_id=f"e{number}",
                source_id="s",
                kind="track",
                name=name,
                catalogued=True,
                received_at_us=at_us,
                known_at_us=at_us,
                timestamp_us=at_us,
                effective_at_us=at_us,
                properties=properties,
                measures={} if amount is None else {"amount": amount},
            )
        )

    def consent(self, member_id: str, purpose: str, state: str) -> int:
        """Append a consent statement; returns its number."""
        return self.record(
            ConsentStated(
                member_id=member_id,
                purpose=purpose,  # type: ignore[arg-type]
                state=state,  # type: ignore[arg-type]
                effective_at_us=self.now_us,
                known_at_us=self.now_us,
                source_id="s",
                event_id=f"c{self.events.last()}",
            )
        )

    def told(self) -> list[Event]:
        """Every event of the log."""
        records = [decode_record(entry.payload) for entry in self.events.reader().read({}, 10_000)]
        return [record for record in records if isinstance(record, Event)]

    def record(self, record: LogRecord) -> int:
        return self.events.append(encode_record(record))

    def changed(self, customer_id: str, cause: int | None, why: str = "event") -> None:
        """What features says after it folded up to `cause`."""
        self.applied = max(self.applied, cause or 0)
        position = Position(0, cause) if cause is not None else None
        change = Change(customer_id=customer_id, cause=position, not_before_us=self.now_us, why=why)  # type: ignore[arg-type]
        self.changes.append(msgspec.json.encode(change))

    def known(self, customer_id: str, values: tuple[int | None, ...], **event: object) -> None:
        """A customer seen two days ago whose features are `values` now."""
        self.values[customer_id] = values
        self.changed(customer_id, self.event(customer_id, days_ago=2))

    # ---- what came out

    def scores(self) -> list[ScoreRecord]:
        reader = SqliteLogReader(self.data / "scoring.db", "scores")
        return [decode_score(entry.payload) for entry in reader.read({}, 100_000)]

    def segment_log(self) -> list[tuple[str, str, bool]]:
        reader = SqliteLogReader(self.data / "scoring.db", "segments")
        found = [msgspec.json.decode(entry.payload, type=SegmentMoved) for entry in reader.read({}, 1000)]
        return [(move.customer_id, move.key, move.entered) for move in found]

    # ---- models

    def champion(self, version: str = "1", *, seed: int = 0, definition: ChurnDefinition = CLOSURE) -> LoadedModel:
        directory = self.data / f"{definition.key}-{version}"
        write_model(directory, TABLE, churn_booster(seed), definition=definition.key)
        return self._serve(load_model(directory, definition.model_name, version, TABLE))

    def withdrawn(self, definition: ChurnDefinition) -> None:
        """Nobody is champion any more."""
        key = (definition.model_name, CHAMPION)
        self.serving = Serving({name: model for name, model in self.serving.models.items() if name != key}, {})

    def propensity(self, version: str = "1", *, seed: int = 0) -> LoadedModel:
        directory = self.data / f"propensity-{version}"
        offers = ["savings", "card", "waiver"]
        write_model(directory, TABLE, propensity_booster(offers, seed), kind="propensity", offers=offers)
        return self._serve(load_model(directory, PROPENSITY_MODEL, version, TABLE))

    def _serve(self, model: LoadedModel) -> LoadedModel:
        self.serving = Serving({**self.serving.models, (model.name, CHAMPION): model}, {})
        return model


class _Log:
    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._engine = open_engine(path)
        self._writer = SqliteLogWriter(name)
        with transaction(self._engine) as conn:
            self._writer.create(conn)

    def append(self, payload: bytes) -> int:
        with transaction(self._engine) as conn:
            return self._writer.append(conn, [payload])[0].number

    def last(self) -> int:
        with transaction(self._engine) as conn:
            return self._writer.last(conn)

    def reader(self) -> SqliteLogReader:
        return SqliteLogReader(self._path, self._name)
