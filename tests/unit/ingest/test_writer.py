"""The queue before the one writer: groups, order of answers, a bounded queue, and a request that cannot be written."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from vigie_contracts.errors import LimitExceeded, Unavailable
from vigie_ingest.appender import Appender, Item
from vigie_ingest.messages import read
from vigie_ingest.writer import Writer

from tests.unit.ingest.ingest_world import World, track


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def drafts(world: World, *messages: dict[str, Any]) -> list[Item]:
    import msgspec

    call = read(msgspec.json.encode({"batch": messages}))
    return [*world.normaliser.items(call, "app", world.clock.now_us())]


def test_requests_that_wait_together_share_a_transaction_and_get_their_own_answers(world: World) -> None:
    async def scenario() -> list[list[int]]:
        writer = Writer(world.appender, 100)
        tasks = [asyncio.create_task(writer.submit(drafts(world, track(name, user="u")))) for name in ("1", "2", "1")]
        await asyncio.sleep(0)
        assert writer.waiting == 3
        writer.start()
        answers = await asyncio.gather(*tasks)
        writer.stop()
        return answers

    assert asyncio.run(scenario()) == [[1], [2], [0]]
    assert {event.known_at_us for event in world.events()} == {world.now_us}


def test_too_much_waiting_is_refused_before_memory_grows(world: World) -> None:
    async def scenario() -> None:
        writer = Writer(world.appender, 2)
        first = asyncio.create_task(writer.submit(drafts(world, *(track(str(n), user="u") for n in range(5)))))
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await writer.submit(drafts(world, track("x", user="u")))
        writer.start()
        assert await first == [1, 2, 3, 4, 5]
        assert await writer.submit(drafts(world, track("x", user="u"))) == [6]
        writer.stop()

    asyncio.run(scenario())


class _Poisoned(Appender):
    """Cannot write the event `poison`."""

    def _write(self, connection: Any, items: Any) -> Any:
        if any(item.event_id == "poison" for item in items):
            raise ValueError("poison")
        return super()._write(connection, items)


def test_a_request_that_cannot_be_written_does_not_fail_its_neighbours(world: World) -> None:
    async def scenario() -> list[Any]:
        writer = Writer(_Poisoned(world.engine, world.clock, world.rules, world.sealer, world.folder / "run"), 100)
        names = ("1", "poison", "2")
        tasks = [asyncio.create_task(writer.submit(drafts(world, track(name, user="u")))) for name in names]
        await asyncio.sleep(0)
        writer.start()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        writer.stop()
        return answers

    first, poisoned, last = asyncio.run(scenario())
    assert (first, last) == ([1], [2])
    assert isinstance(poisoned, Unavailable)
