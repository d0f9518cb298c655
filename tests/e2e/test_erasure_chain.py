"""An erasure while ingest, features and scoring run and events stream in, each part killed at each step of it."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import vigie_features.failpoints
import vigie_ingest.failpoints
from vigie_contracts.events import Erased, Event, Tombstone
from vigie_contracts.features import FeatureTable
from vigie_contracts.subjects import Subject
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileReader

from tests.e2e.chain import Chain
from tests.e2e.system import ROOT
from tests.servers import until

TABLE = FeatureTable.load(ROOT / "feature_repo")
KILLS = [
    *(("ingest", name) for name in vigie_ingest.failpoints.ERASURE_FAILPOINTS),
    *(("features", name) for name in ("features.before_commit", "features.after_commit")),
    ("features", "features.archive_before_manifest"),
    *(("features", name) for name in vigie_features.failpoints.ERASURE_FAILPOINTS),
    *(("scoring", name) for name in ("scoring.before_events_commit", "scoring.after_events_commit")),
]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(tmp_path_factory.mktemp("chain")) as running:
        running.acknowledged(400)
        running.stream.end()
        until("everything to be caught up", running.is_caught_up, 60)
        yield running


def person(chain: Chain, user: str) -> Subject:
    asked = {"lookups": [{"namespace": "user_id", "value": user}]}
    (row,) = chain.members["ingest"].post("/internal/customers", asked)["customers"]
    return Subject(customer_id=row["customer_id"], member_ids=row["member_ids"])


def held(chain: Chain, subject: Subject, number: int = 0) -> dict[str, int]:
    """How much lies in each place, or -1 where a part has not come to the number."""
    asked = {"customer_id": subject.customer_id, "member_ids": subject.member_ids, "number": number}
    found: dict[str, int] = {}
    for name, member in chain.members.items():
        answer = member.post("/internal/holdings", asked)
        places = {f"{name}: {place['name']}": place["found"] for place in answer["places"]}
        found |= places if answer["reached"] else dict.fromkeys(places, -1)
    return found


def vectors(chain: Chain, t_us: int) -> dict[str, list[int]]:
    """The features of everybody with state, at one far instant."""
    with sqlite3.connect(chain.data / "features.db") as db:
        customers = [row[0] for row in db.execute("SELECT customer_id FROM customers ORDER BY 1")]
    reader = TileReader(chain.data / "features.db", Layout(TABLE, "Europe/Paris"))
    read = reader.read(customers, TABLE.features, t_us)
    reader.close()
    return dict(zip(customers, read.matrix.values.tolist(), strict=True))


def ask(chain: Chain, subject: Subject) -> Any:
    asked = {"erasure_id": f"erase-{subject.customer_id}", "customer_id": subject.customer_id}
    return chain.members["ingest"].post("/internal/erasures", asked)


@pytest.mark.parametrize(("service", "failpoint"), KILLS, ids=[name for _, name in KILLS])
def test_an_erasure_that_is_killed_anywhere_ends_with_nothing_left_and_nobody_else_changed(
    chain: Chain, service: str, failpoint: str
) -> None:
    victim = chain.members[service]
    user = f"u{KILLS.index((service, failpoint))}"
    subject = person(chain, user)
    t_us = chain.clock.now_us() + 3_600_000_000
    before, full, sent = vectors(chain, t_us), held(chain, subject), sorted(copies_of(chain, subject))
    assert full["ingest: log of events"] > 0
    assert full["features: archive"] > 0
    victim.stop()
    victim.start(failpoint)
    if service == "ingest":
        until("ingest to be ready", victim.ready)
        with pytest.raises(httpx.TransportError):
            ask(chain, subject)
    else:
        ask(chain, subject)
    until(f"{failpoint} to kill", victim.ended, 60)
    victim.start()
    until(f"{service} to be ready", victim.ready)
    number = ask(chain, subject)["number"]
    until("nothing to be left", lambda: set(held(chain, subject, number).values()) == {0}, 60)
    until("everything to be caught up", chain.is_caught_up, 60)
    after = vectors(chain, t_us)
    assert after == {customer: vector for customer, vector in before.items() if customer != subject.customer_id}
    records = dict(chain.records())
    log = {position.number: record for position, record in records.items()}
    assert isinstance(log[number], Erased)
    assert_erased_once(log)
    assert not [r for r in log.values() if isinstance(r, Event) and r.member_id in subject.member_ids]
    assert any(isinstance(record, Tombstone) for record in log.values())
    send_again(chain, user, sent)
    assert {receipt(chain, name) for name in sent} == {"erased"}
    assert max(position.number for position, _ in chain.records()) == max(log)


def assert_erased_once(log: dict[int, Any]) -> None:
    """A repeated request erases once."""
    customers = [record.customer_id for record in log.values() if isinstance(record, Erased)]
    assert len(customers) == len(set(customers))


def copies_of(chain: Chain, subject: Subject) -> set[str]:
    return {
        record.event_id
        for _, record in chain.records()
        if isinstance(record, Event) and record.member_id in subject.member_ids
    }


def send_again(chain: Chain, user: str, names: list[str]) -> None:
    batch = [{"type": "track", "event": "Logged In", "userId": user, "messageId": name} for name in names]
    url = f"http://127.0.0.1:{chain.members['ingest'].port}/v1/batch"
    answer = httpx.post(url, json={"batch": batch}, auth=("write-key", ""), trust_env=False, timeout=30)
    assert (answer.status_code, answer.json()) == (200, {"success": True})


def receipt(chain: Chain, event_id: str) -> str:
    url = f"http://127.0.0.1:{chain.members['ingest'].port}/v1/receipts/{event_id}"
    headers = {"Authorization": "Bearer service-token"}
    return str(httpx.get(url, headers=headers, trust_env=False).json()["verdict"])
