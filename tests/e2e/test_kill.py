"""Kills at every failpoint of ingest, features and scoring, and a stopped consumer, all during one live stream.

Nothing acknowledged is lost, nothing counts twice, and tiles, archive and oracle agree on every value.
"""

import signal
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import vigie_features.failpoints
import vigie_ingest.failpoints
import vigie_scoring.failpoints
from vigie_contracts.events import Change, ConsentStated, Event, LogRecord, MapChanged, Position
from vigie_contracts.features import FeatureTable
from vigie_contracts.scores import ChurnScore, decode_score
from vigie_tiles import oracle
from vigie_tiles.batch import Batch
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileReader

from tests.e2e.chain import SERVICES, Chain, Member, hinted, last_touch, refresh
from tests.e2e.system import ROOT
from tests.servers import until

DECLARED = {
    "ingest": vigie_ingest.failpoints.FAILPOINTS,
    "features": vigie_features.failpoints.FAILPOINTS,
    "scoring": vigie_scoring.failpoints.FAILPOINTS,
}
NOT_IN_THIS_CHAIN = {
    "scoring.before_rename": "a model arrives: needs a registry with a champion; test_scoring_service kills there",
    "scoring.after_rename": "as scoring.before_rename",
}
AT_FIRST_HIT = {
    "features.rebuild_before_commit",  # passed once a start
    "features.rebuild_after_commit",
    "ingest.before_settle_commit",  # passed once a bulk
    "ingest.after_settle_commit",
    "scoring.before_ack",  # passed by the one refresh that is asked again afterwards
    "scoring.after_ack",
}
TABLE = FeatureTable.load(ROOT / "feature_repo")
ZONE = "Europe/Paris"
WAIT_SECONDS = 120.0
ORACLE_CUSTOMERS = 8


@pytest.mark.parametrize("stopped_seconds", [3.0, pytest.param(30.0, marks=pytest.mark.large)])
def test_kills_and_a_stopped_consumer_during_a_live_stream_lose_nothing_and_double_nothing(
    tmp_path: Path, stopped_seconds: float
) -> None:
    with Chain(tmp_path / "data") as chain:
        chain.acknowledged(100)
        assert kill_everywhere(chain) == {name for names in DECLARED.values() for name in names} - set(
            NOT_IN_THIS_CHAIN
        )
        assert_refreshes_were_asked_once(chain.members["scoring"])
        stop_the_consumer(chain, stopped_seconds)
        chain.acknowledged(100)
        chain.stream.end()
        until("everything to have caught up", chain.is_caught_up, WAIT_SECONDS)
        log = chain.records()
        assert_each_acknowledged_event_is_stored_once(chain, log)
        assert_each_cause_is_hinted_once(chain, log)
        assert_scores_are_said_once(chain, log)
        assert_tiles_archive_and_oracle_agree(chain, log)


# ---- what is done to the processes ----------------------------------------------------------------------------------


@dataclass
class Victim:
    """A service and the failpoints that are still to kill it; `armed` is the one that it runs with."""

    member: Member
    waiting: deque[str]
    armed: str = ""
    since: float = 0.0

    def arm(self) -> None:
        """Start with the next failpoint, or without any when all were hit."""
        self.armed = self.waiting.popleft() if self.waiting else ""
        count = 1 if self.armed in AT_FIRST_HIT else 2
        self.member.start(f"{self.armed}:{count}" if self.armed else "")
        self.since = time.monotonic()

    def died(self) -> bool:
        """Whether its failpoint killed it; an error when that takes too long."""
        waited = time.monotonic() - self.since
        assert waited < WAIT_SECONDS, f"{self.armed} was not hit within {WAIT_SECONDS} s: {self.member.words()}"
        return self.member.ended()


