"""A small seeded world of log records for tests of services/features: acts, late acts, profiles, merges, consent."""

import random
from pathlib import Path

from sqlalchemy import Engine
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import ConsentStated, Event, LogRecord, MapChanged, MapMove, Position, encode_record
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US, parse_instant
from vigie_contracts.segments import SegmentTable
from vigie_kit.database import open_engine, transaction
from vigie_kit.log import Entry
from vigie_kit.sqlite_log import SqliteLogWriter
from vigie_tiles.layout import Layout

FEATURE_REPO = Path(__file__).resolve().parents[3] / "feature_repo"
CATALOGUE = Catalogue.load(FEATURE_REPO)
TABLE = FeatureTable.load(FEATURE_REPO)
LAYOUT = Layout(TABLE, "Europe/Paris")
SEGMENTS = SegmentTable.load(FEATURE_REPO, TABLE, ["closure"])
START_US = parse_instant("2026-01-05T00:00:00Z")
DAYS = 40
NOW_US = START_US + DAYS * DAY_US

_NAMES = ("app.logged_in", "card.used", "article.read", "support.contacted", "savings_goal.set", "transfer.made", "odd")
_PROFILES = (
    {"age_band": "18-24", "region": "capital", "income_band": "low", "digital_affinity": "high"},
    {"age_band": "65+", "region": "north", "income_band": "high", "digital_affinity": "low"},
    {"age_band": "35-49", "region": "elsewhere", "income_band": "middle"},
)


def event(
    member_id: str,
    name: str,
    effective_at_us: int,
    *,
    event_id: str,
    known_at_us: int | None = None,
    traits: dict[str, object] | None = None,
    **properties: object,
) -> Event:
    """An accepted event as ingest writes it."""
    known = effective_at_us if known_at_us is None else known_at_us
    return Event(
        member_id=member_id,
        event_id=event_id,
        source_id="app",
        kind="identify" if traits else "track",
        name=name,
        catalogued=name in CATALOGUE.micro_conversions,
        received_at_us=known,
        known_at_us=known,
        timestamp_us=effective_at_us,
        effective_at_us=effective_at_us,
        properties=properties,
        measures=CATALOGUE.measures(name, properties),
        traits=traits or {},
    )


def records(seed: int, *, members: int = 12, count: int = 400) -> list[LogRecord]:
    """`count` records in the order of `known_at` over 40 days, with some acts up to five days late."""
    rng = random.Random(seed)
    names = [f"m{number:02d}" for number in range(members)]
    found: list[LogRecord] = [
        event(name, "account.opened", START_US + at, event_id=f"open-{name}", product="current")
        for at, name in enumerate(names)
    ]
    for number in range(count - len(found)):
        known = START_US + (number + 1) * DAYS * DAY_US // count
        found.append(_record(rng, rng.choice(names), known, number))
    return found


def _record(rng: random.Random, member_id: str, known_us: int, number: int) -> LogRecord:
    kind = rng.random()
    if kind < 0.03 and member_id != "m00":
        return MapChanged(moves=[MapMove(member_id, member_id, "m00")], known_at_us=known_us, because="same user id")
    if kind < 0.06:
        return ConsentStated(
            member_id=member_id,
            purpose="marketing",
            state="denied",
            effective_at_us=known_us,
            known_at_us=known_us,
            source_id="app",
            event_id=f"c{number}",
        )
    if kind < 0.12:
        profile = dict(rng.choice(_PROFILES))
        return event(member_id, "Identify", known_us, event_id=f"e{number}", traits=profile)
    late = rng.randrange(5 * DAY_US) if rng.random() < 0.1 else rng.randrange(HOUR_US)
    properties = {"amount": f"{rng.randrange(9000)}.{rng.randrange(100):02d}", "direction": rng.choice(("in", "out"))}
    return event(
        member_id, rng.choice(_NAMES), known_us - late, event_id=f"e{number}", known_at_us=known_us, **properties
    )


def entries(found: list[LogRecord], first: int = 1) -> list[Entry]:
    """Records as a log reader gives them."""
    return [Entry(Position(0, first + at), encode_record(record)) for at, record in enumerate(found)]


class EventsLog:
    """The log "events" as ingest writes it, in its own ingest.db."""

    def __init__(self, data: Path) -> None:
        self.path = data / "ingest.db"
        self._engine: Engine = open_engine(self.path)
        self._writer = SqliteLogWriter("events")
        with transaction(self._engine) as connection:
            self._writer.create(connection)

    def append(self, found: list[LogRecord]) -> int:
        """Append in one transaction; the log's last number."""
        with transaction(self._engine) as connection:
            self._writer.append(connection, [encode_record(record) for record in found])
            return self._writer.last(connection)
