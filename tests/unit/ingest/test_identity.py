"""Whose an event is: each rule by name."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event
from vigie_contracts.errors import InvalidInput
from vigie_contracts.events import MapChanged, MapMove
from vigie_contracts.reads import CustomersRequest, Lookup
from vigie_ingest.identity import (
    DEFAULT_RULES,
    FILE,
    MAX_MEMBERS,
    IdentityRules,
    Member,
    Party,
    Rules,
    refusal_of_merge,
)

from tests.unit.ingest.ingest_world import NOW_US, World, identify, track

FEATURE_REPO = Path(__file__).resolve().parents[3] / "feature_repo"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_anonymous_id_joins_the_first_user_id_that_identifies_on_it(world: World) -> None:
    world.send(track("1", anonymous="device"))
    world.at(NOW_US + 1)
    world.send(identify("2", user="ann", anonymous="device"))
    device, ann = world.events()
    assert world.customer_of("user_id", "ann") == world.customer_of("anonymous_id", "device") == device.member_id
    (merge,) = world.merges()
    assert merge.moves == [MapMove(ann.member_id, ann.member_id, device.member_id)]
    assert (merge.known_at_us, merge.because) == (NOW_US + 1, "identified")


def test_the_event_carries_the_user_ids_member_when_both_ids_came(world: World) -> None:
    world.send(track("1", user="ann"), track("2", anonymous="device"), track("3", user="ann", anonymous="device"))
    ann, device, both = world.events()
    assert both.member_id == ann.member_id != device.member_id


def test_a_second_user_id_on_a_shared_device_is_not_merged(world: World) -> None:
    world.send(track("1", anonymous="device"))
    world.send(identify("2", user="ann", anonymous="device"), identify("3", user="bob", anonymous="device"))
    world.send(track("4", anonymous="device"), identify("5", user="ann", anonymous="device"))
    world.send(track("6", anonymous="device"))
    ann, bob, device = (
        world.customer_of(*key) for key in (("user_id", "ann"), ("user_id", "bob"), ("anonymous_id", "device"))
    )
    assert len({ann, bob, device}) == 3
    first, _, _, later, _, last = world.events()
    assert first.member_id == ann
    assert later.member_id == last.member_id == device
    assert len(world.merges()) == 1
    (note,) = world.reads.receipt("3", "app").notes
    assert note.startswith("the anonymous id is a shared device: a second user id identified on it")
    assert world.reads.receipt("5", "app").notes == []


def test_undoing_the_first_merge_leaves_a_shared_device_shared(world: World) -> None:
    world.send(track("1", anonymous="device"))
    world.send(identify("2", user="ann", anonymous="device"), identify("3", user="bob", anonymous="device"))
    (merge,) = (number for number, record in enumerate(world.records(), 1) if isinstance(record, MapChanged))
    world.undo(merge, "it was never hers")
    world.send(track("4", anonymous="device"), identify("5", user="ann", anonymous="device"))
    first, *_, later, _ = world.events()
    owners = {world.customer_of("user_id", "ann"), world.customer_of("user_id", "bob")}
    assert later.member_id == world.customer_of("anonymous_id", "device") not in {*owners, first.member_id}
    assert [len(record.moves) for record in world.merges()] == [1, 1]


def test_an_alias_to_a_shared_device_is_ignored_and_said(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"), identify("2", user="bob", anonymous="device"))
    world.send({"type": "alias", "messageId": "3", "previousId": "device", "userId": "bob"})
    world.send({"type": "alias", "messageId": "4", "previousId": "null", "userId": "bob"})
    assert world.reads.receipt("3", "app").notes == ["the alias was ignored: previousId is a shared device"]
    assert world.reads.receipt("4", "app").notes == [
        "the alias was ignored: previousId is a placeholder that stands for nobody"
    ]
    assert world.customer_of("anonymous_id", "null") is None


def test_a_placeholder_beside_a_good_id_is_ignored_and_the_receipt_says_so(world: World) -> None:
    world.send(track("1", user="null", anonymous="device"), track("2", user="ann", anonymous="0000"))
    assert world.reads.receipt("1", "app").notes == ["userId was ignored: it is a placeholder that stands for nobody"]
    assert world.reads.receipt("2", "app").notes == [
        "anonymousId was ignored: it is a placeholder that stands for nobody"
    ]
    assert world.merges() == []


def test_priority_decides_whose_an_event_is(world: World, tmp_path: Path) -> None:
    first, second = DEFAULT_RULES.namespace
    swapped = [msgspec.structs.replace(first, priority=2), msgspec.structs.replace(second, priority=1)]
    other = World(tmp_path / "other", rules=Rules(IdentityRules(namespace=swapped)))
    for one in (world, other):
        one.send(track("1", user="ann"), track("2", anonymous="device"), track("3", user="ann", anonymous="device"))
    (ann, _, both), (_, device, by_device) = world.events(), other.events()
    assert (both.member_id, by_device.member_id) == (ann.member_id, device.member_id)


def test_the_group_that_a_customer_belongs_to_is_shown(world: World) -> None:
    world.send({"type": "group", "messageId": "1", "groupId": "acme", "userId": "ann", "traits": {"size": 3}})
    world.at(NOW_US + 5)
    world.send({"type": "group", "messageId": "2", "groupId": "household 7", "anonymousId": "device"})
    world.send(identify("3", user="ann", anonymous="device"))
    (row,) = world.reads.customers(CustomersRequest(customer_ids=[world.events()[0].member_id])).customers
    assert row is not None
    assert [(account.account_id, account.since_us) for account in row.accounts] == [
        ("household 7", NOW_US + 5),
        ("acme", NOW_US),
    ]


def test_a_second_user_id_of_the_same_customer_is_no_shared_device(world: World) -> None:
    world.send(identify("1", user="ann", anonymous="device"))
    world.send({"type": "alias", "messageId": "2", "previousId": "ann", "userId": "ann@new"})
    world.send(identify("3", user="ann@new", anonymous="device"), track("4", anonymous="device"))
    assert world.customer_of("anonymous_id", "device") == world.customer_of("user_id", "ann@new")


def test_many_devices_make_one_customer_named_by_the_oldest_member(world: World) -> None:
    world.send(track("1", anonymous="phone"), track("2", user="ann"), track("3", anonymous="tablet"))
    world.send(identify("4", user="ann", anonymous="tablet"), identify("5", user="ann", anonymous="phone"))
    phone, ann, tablet = (event.member_id for event in world.events()[:3])
    answer = world.reads.customers(CustomersRequest(customer_ids=[tablet, phone, "nobody", ann]))
    found = [row and (row.asked, row.customer_id, row.member_ids) for row in answer.customers]
    members = [phone, ann, tablet]
    assert found == [(tablet, phone, members), (phone, phone, members), None, (ann, phone, members)]
    assert answer.customers[0] is not None
    assert (answer.customers[0].external_id, answer.customers[0].anonymous) == ("ann", False)


def test_an_alias_merges_two_user_ids_and_joins_an_anonymous_one(world: World) -> None:
    world.send(track("1", user="old"), track("2", user="new"))
    world.send({"type": "alias", "messageId": "3", "previousId": "old", "userId": "new"})
    world.send({"type": "alias", "messageId": "4", "previousId": "device", "userId": "new"})
    old = world.customer_of("user_id", "old")
    assert old == world.customer_of("user_id", "new") == world.customer_of("anonymous_id", "device")
    assert [merge.because for merge in world.merges()] == ["alias", "identified"]


def test_a_customer_has_at_most_32_members_and_the_receipt_says_so(world: World) -> None:
    world.send(*(identify(str(place), user="ann", anonymous=f"device-{place}") for place in range(MAX_MEMBERS)))
    assert len(world.merges()) == MAX_MEMBERS - 1
    world.send(identify("again", user="ann", anonymous="device-31"))
    assert world.reads.receipt("again", "app").notes == world.reads.receipt("31", "app").notes
    assert world.reads.counts()["identity"] == {
        "merges": 31, "merges_refused": 2, "merges_undone": 0, "shared_devices": 0,
    }  # fmt: skip
    assert world.reads.receipt("30", "app").notes == []
    assert world.reads.receipt("31", "app").verdict == "accepted"
    assert world.reads.receipt("31", "app").notes == [
        "the merge was refused: 33 members, and a customer has at most 32"
    ]
    assert world.customer_of("anonymous_id", "device-31") != world.customer_of("user_id", "ann")


def test_a_storm_of_merges_onto_one_customer_is_bounded_and_harms_nobody_else(world: World) -> None:
    storm = 3_000
    statements: list[int] = []

    def count(*_: object) -> None:
        statements[-1] += 1

    event.listen(world.engine, "before_cursor_execute", count)
    for start in range(0, storm, 500):
        statements.append(0)
        names = [f"s{place}" for place in range(start, start + 500)]
        calls = [identify(name, user="ann", anonymous=f"device-{name}") for name in names]
        assert min(world.send(*calls, identify(f"b{start}", user="bob", anonymous="bobs"))) > 0
    event.remove(world.engine, "before_cursor_execute", count)
    assert max(statements[1:]) == min(statements[1:]), "the work of a batch must not grow with what was refused before"
    assert world.reads.counts()["identity"] == {
        "merges": MAX_MEMBERS, "merges_refused": storm - (MAX_MEMBERS - 1), "merges_undone": 0, "shared_devices": 0,
    }  # fmt: skip
    asked = CustomersRequest(lookups=[Lookup(namespace="user_id", value=name) for name in ("ann", "bob")])
    ann, bob = world.reads.customers(asked).customers
    assert ann is not None
    assert bob is not None
    assert (len(ann.member_ids), len(bob.member_ids)) == (MAX_MEMBERS, 2)
    assert [world.reads.receipt(f"b{start}", "app").notes for start in range(0, storm, 500)] == [[]] * 6


def test_a_refused_merge_reads_nothing_the_first_time_and_three_times_when_it_is_tried_again(world: World) -> None:
    world.send(*(identify(f"a{place}", user="ann", anonymous=f"device-{place}") for place in range(MAX_MEMBERS - 1)))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def sent(first: int, last: int, again: str) -> tuple[int, int]:
        """How many statements so many refused merges cost, and how many of these only read."""
        statements.clear()
        world.send(*(identify(f"{place}{again}", user="ann", anonymous=f"x{place}") for place in range(first, last)))
        return len(statements), sum(statement.startswith("SELECT") for statement in statements)

    event.listen(world.engine, "before_cursor_execute", note)
    one, new, again = sent(0, 1, ""), sent(1, 129, ""), sent(1, 129, " again")
    event.remove(world.engine, "before_cursor_execute", note)
    assert new[1] == one[1]
    assert new[0] < one[0] + 128 / 8, "rows are written many at a time"
    assert again[1] == one[1] - 1 + 3 * 128, "of names that are remembered nothing is looked up"
    assert again[0] < 4 * 128
    assert world.reads.counts()["identity"]["merges_refused"] == 1 + 2 * 128


def test_what_a_batch_merges_and_shares_counts_for_the_limits_of_its_later_merges(world: World) -> None:
    aliases = [{"type": "alias", "messageId": f"m{n}", "previousId": f"u{n}", "userId": "u0"} for n in range(1, 9)]
    world.send(*(track(str(n), user=f"u{n}") for n in range(9)), *aliases)
    assert world.reads.receipt("m7", "app").notes == []
    assert world.reads.receipt("m8", "app").notes == [
        "the merge was refused: 9 identities 'user_id', and the limit is 8"
    ]
    rules = Rules(IdentityRules(namespace=[msgspec.structs.replace(rule, limit=2) for rule in DEFAULT_RULES.namespace]))
    other = World(world.folder / "other", rules=rules)
    other.send(
        identify("1", user="ann", anonymous="tablet"),
        identify("2", user="ann", anonymous="phone"),
        identify("3", user="bob", anonymous="tablet"),  # the tablet leaves ann, who has room for one more
        identify("4", user="ann", anonymous="watch"),
        identify("5", user="ann", anonymous="car"),
    )
    assert other.reads.receipt("4", "app").notes == []
    assert other.reads.receipt("5", "app").notes == [
        "the merge was refused: 3 identities 'anonymous_id', and the limit is 2"
    ]


def test_a_namespaces_limit_refuses_the_merge() -> None:
    one = Party("a", [Member(1, "a")], {"user_id": 5})
    other = Party("b", [Member(2, "b")], {"user_id": 4, "anonymous_id": 1})
    assert refusal_of_merge(one, other, Rules()) == "the merge was refused: 9 identities 'user_id', and the limit is 8"
    other.identities["user_id"] = 3
    assert refusal_of_merge(one, other, Rules()) is None


@pytest.mark.parametrize(
    "value", ["", "0", "000-000", "-1", "null", "NULL", "Anonymous", "undefined", "[object Object]", "n/a"]
)
def test_placeholders_stand_for_nobody(value: str) -> None:
    assert Rules().blocked("user_id", value)
    assert Rules().blocked("anonymous_id", value)


@pytest.mark.parametrize("value", ["1", "10", "-2", "nullable", "ann", "0a"])
def test_ordinary_ids_stand_for_somebody(value: str) -> None:
    assert not Rules().blocked("user_id", value)


@pytest.mark.parametrize("value", ["test@bank.fr", "Ann@example.com", "x@mail.example.org", "a@b.test", "a@localhost"])
def test_test_mails_are_no_user_ids_but_may_be_device_names(value: str) -> None:
    assert Rules().blocked("user_id", value)
    assert not Rules().blocked("anonymous_id", value)


RULES = """
members = 2
blocked = ["demo.*"]
[[namespace]]
namespace = "user_id"
priority = 2
limit = 3
blocked = ["nobody"]
[[namespace]]
namespace = "anonymous_id"
priority = 1
limit = 4
"""


def test_rules_are_data_and_replace_the_defaults(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(RULES)
    rules = Rules.load(tmp_path)
    assert (rules.members, rules.limit("user_id"), rules.limit("anonymous_id")) == (2, 3, 4)
    assert rules.priority("anonymous_id") < rules.priority("user_id")
    assert [rules.blocked("user_id", value) for value in ("DEMO-1", "Nobody", "null")] == [True, True, False]
    assert [rules.blocked("anonymous_id", value) for value in ("DEMO-1", "nobody")] == [True, False]


def test_the_shipped_rules_are_those_that_hold_without_a_file(tmp_path: Path) -> None:
    shipped, default = Rules.load(FEATURE_REPO), Rules.load(tmp_path)
    assert shipped.by_namespace == default.by_namespace == {rule.namespace: rule for rule in DEFAULT_RULES.namespace}
    assert shipped.members == default.members == MAX_MEMBERS
    for value in DEFAULT_RULES.blocked:
        assert f"'{value}'" in (FEATURE_REPO / FILE).read_text()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("members = 2", "members = 33", "members must lie between 1 and 32, not be 33"),
        ("limit = 3", "limit = 0", "the limit of user_id must be at least 1, not 0"),
        ("priority = 2", "priority = 1", "two namespaces have the same priority; number them in the order in which"),
        ('"nobody"', '"no(body"', "blocked value 'no(body' is no regular expression"),
        ('"anonymous_id"', '"device"', "the identity rules need the namespaces user_id and anonymous_id, each once"),
        ("members = 2", "membres = 2", "membres"),
    ],
)
def test_wrong_rules_are_refused_in_words_that_name_the_file(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    (tmp_path / FILE).write_text(RULES.replace(old, new))
    with pytest.raises(InvalidInput) as refused:
        Rules.load(tmp_path)
    assert str(tmp_path / FILE) in refused.value.message
    assert sentence in refused.value.message


def test_the_history_of_the_map_is_kept(world: World) -> None:
    world.send(track("1", anonymous="device"))
    world.at(NOW_US + 10)
    world.send(identify("2", user="ann", anonymous="device"))
    with world.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT member_no, from_us, until_us, because FROM map_history ORDER BY rowid"
        ).all()
    assert [tuple(row) for row in rows] == [
        (2, NOW_US + 10, NOW_US + 10, "minted"),
        (2, NOW_US + 10, None, "identified"),
    ]
