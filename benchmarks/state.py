"""Bytes of a member's state: 12 kinds of act, 3 acts on each of 90 active days; and of simulated customers."""

import json
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import Event
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US
from vigie_tiles.layout import Layout

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events  # noqa: E402

KINDS, ACTS_A_DAY, ACTIVE_DAYS, MEMBERS, CUSTOMERS, DAYS = 12, 3, 90, 50, 300, 100
FEW = 40


def run(members: int = MEMBERS, customers: int = CUSTOMERS) -> Iterator[dict[str, Any]]:
    """Cases `busy` (the made-up member) and `bank` (simulated customers) with 40 features and with all."""
    whole = FeatureTable.load(bank_events.FEATURE_REPO)
    made = [event for number in range(members) for event in _busy(number, whole)]
    simulated = list(bank_events.events(customers, DAYS))
    for table in (FeatureTable(whole.features[:FEW]), whole):
        layout = Layout(table, bank_events.TIME_ZONE)
        for case, events in (("busy", made), ("bank", simulated)):
            sizes = [len(row.blob) for row in bank_events.fold_all(layout, iter(events)).values()]
            yield _row(f"{case}_{len(table.features)}", sizes)


def _row(case: str, sizes: list[int]) -> dict[str, Any]:
    return {
        "bench": "state",
        "case": case,
        "unit": "B",
        "value": statistics.mean(sizes),
        "floor": None,
        "peer": None,
        "ratio_to_floor": None,
        "ratio_to_peer": None,
        "peer_name": None,
        "runs": len(sizes),
        "note": f"{min(sizes):,} to {max(sizes):,} B of {len(sizes):,} members",
    }


def _busy(number: int, table: FeatureTable) -> Iterator[Event]:
    draw, catalogue = random.Random(number), Catalogue.load(bank_events.FEATURE_REPO)
    used = sorted({name for feature in table.features for name in feature.events})
    names = draw.sample(used, KINDS)
    for day in range(ACTIVE_DAYS):
        for act in range(ACTS_A_DAY):
            at = bank_events.START_US + day * DAY_US + draw.randrange(DAY_US)
            name = draw.choice(names)
            properties = {"amount": draw.randint(1, 50_000) / 100} if name in ("card.used", "transfer.made") else {}
            yield Event(
                member_id=f"busy-{number}",
                event_id=f"{day}-{act}",
                source_id="bench",
                kind="track",
                name=name,
                catalogued=True,
                received_at_us=at,
                known_at_us=at,
                timestamp_us=at,
                effective_at_us=at,
                properties=properties,
                measures=catalogue.measures(name, properties),
            )


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
