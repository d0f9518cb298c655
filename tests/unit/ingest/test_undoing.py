"""Undoing merges and explaining them: what parts, what stays, what is refused, and what the log says."""

from pathlib import Path

import msgspec
import pytest
from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.events import MapChanged, MapMove, encode_record
from vigie_contracts.reads import CustomersRequest, IdentityExplanation, Lookup, MergeEvent
from vigie_contracts.subjects import ErasureRequest
from vigie_ingest.explaining import MAX_REFUSALS
from vigie_ingest.undoing import MAX_KEY, MAX_REASON

from tests.unit.ingest.ingest_world import NOW_US, World, identify, track


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def alias(message_id: str, previous: str, user: str) -> dict[str, str]:
    return {"type": "alias", "messageId": message_id, "previousId": previous, "userId": user}


def customers(world: World, *users: str) -> list[str | None]:
    return [world.customer_of("user_id", user) for user in users]


def explained(world: World, value: str, namespace: str = "user_id") -> IdentityExplanation:
    (found,) = world.reads.explain(CustomersRequest(lookups=[Lookup(namespace=namespace, value=value)])).customers
    assert found is not None
    return found


def test_an_undone_merge_leaves_two_customers_with_their_old_ids(world: World) -> None:
    world.send(track("1", anonymous="device"), track("2", user="ann"))
    device, ann = (event.member_id for event in world.events())
    world.send(identify("3", user="ann", anonymous="device"))
    world.at(NOW_US + 10)
    answer = world.undo(3, " the tablet was lent ")
    assert (answer.number, answer.undoes, answer.known_at_us) == (5, 3, NOW_US + 10)
    assert answer.moves == [MapMove(ann, device, ann)]
    assert world.records()[4] == MapChanged(
        moves=answer.moves, known_at_us=NOW_US + 10, because="undo", between=(device, ann), undoes=3,
        reason="the tablet was lent",
    )  # fmt: skip
    assert (world.customer_of("user_id", "ann"), world.customer_of("anonymous_id", "device")) == (ann, device)
    assert world.appender.end == 5