def kill_everywhere(chain: Chain) -> set[str]:
    """Let each service die at each of its failpoints, all three side by side; the failpoints that killed.

    A service comes back already bound to die at its next failpoint, a little further on.
    """
    reachable = {name: deque(p for p in DECLARED[name] if p not in NOT_IN_THIS_CHAIN) for name in SERVICES}
    victims = [Victim(chain.members[name], reachable[name]) for name in SERVICES]
    killed: list[str] = []
    started = time.monotonic()
    for victim in victims:
        assert victim.member.stop() == 0, victim.member.words()
        victim.arm()

    def all_done() -> bool:
        for victim in victims:
            if victim.armed and victim.died():
                killed.append(victim.armed)
                victim.arm()
            elif victim.armed:
                provoke(chain, victim.armed)
        return not any(victim.armed for victim in victims)

    until("all failpoints to be hit", all_done, 600)
    for victim in victims:
        until(f"{victim.member.name} to be ready", victim.member.ready, WAIT_SECONDS)
    assert len(killed) == len(set(killed))
    print(f"killed at {len(killed)} failpoints in {time.monotonic() - started:.0f} s")
    return set(killed)


def provoke(chain: Chain, failpoint: str) -> None:
    """Some failpoints are passed only when somebody asks for it."""
    if failpoint == "ingest.before_settle_commit":
        chain.stream.bulk.set()
    if failpoint in ("scoring.before_ack", "scoring.after_ack"):
        refresh(chain.members["scoring"], failpoint)


def assert_refreshes_were_asked_once(scoring: Member) -> None:
    """A refresh that was cut off before its commit is new when asked again, one cut off after it is not."""
    assert refresh(scoring, "scoring.before_ack") is False
    assert refresh(scoring, "scoring.after_ack") is True


def stop_the_consumer(chain: Chain, seconds: float) -> None:
    """SIGSTOP of features for so long; ingest acknowledges on, and features goes on from where it was."""
    features = chain.members["features"]
    features.send_signal(signal.SIGSTOP)
    try:
        before, position = len(chain.stream.acknowledged), applied(chain)
        time.sleep(seconds)
        assert len(chain.stream.acknowledged) > before
        assert applied(chain) == position
    finally:
        features.send_signal(signal.SIGCONT)
    until("the consumer to go on", lambda: applied(chain) > position)
    assert not any(member.ended() for member in chain.members.values())


def applied(chain: Chain) -> int:
    """The number that the tiles hold now."""
    reader = TileReader(chain.data / "features.db", Layout(TABLE, ZONE))
    try:
        return reader.read([], (), 0).pos[0]
    finally:
        reader.close()


# ---- what must be true afterwards -----------------------------------------------------------------------------------

Log = list[tuple[Position, LogRecord]]


def assert_each_acknowledged_event_is_stored_once(chain: Chain, log: Log) -> None:
    stored = Counter(record.event_id for _, record in log if isinstance(record, Event))
    assert stored == Counter(chain.stream.acknowledged)
    assert set(stored.values()) == {1}
    assert [position.number for position, _ in log] == list(range(1, len(log) + 1))
    counts = chain.members["ingest"].status()["counts"]
    assert counts["accepted"] == len(stored)
    assert counts["duplicate"] >= chain.stream.resent > 0
    assert "quarantined" not in counts
    print(
        f"{len(stored)} events of {len(log)} records, {counts['duplicate']} duplicates refused "
        f"({chain.stream.resent} sent on purpose), {chain.stream.retries} deliveries tried again"
    )


def assert_each_cause_is_hinted_once(chain: Chain, log: Log) -> None:
    """Sweeps have no cause and may repeat; an event or a merge moves a customer once, and none is passed over."""
    found = [msgspec.json.decode(payload, type=Change) for _, payload in chain.log("features", "changes")]
    caused = [(change.customer_id, change.cause) for change in found if change.cause is not None]
    assert len(caused) == len(set(caused))
    assert {change.why for change in found} == {"event", "map", "sweep"}
    last, merged = hinted(found), in_merges(log)
    touched = {member: number for member, number in last_touch(log).items() if member not in merged}
    assert {member: last.get(member) for member in touched} == touched
    assert len(touched) > 40
    assert len(merged) > 10
    print(f"{len(caused)} hints with a cause, {len(found) - len(caused)} by the sweep, {len(merged)} customers merged")


def in_merges(log: Log) -> set[str]:
    """Every member and customer that a merge names."""
    moves = [move for _, record in log if isinstance(record, MapChanged) for move in record.moves]
    return {name for move in moves for name in (move.member_id, move.from_customer_id, move.to_customer_id)}


