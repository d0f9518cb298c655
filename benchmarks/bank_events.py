"""Events of the simulated bank as the log holds them, for the benchmarks of tiles."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import Event
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US, parse_instant
from vigie_simulator.bank import Act, Bank
from vigie_tiles import kernel
from vigie_tiles.kernel import FoldedMember
from vigie_tiles.layout import Layout

FEATURE_REPO = Path(__file__).resolve().parent.parent / "feature_repo"
TIME_ZONE = "Europe/Paris"
START_US = parse_instant("2026-01-05T00:00:00Z")
BATCH = 1_000


def layout() -> Layout:
    """The shipped feature table in a zone with summer time."""
    return Layout(FeatureTable.load(FEATURE_REPO), TIME_ZONE)


def events(customers: int, days: int) -> Iterator[Event]:
    """What so many simulated customers did in so many days, in order of time; each is its own member."""
    catalogue = Catalogue.load(FEATURE_REPO)
    bank = Bank(seed=11, customers=customers, start_us=START_US)
    until = START_US + days * DAY_US
    return (_event(act, catalogue) for act in itertools.takewhile(lambda act: act.at_us < until, bank.ordered()))


def fold_all(of: Layout, found: Iterator[Event]) -> dict[str, FoldedMember]:
    """State of every member after all events, folded in batches."""
    state: dict[str, FoldedMember] = {}
    while batch := list(itertools.islice(found, BATCH)):
        members = {event.member_id for event in batch}
        blobs = {member: state[member].blob if member in state else None for member in members}
        state |= kernel.fold(of, blobs, batch)
    return state


def _event(act: Act, catalogue: Catalogue) -> Event:
    identify = act.name == "identify"
    return Event(
        member_id=f"customer-{act.customer:06d}",
        event_id=act.event_id,
        source_id="bench",
        kind="identify" if identify else "track",
        name=act.name,
        catalogued=not identify,
        received_at_us=act.at_us,
        known_at_us=act.at_us,
        timestamp_us=act.at_us,
        effective_at_us=act.at_us,
        properties=act.properties,
        measures=catalogue.measures(act.name, act.properties),
        traits=act.traits,
    )
