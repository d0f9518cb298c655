"""Histories written straight into a data directory's archive, for tests of training: acts at will, a small bank."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import ConsentStated, Event, LogRecord, MapChanged, MapMove, Position, encode_record
from vigie_contracts.instants import DAY_US, HOUR_US, ClockSetting, parse_instant
from vigie_features.archive import SCHEMAS, ArchiveFile, Manifest, rows_by_kind
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.log import Entry
from vigie_tiles import registration

FEATURE_REPO = Path(__file__).resolve().parents[2] / "feature_repo"
CATALOGUE = Catalogue.load(FEATURE_REPO)
START_US = parse_instant("2026-01-05T00:00:00Z")
OFFERS = ("savings_boost", "premium_card", "budget_coach", "fee_waiver")


def act(
    member_id: str, name: str, at_us: int, *, traits: dict[str, object] | None = None, **properties: object
) -> Event:
    """An accepted event, known when it happened."""
    return Event(
        member_id=member_id,
        event_id=f"{member_id}-{name}-{at_us}",
        source_id="tests",
        kind="identify" if traits else "track",
        name=name,
        catalogued=name in CATALOGUE.micro_conversions,
        received_at_us=at_us,
        known_at_us=at_us,
        timestamp_us=at_us,
        effective_at_us=at_us,
        properties=properties,
        measures=CATALOGUE.measures(name, properties),
        traits=traits or {},
    )


def denial(member_id: str, at_us: int, purpose: str = "analytics", state: str = "denied") -> ConsentStated:
    """A statement of consent."""
    return ConsentStated(
        member_id=member_id,
        purpose=purpose,  # type: ignore[arg-type]
        state=state,  # type: ignore[arg-type]
        effective_at_us=at_us,
        known_at_us=at_us,
        source_id="tests",
        event_id=f"{member_id}-{purpose}-{at_us}",
    )


def merge(member_id: str, customer_id: str, at_us: int) -> MapChanged:
    """A member joins a customer."""
    move = MapMove(member_id=member_id, from_customer_id=member_id, to_customer_id=customer_id)
    return MapChanged(moves=[move], known_at_us=at_us, because="identify")


def write_archive(data: Path, records: Iterable[LogRecord]) -> None:
    """One Parquet file a kind, under a manifest, in the order of knowing."""
    folder = data / "archive"
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(records, key=lambda record: record.known_at_us)
    entries = [Entry(Position(0, number), encode_record(record)) for number, record in enumerate(ordered, start=1)]
    files = []
    for kind, rows in rows_by_kind(entries).items():
        if rows:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[kind]), folder / f"{kind}.parquet")
            files.append(ArchiveFile(name=f"{kind}.parquet", kind=kind, first=1, last=len(entries), rows=len(rows)))
    manifest = Manifest(end={0: len(entries)}, files=files)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


@contextmanager
def event_tables(
    events: Iterable[Event], customers: Mapping[str, str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """`events` and `customer_of` (`customers`: member -> customer) as an archive has them, without files."""
    with duckdb.connect() as db:
        db.execute(
            "CREATE TABLE events (member_id VARCHAR, source_id VARCHAR, event_id VARCHAR, name VARCHAR,"
            " catalogued BOOLEAN, known_at_us BIGINT, effective_at_us BIGINT, properties VARCHAR,"
            " measures MAP(VARCHAR, BIGINT))"
        )
        db.execute("CREATE TABLE customer_of (member_id VARCHAR, customer_id VARCHAR)")
        for pair in (customers or {}).items():
            db.execute("INSERT INTO customer_of VALUES (?, ?)", pair)
        entries = [Entry(Position(0, number), encode_record(event)) for number, event in enumerate(events, start=1)]
        if entries:
            arrived = pa.Table.from_pylist(rows_by_kind(entries)["events"], schema=SCHEMAS["events"])
            db.register("arrived", arrived)
            names = [row[0] for row in db.execute("DESCRIBE events").fetchall()]
            db.execute(f"INSERT INTO events SELECT {', '.join(names)} FROM arrived")
        yield db


def data_directory(data: Path, records: Iterable[LogRecord], *, days: int) -> Clock:
    """A data directory with an archive and the features registered in Feast; answers its clock, which stands still."""
    setting = ClockSetting(base_virtual_us=START_US + days * DAY_US, rate=1e-9)
    installation.create(data, time_zone="Europe/Paris", clock=setting)
    write_archive(data, records)
    registration.apply(data, FEATURE_REPO)
    return Clock(setting)


def made_up_bank(*, customers: int, days: int, seed: int = 1, leak: bool = False) -> list[LogRecord]:
    """Customers who log in, answer offers by their income, and complain and fall silent before they leave.

    With `leak`, the branch notes every closure before it counts: an act that knows the outcome.
    """
    rng = random.Random(seed)
    found: list[LogRecord] = []
    for number in range(customers):
        found += _customer(f"m-{number:04d}", rng, days, leak)
    return found


def _customer(who: str, rng: random.Random, days: int, leak: bool) -> list[LogRecord]:
    leaves = rng.randrange(20, days * 2) if rng.random() < 0.8 else days * 9
    income = rng.choice(("low", "middle", "upper", "high"))
    rate = rng.uniform(0.15, 0.6)
    found: list[LogRecord] = [
        act(who, "account.opened", _at(rng, 0), product="account"),
        act(who, "identify", _at(rng, 0), traits={"income_band": income, "age_band": "35-49"}),
        denial(who, _at(rng, 1), state="denied" if rng.random() < 0.02 else "granted"),
    ]
    for day in range(1, min(days, leaves)):
        leaving = leaves - day < 25 or rng.random() < 0.02
        if rng.random() < (rate * 0.6 if leaving else rate):
            found.append(act(who, "app.logged_in", _at(rng, day)))
        if rng.random() < (0.06 if leaving else 0.006):
            found.append(act(who, "complaint.filed", _at(rng, day), topic="cards"))
        if rng.random() < 0.05:
            found += _offer(who, rng, day, income)
        if leak and leaves - day == 18:
            found.append(act(who, "branch.visited", _at(rng, day)))
    if leaves < days:
        found.append(act(who, "account.closed", _at(rng, leaves), product="account"))
    return found


def _offer(who: str, rng: random.Random, day: int, income: str) -> list[LogRecord]:
    offer, at_us = rng.choice(OFFERS), _at(rng, day)
    known = {"offer": offer, "recommendation_id": f"{who}-{at_us}"}
    shown = act(who, "offer.shown", at_us, **known)
    wanted = (offer == "premium_card") == (income in ("upper", "high"))
    if rng.random() < (0.45 if wanted else 0.06):
        return [shown, act(who, "offer.accepted", at_us + HOUR_US, **known)]
    return [shown]


def _at(rng: random.Random, day: int) -> int:
    return START_US + day * DAY_US + rng.randrange(DAY_US)