def test_an_undone_merge_does_not_come_back_by_itself(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"))
    world.undo(1, "wrong")
    world.send(identify("2", user="ann", anonymous="device"), track("3", user="ann", anonymous="device"))
    world.restart()
    world.send(track("4", user="ann", anonymous="device"))
    note = "the merge was refused: it was undone (record 3 of the log of events)"
    assert [world.reads.receipt(name, "app").notes for name in "1234"] == [[], [note], [note], [note]]
    assert world.customer_of("user_id", "ann") != world.customer_of("anonymous_id", "device")
    assert world.reads.counts()["identity"] == {
        "merges": 1, "merges_refused": 3, "merges_undone": 1, "shared_devices": 0,
    }  # fmt: skip


def test_undoing_the_undo_joins_again_and_both_can_be_repeated(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"))
    for _ in range(2):
        undone = world.undo(1, "wrong").number
        assert world.customer_of("user_id", "ann") != world.customer_of("anonymous_id", "device")
        restored = world.undo(undone, "it was right")
        assert world.records()[-1].because == "restored"
        assert [move.to_customer_id for move in restored.moves] == [world.customer_of("user_id", "ann")]
        assert world.customer_of("user_id", "ann") == world.customer_of("anonymous_id", "device")
        with pytest.raises(NotFound):
            world.undo(undone, "again")
    world.send(track("2", user="ann", anonymous="device"))
    assert world.reads.receipt("2", "app").notes == []
    assert len(world.merges()) == 5


def test_what_was_merged_later_goes_with_the_member_that_it_was_merged_with(world: World) -> None:
    world.send(track("1", user="a"), track("2", user="b"), track("3", user="c"))
    world.send(alias("4", "a", "b"), alias("5", "b", "c"))
    assert len(set(customers(world, "a", "b", "c"))) == 1
    world.undo(4, "a is another person")
    a, b, c = (event.member_id for event in world.events()[:3])
    assert customers(world, "a", "b", "c") == [a, b, b]
    world.undo(6, "and so is c")
    assert customers(world, "a", "b", "c") == [a, b, c]


def test_two_members_that_were_joined_twice_stay_together_when_one_merge_is_undone(world: World) -> None:
    world.send(track("1", user="a"), track("2", user="b"), track("3", user="c"))
    world.send(alias("4", "a", "b"), alias("5", "b", "c"), alias("6", "a", "c"), alias("7", "c", "a"))
    third = world.merges()[2]
    assert (third.moves, third.because, len(world.merges())) == ([], "alias", 3)
    assert world.undo(4, "a is not b").moves == []
    assert len(set(customers(world, "a", "b", "c"))) == 1
    assert len(world.undo(8, "a is not c").moves) == 2
    assert len(set(customers(world, "a", "b", "c"))) == 2


def test_a_restored_merge_must_keep_the_limits(world: World) -> None:
    world.send(*(identify(f"a{place}", user="ann", anonymous=f"phone-{place}") for place in range(31)))
    assert len(explained(world, "ann").members) == 32
    first = explained(world, "ann").merges[0].number
    undone = world.undo(first, "lent").number
    world.send(identify("b", user="ann", anonymous="tablet"))
    with pytest.raises(Conflict, match="33 members, and a customer has at most 32"):
        world.undo(undone, "it was hers")
    assert len(explained(world, "ann").members) == 32
    assert not isinstance(world.records()[-1], MapChanged)


def test_what_cannot_be_undone_is_refused_in_words_and_changes_nothing(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"))
    with pytest.raises(NotFound, match="record 2 of the log of events is no merge"):
        world.undo(2, "an event")
    for reason in ("  ", "x" * (MAX_REASON + 1)):
        with pytest.raises(InvalidInput, match="say why in 1 to 500 characters"):
            world.undo(1, reason)
    world.undo(1, "wrong")
    with pytest.raises(Conflict, match="the merge 1 was undone already, by record 3"):
        world.undo(1, "wrong")
    assert len(world.records()) == 3
    assert world.appender.end == 3


def test_the_same_key_undoes_once_and_is_answered_the_same(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"), identify("2", user="bob", anonymous="phone"))
    first = world.undo(1, "lent", "k")
    restored = world.undo(first.number, "it was hers", "k2")
    world.restart()
    assert world.undo(1, "lent", "k") == msgspec.structs.replace(first, already=True)
    assert world.undo(first.number, "it was hers", "k2").number == restored.number == len(world.records())
    assert world.customer_of("user_id", "ann") == world.customer_of("anonymous_id", "device")
    with pytest.raises(Conflict, match="this idempotency key undid record 1; give the undo of 3 a key of its own"):
        world.undo(3, "lent", "k")
    for key in ("", "x" * (MAX_KEY + 1)):
        with pytest.raises(InvalidInput, match="an idempotency key has 1 to 200 characters"):
            world.undo(3, "lent", key)
    customer = world.customer_of("user_id", "ann")
    assert customer is not None
    world.eraser.erase(ErasureRequest(erasure_id="e", customer_id=customer))
    with pytest.raises(NotFound, match="the person was erased since"):
        world.undo(1, "lent", "k")


def test_an_explanation_says_which_event_by_which_rule_and_when(world: World) -> None:
    world.send(track("1", user="ann"), track("2", anonymous="device"))
    ann, device = (event.member_id for event in world.events())
    world.at(NOW_US + 10)
    world.send({"type": "alias", "messageId": "3", "previousId": "old", "userId": "ann", "anonymousId": "device"})
    found = explained(world, "device", "anonymous_id")
    assert (found.asked, found.customer_id) == ("device", ann)
    assert [[(row.namespace, row.value) for row in member.identities] for member in found.members] == [
        [("user_id", "ann")], [("anonymous_id", "device")], [("anonymous_id", "old")],
    ]  # fmt: skip
    assert [(row.rule, row.number, row.members) for row in found.merges] == [
        ("identified", 3, (ann, device)),
        ("identified", 4, (ann, found.members[2].member_id)),
    ]
    cause = MergeEvent(number=5, source_id="app", event_id="3", kind="alias", effective_at_us=NOW_US + 10)
    assert [(row.event, row.known_at_us, row.undone_number) for row in found.merges] == [(cause, NOW_US + 10, None)] * 2


def test_an_explanation_keeps_what_was_undone_on_both_sides(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"))
    world.at(NOW_US + 10)
    world.undo(1, "lent")
    for value, namespace in (("ann", "user_id"), ("device", "anonymous_id")):
        found = explained(world, value, namespace)
        (row,) = found.merges
        assert len(found.members) == 1
        assert (row.undone_number, row.changed_at_us, row.reason) == (3, NOW_US + 10, "lent")
    asked = CustomersRequest(customer_ids=["nobody"], lookups=[Lookup(namespace="user_id", value="none")])
    assert world.reads.explain(asked).customers == [None, None]
    with pytest.raises(InvalidInput, match="at most 100 customers"):
        world.reads.explain(CustomersRequest(customer_ids=["x"] * 101))


def test_an_explanation_says_what_was_refused_how_often_and_why(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="tablet"))
    world.at(NOW_US + 10)
    world.send(identify("2", user="bob", anonymous="tablet"), identify("3", user="ann", anonymous="phone"))
    ann, tablet, bob, phone = (
        customer for customer in (*customers(world, "ann"), world.customer_of("anonymous_id", "tablet"),
                                  *customers(world, "bob"), world.customer_of("anonymous_id", "phone"))
    )  # fmt: skip
    (row,) = explained(world, "ann").refused
    assert explained(world, "bob").refused == [row]
    assert (row.rule, row.times, row.first_us, row.last_us) == ("identified", 1, NOW_US + 10, NOW_US + 10)
    assert (row.source_id, row.event_id) == ("app", "2")
    assert row.reason.startswith("the anonymous id is a shared device: a second user id identified on it")
    (identity,) = explained(world, "tablet", "anonymous_id").members[0].identities
    assert identity.shared
    assert not any(one.shared for member in explained(world, "ann").members for one in member.identities)
    assert phone == ann
    assert len({ann, bob, tablet}) == 3

    merge = explained(world, "ann").merges[-1].number
    undone = world.undo(merge, "lent").number
    for place in range(3):
        world.at(NOW_US + 20 + place)
        world.send(*(identify(f"a{place}-{n}", user="ann", anonymous="phone") for n in range(2)))
    latest, shared = explained(world, "ann").refused
    assert (latest.reason, latest.times) == (
        f"the merge was refused: it was undone (record {undone} of the log of events)", 6,
    )  # fmt: skip
    assert (latest.first_us, latest.last_us, latest.event_id) == (NOW_US + 20, NOW_US + 22, "a2-1")
    assert shared == row
    world.undo(undone, "it was hers")
    assert explained(world, "ann").refused == [row], "what is joined now was not refused"


def test_an_explanation_of_a_storm_tells_the_latest_hundred_refusals(world: World) -> None:
    world.send(*(identify(f"a{place}", user="ann", anonymous=f"d{place}") for place in range(31 + MAX_REFUSALS)))
    assert len(explained(world, "ann").refused) == MAX_REFUSALS
    assert not explained(world, "ann").refused_more
    world.at(NOW_US + 10)
    world.send(identify("last", user="ann", anonymous="last"))
    found = explained(world, "ann")
    assert (len(found.refused), found.refused_more, found.refused[0].event_id) == (MAX_REFUSALS, True, "last")


def test_merges_that_were_logged_before_links_were_kept_can_be_undone(world: World) -> None:
    world.send(track("1", user="ann"), identify("2", user="ann", anonymous="phone"))
    world.send(identify("3", user="ann", anonymous="tablet"))
    before = world.merges()
    with world.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("DROP TABLE links")
        for number, change in ((2, before[0]), (4, before[1])):
            bare = MapChanged(moves=change.moves, known_at_us=change.known_at_us, because=change.because)
            connection.exec_driver_sql(
                "UPDATE log_events SET payload = ? WHERE number = ?", (encode_record(bare), number)
            )
        connection.exec_driver_sql("COMMIT")
    world.engine.dispose()
    again = World(world.folder)
    assert again.reads.counts()["identity"]["merges"] == 2
    assert [row.number for row in explained(again, "ann").merges] == [2, 4]
    again.undo(2, "lent")
    assert again.customer_of("anonymous_id", "phone") != again.customer_of("user_id", "ann")
    assert again.customer_of("anonymous_id", "tablet") == again.customer_of("user_id", "ann")
    again.engine.dispose()
