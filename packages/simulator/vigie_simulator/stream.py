"""Sends a simulated bank into Vigie: its history through the import, its present through the public ingest.

What was sent is remembered in `simulation.json`, so that a second run continues where the first one stopped.
Every act has a fixed event id: sending one twice counts once.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from vigie_contracts.errors import Conflict, LimitExceeded, Unavailable
from vigie_contracts.imports import ImportAnswer, ImportRecord, ImportRequest
from vigie_contracts.instants import DAY_US
from vigie_kit.client import SyncServiceClient
from vigie_kit.clock import Clock
from vigie_kit.files import replace_file

from vigie_simulator.bank import Act, Bank
from vigie_simulator.wire import item, user_id

FILE = "simulation.json"
SOURCE = "simulator"
IMPORT_BATCH = 5_000
LIVE_BATCH = 100
LOOK_BACK_DAYS = 2
PAUSE_SECONDS = 0.2
RETRIES = 60


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """Which bank lies in a data directory, and until when its acts were sent (exclusive)."""

    seed: int
    customers: int
    activity: float
    start_us: int
    sent_until_us: int
    note: str = "A simulated bank: no real person, no real money."


@dataclass(frozen=True)
class Sent:
    """What became of a run."""

    accepted: int
    duplicates: int
    refused: int


def begin(data: Path, *, seed: int, customers: int, days: int, activity: float, now_us: int) -> Simulation:
    """The simulation of a data directory, made now unless there is one; Conflict when it is another bank."""
    path = data / FILE
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Simulation)
        if (found.seed, found.customers) != (seed, customers):
            raise Conflict(
                f"{path} holds a simulated bank of {found.customers} customers (seed {found.seed}); ask for the same, "
                "or begin anew with `make demo-reset`"
            )
        return found
    start_us = now_us // DAY_US * DAY_US - days * DAY_US
    return Simulation(seed=seed, customers=customers, activity=activity, start_us=start_us, sent_until_us=-(2**62))


def send_history(
    simulation: Simulation,
    data: Path,
    client: SyncServiceClient,
    *,
    until_us: int,
    progress: Callable[[int, int], None],
) -> Sent:
    """Import all acts before `until_us` that were not sent yet; `progress(records so far, instant reached)`."""
    accepted = duplicates = refused = 0
    acts = itertools.takewhile(lambda act: act.at_us < until_us, _unsent(simulation))
    while batch := list(itertools.islice(acts, IMPORT_BATCH)):
        request = ImportRequest(source_id=SOURCE, records=[_record(act) for act in batch])
        answer = client.post("/internal/import", request, ImportAnswer)
        accepted, duplicates = accepted + answer.accepted, duplicates + answer.duplicates
        refused += len(answer.refused)
        progress(accepted + duplicates + refused, batch[-1].at_us)
        _remember(simulation, data, batch[-1].at_us)
    _remember(simulation, data, until_us)
    return Sent(accepted, duplicates, refused)


def send_live(
    simulation: Simulation,
    data: Path,
    *,
    ingest_url: str,
    write_key: str,
    clock: Clock,
    stopping: Callable[[], bool],
    progress: Callable[[int], None],
) -> int:
    """Send each act when the business clock reaches it, as an SDK would, until `stopping()`; answers how many."""
    sent = 0
    due: list[Act] = []
    acts = _unsent(simulation)
    with httpx.Client(base_url=ingest_url, auth=(write_key, ""), timeout=30, trust_env=False) as client:
        following = next(acts)
        while not stopping():
            now_us = clock.now_us()
            while following.at_us <= now_us and len(due) < LIVE_BATCH:
                due.append(following)
                following = next(acts)
            if due:
                _post(client, due)
                sent += len(due)
                _remember(simulation, data, due[-1].at_us)
                due.clear()
                progress(sent)
            else:
                time.sleep(PAUSE_SECONDS)
    return sent


def _unsent(simulation: Simulation) -> Iterator[Act]:
    bank = Bank(
        seed=simulation.seed, customers=simulation.customers, start_us=simulation.start_us, activity=simulation.activity
    )
    first_day = max((simulation.sent_until_us - simulation.start_us) // DAY_US - LOOK_BACK_DAYS, -1)
    return (act for act in bank.ordered(first_day) if act.at_us >= simulation.sent_until_us)


def _record(act: Act) -> ImportRecord:
    known = user_id(act.customer)
    if act.name == "identify":
        return ImportRecord(
            kind="identify",
            event_id=act.event_id,
            effective_at_us=act.at_us,
            traits=act.traits,
            consent=act.consents,
            user_id=known,
            anonymous_id=f"anon-{known}",
        )
    return ImportRecord(
        kind="track",
        event_id=act.event_id,
        effective_at_us=act.at_us,
        name=act.name,
        properties=act.properties,
        channel=act.properties.get("channel"),
        user_id=None if act.anonymous else known,
        anonymous_id=f"anon-{known}" if act.anonymous else None,
    )


def _post(client: httpx.Client, acts: list[Act]) -> None:
    for _ in range(RETRIES):
        try:
            answer = client.post("/v1/batch", json={"batch": [item(act) for act in acts]})
        except httpx.HTTPError:
            time.sleep(1.0)
            continue
        if answer.status_code == 200:
            return
        if answer.status_code not in (429, 503):
            raise Unavailable(f"ingest refused simulated events: {answer.status_code} {answer.text[:200]}")
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    raise LimitExceeded(f"ingest took no simulated events for {RETRIES} tries")


def _remember(simulation: Simulation, data: Path, sent_until_us: int) -> None:
    moved = msgspec.structs.replace(simulation, sent_until_us=sent_until_us)
    replace_file(data / FILE, msgspec.json.format(msgspec.json.encode(moved)))
