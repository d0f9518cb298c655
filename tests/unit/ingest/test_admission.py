"""A bounded queue that sources share: what one may hold, what is always left for another, and rates. Time is given."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from vigie_contracts.errors import LimitExceeded
from vigie_ingest.admission import Admission, Policy, Room
from vigie_ingest.bodies import ROOM, BodyTooLarge
from vigie_ingest.messages import read
from vigie_ingest.writer import Writer

from tests.unit.ingest.ingest_world import World, track

EVENTS, BYTES = 100, 1_000


def admission(now: Any = lambda: 0.0, writer: Any = None, **policies: Policy) -> Admission:
    made = Admission(writer, (EVENTS, BYTES), 50, now)
    made.enforce(policies)
    return made


def test_a_noisy_source_alone_holds_half_and_a_quiet_one_always_finds_room() -> None:
    gate = admission()
    rooms = [Room(gate) for _ in range(20)]
    taken = 0
    for room in rooms:
        try:
            gate.take(room, "noisy", 10, 10)
        except LimitExceeded:
            continue
        taken += 1
    assert taken == 5
    gate.take(Room(gate), "quiet", 25, 10)
    with pytest.raises(LimitExceeded):
        gate.take(Room(gate), "noisy", 1, 1)


def test_a_heavier_source_may_hold_more_of_it() -> None:
    gate = admission(heavy=Policy(weight=3))
    for _ in range(75):
        gate.take(Room(gate), "heavy", 1, 1)
    with pytest.raises(LimitExceeded):
        gate.take(Room(gate), "heavy", 1, 1)


def test_bytes_are_a_limit_like_events_and_are_given_back_at_the_answer() -> None:
    gate = admission()
    room = Room(gate)
    room.grow(400)
    room.grow(100)
    with pytest.raises(LimitExceeded):
        room.grow(1)
    assert gate.held == (0, 500)
    gate.leave(room)
    assert gate.held == (0, 0)


def test_whose_key_is_known_before_the_body_is_not_refused_for_bodies_that_others_send() -> None:
    gate = admission(heavy=Policy(weight=3))
    for _ in range(5):
        Room(gate).grow(100)
    assert not gate.fits(None, 1)
    assert (gate.fits("quiet", 500), gate.fits("quiet", 501)) == (True, False)
    Room(gate, "noisy").grow(200)
    assert (gate.fits("noisy", 101), gate.fits("noisy", 100)) == (False, True)
    assert (gate.fits("heavy", 300), gate.fits("heavy", 301)) == (True, False)


def test_what_is_larger_than_the_queue_is_let_in_when_nothing_waits() -> None:
    gate = admission()
    gate.take(Room(gate), "big", EVENTS * 3, 0)
    with pytest.raises(LimitExceeded):
        gate.take(Room(gate), "other", 1, 0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 40), st.integers(0, 300), st.booleans()),
        max_size=60,
    )
)
def test_whatever_comes_and_goes_nothing_is_lost_from_the_account_and_the_limits_hold(calls: Any) -> None:
    gate = admission(b=Policy(weight=2))
    open_: list[Room] = []
    for source, events, size, leaves in calls:
        if leaves and open_:
            gate.leave(open_.pop(0))
        room = Room(gate, source)
        alone = gate.held
        try:
            gate.take(room, source, events, size)
        except LimitExceeded:
            assert gate.held == alone
            gate.leave(room)
        else:
            open_.append(room)
            assert gate.held[0] <= EVENTS
            assert gate.held[1] <= BYTES
    for room in open_:
        gate.leave(room)
    assert gate.held == (0, 0)


def submitted(gate: Admission, source: str, items: list[Any]) -> list[int]:
    async def run() -> list[int]:
        scope = {"type": "http", "headers": []}
        room = scope[ROOM] = Room(gate)  # type: ignore[assignment]
        try:
            return await gate.submit(Request(scope), source, items)
        finally:
            gate.leave(room)

    return asyncio.run(run())


def test_a_rate_lets_a_burst_in_and_says_when_the_next_may_come(tmp_path: Path) -> None:
    world = World(tmp_path)
    writer = Writer(world.appender, EVENTS)
    writer.start()
    now = [0.0]
    gate = admission(lambda: now[0], writer, slow=Policy(events_per_second=2))

    def send(count: int, at: float) -> int | None:
        """The pause that was asked for, or null when they were taken."""
        now[0] = at
        messages = [track(f"{at}-{number}", user="ann") for number in range(count)]
        items = [
            item
            for message in messages
            for item in world.normaliser.items(read(_json(message), "track"), "slow", world.now_us)
        ]
        try:
            submitted(gate, "slow", items)
        except LimitExceeded as error:
            return int(error.details["retry_after"])
        return None

    assert send(30, 0.0) is None
    assert send(1, 0.0) == 6
    assert send(1, 4.5) == 1
    assert send(1, 5.5) is None
    assert send(50, 5.6) is None
    assert send(1, 5.6) == 25
    writer.stop()
    assert len(world.events()) == 81
    with pytest.raises(BodyTooLarge, match="at most 50 events"):
        submitted(gate, "slow", [None] * 51)


def _json(message: dict[str, Any]) -> bytes:

    return msgspec.json.encode(message)