def assert_scores_are_said_once(chain: Chain, log: Log) -> None:
    """Without a champion the reason that there is no score is said when it changes, and denials reach everybody."""
    said: dict[str, list[str]] = {}
    for _, payload in chain.log("scoring", "scores"):
        current = decode_score(payload).current
        assert not isinstance(current, ChurnScore)
        said.setdefault(current.customer_id, []).append(current.reason)
    repeated = {name: reasons for name, reasons in said.items() if any(map(str.__eq__, reasons, reasons[1:]))}
    assert repeated == {}
    owner = owners(log)
    denying = {owner[record.member_id] for _, record in log if isinstance(record, ConsentStated)}
    customers = sorted(set(owner.values()))
    standing: dict[str, str] = {}
    for start in range(0, len(customers), 500):
        body = {"customer_ids": customers[start : start + 500]}
        rows = chain.members["scoring"].post("/internal/scores", body)["scores"]
        standing |= {row["assessment"]["customer_id"]: row["assessment"]["reason"] for row in rows}
    assert {name for name, reason in standing.items() if reason == "CONSENT_WITHDRAWN"} == denying
    assert denying
    print(f"{sum(map(len, said.values()))} records of {len(said)} customers in scores, {len(denying)} deny profiling")


def owners(log: Log) -> dict[str, str]:
    """Each member's customer by the map as it ended."""
    owner = {record.member_id: record.member_id for _, record in log if isinstance(record, Event)}
    for _, record in log:
        if isinstance(record, MapChanged):
            owner |= {move.member_id: move.to_customer_id for move in record.moves}
    return owner


def assert_tiles_archive_and_oracle_agree(chain: Chain, log: Log) -> None:
    """Every feature of every customer, tiles against batch; of some customers, tiles against the oracle."""
    customers = sorted(set(owners(log).values()))
    reader = TileReader(chain.data / "features.db", Layout(TABLE, ZONE))
    read = reader.read(customers, TABLE.features, chain.clock.now_us())
    reader.close()
    assert read.pos == {0: len(log)}
    assert read.present.all()
    labels = {
        "customer_id": pa.array(customers),
        "t_us": pa.array(read.t_us),
        "pos": pa.array([len(log)] * len(customers)),
    }
    with Batch(chain.data / "archive", TABLE, ZONE, log) as batch:
        rows = batch.connection.execute("SELECT count(*), count(DISTINCT number) FROM all_events").fetchone()
        assert batch.end == len(log)
        assert rows == (len(chain.stream.acknowledged), len(chain.stream.acknowledged))
        expected = batch.vectors(pa.table(labels), TABLE.features)
    tiles = {
        feature.key: [
            int(value) if valid else None
            for value, valid in zip(read.matrix.values[:, column], read.matrix.valid[:, column], strict=True)
        ]
        for column, feature in enumerate(TABLE.features)
    }
    differing = [
        (customer, feature.key, value, wanted)
        for feature in TABLE.features
        for customer, value, wanted in zip(
            customers, tiles[feature.key], expected[feature.key].to_pylist(), strict=True
        )
        if value != wanted
    ]
    assert differing == []
    assert np.count_nonzero(read.matrix.values) > len(customers)
    asked = oracle_differences(log, customers, read.t_us.tolist(), tiles)
    print(
        f"{len(customers) * len(TABLE.features)} values of {len(customers)} customers, 0 differ; {asked} by the oracle"
    )


def oracle_differences(log: Log, customers: list[str], t_us: list[int], tiles: dict[str, list[int | None]]) -> int:
    """Compare some customers, half of them merged ones, with the oracle; the number of values compared."""
    merged = in_merges(log)
    places = sorted(range(len(customers)), key=lambda place: (customers[place] not in merged, customers[place]))
    chosen = [*places[: ORACLE_CUSTOMERS // 2], *places[-(ORACLE_CUSTOMERS // 2) :]]
    compared = 0
    for place in chosen:
        members = oracle.members_at(log, customers[place], t_us[place])
        own = [(at, one) for at, one in log if isinstance(one, MapChanged) or getattr(one, "member_id", "") in members]
        for feature in TABLE.features:
            wanted = oracle.value(feature, own, customers[place], t_us[place], ZONE)
            assert tiles[feature.key][place] == wanted, (customers[place], feature.key)
            compared += 1
    return compared
