"""A simulated bank's history written straight into a data directory's archive, for tests of training."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import ConsentStated, Event, LogRecord, MapChanged, MapMove, Position, encode_record
from vigie_contracts.instants import DAY_US, ClockSetting, parse_instant
from vigie_features.archive import SCHEMAS, ArchiveFile, Manifest, rows_by_kind
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.log import Entry
from vigie_simulator.bank import Act, Bank
from vigie_tiles import registration

START_US = parse_instant("2026-01-05T00:00:00Z")


def member(act: Act) -> str:
    """The member of an act; a joiner's first visit is another, anonymous one."""
    return f"a-{act.customer}" if act.anonymous else f"m-{act.customer}"


def records_of(act: Act, catalogue: Catalogue) -> list[LogRecord]:
    """The log records that ingest would write for an act."""
    event = Event(
        member_id=member(act),
        event_id=act.event_id,
        source_id="simulated",
        kind="identify" if act.traits else "track",
        name=act.name,
        catalogued=act.name in catalogue.micro_conversions,
        received_at_us=act.at_us,
        known_at_us=act.at_us,
        timestamp_us=act.at_us,
        effective_at_us=act.at_us,
        properties=act.properties,
        measures=catalogue.measures(act.name, act.properties),
        traits=act.traits,
    )
    if not act.traits:
        return [event]
    move = MapMove(member_id=f"a-{act.customer}", from_customer_id=f"a-{act.customer}", to_customer_id=f"m-{act.customer}")
    stated = [
        ConsentStated(
            member_id=event.member_id,
            purpose=purpose,  # type: ignore[arg-type]
            state="granted" if granted else "denied",
            effective_at_us=act.at_us,
            known_at_us=act.at_us,
            source_id="simulated",
            event_id=act.event_id,
        )
        for purpose, granted in act.consents.items()
    ]
    return [event, MapChanged(moves=[move], known_at_us=act.at_us, because="identify"), *stated]


def write_archive(data: Path, records: list[LogRecord]) -> None:
    """One Parquet file a kind, under a manifest."""
    folder = data / "archive"
    folder.mkdir(parents=True, exist_ok=True)
    entries = [Entry(Position(0, number), encode_record(record)) for number, record in enumerate(records, start=1)]
    files = []
    for kind, rows in rows_by_kind(entries).items():
        if rows:
            name = f"{kind}.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[kind]), folder / name)
            files.append(ArchiveFile(name=name, kind=kind, first=1, last=len(records), rows=len(rows)))
    manifest = Manifest(end={0: len(records)}, files=files)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def simulated_bank(data: Path, feature_repo: Path, *, customers: int, days: int, seed: int = 3) -> Clock:
    """A data directory with a simulated history, features registered in Feast; answers its clock, at the end."""
    end_us = START_US + days * DAY_US
    clock = ClockSetting(base_virtual_us=end_us, rate=1e-9)
    installation.create(data, time_zone="Europe/Paris", clock=clock)
    catalogue = Catalogue.load(feature_repo)
    bank = Bank(seed=seed, customers=customers, start_us=START_US, horizon_days=days)
    acts = sorted((act for day in bank.days(days) for act in day), key=lambda act: (act.at_us, act.event_id))
    write_archive(data, [record for act in acts if act.at_us < end_us for record in records_of(act, catalogue)])
    registration.apply(data, feature_repo)
    return Clock(clock)
