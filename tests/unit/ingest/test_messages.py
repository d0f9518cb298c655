"""Segment's shapes: what is read, what is quarantined, and that one bad message spoils nothing."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_ingest.domain import MAX_DEPTH, Draft, Refusal
from vigie_ingest.identity import Rules
from vigie_ingest.messages import Normaliser, read

from tests.unit.ingest.ingest_world import CATALOGUE, NOW_US, World, identify, track

NORMALISER = Normaliser(CATALOGUE, Rules())


def nested(levels: int) -> dict[str, Any]:
    """An object whose field holds `levels` levels of lists and objects in turn."""
    value: Any = "end"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return {"field": value}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "track", "event": "x", "messageId": "bad"}, "no_user_anon_id"),
    ({"type": "track", "event": "x", "userId": "", "messageId": "bad"}, "no_user_anon_id"),
    (
        {"type": "track", "event": "x", "userId": "null", "anonymousId": "0000-00", "messageId": "bad"},
        "blocked_identity",
    ),
    ({"type": "track", "userId": "u", "messageId": "bad"}, "no_event_name"),
    ({"type": "dance", "userId": "u", "messageId": "bad"}, "unknown_type"),
    ({"userId": "u", "event": "x", "messageId": "bad"}, "unknown_type"),
    ({"type": "group", "userId": "u", "messageId": "bad"}, "no_group_id"),
    ({"type": "alias", "userId": "u", "messageId": "bad"}, "no_previous_id"),
    ({"type": "track", "event": ["x"], "userId": "u", "messageId": "bad"}, "malformed"),
    ({"type": "track", "event": "x", "userId": "u", "messageId": "bad", "timestamp": "yesterday"}, "malformed"),
    (
        {"type": "track", "event": "x", "userId": "u", "messageId": "bad", "timestamp": "2026-01-01T00:00:00"},
        "naive_time",
    ),
    ({"type": "track", "event": "x", "userId": "u" * 256, "messageId": "bad"}, "id_too_long"),
    (
        {"type": "track", "event": "transfer.made", "userId": "u", "messageId": "bad", "properties": {"amount": "?"}},
        "bad_number",
    ),
    ({"type": "identify", "userId": "u", "messageId": "bad", "traits": {"income": "much"}}, "bad_attribute"),
    ({"type": "track", "event": "x", "userId": "u", "messageId": "bad", "properties": nested(MAX_DEPTH)}, "too_deep"),
    ({"type": "track", "event": "x", "userId": "u", "messageId": "bad", "context": nested(MAX_DEPTH)}, "too_deep"),
]


def batch(*messages: Any, **more: Any) -> list[Draft | Refusal]:
    return NORMALISER.items(read(msgspec.json.encode({"batch": list(messages), **more})), "app", NOW_US)


@pytest.mark.parametrize(("message", "code"), BAD, ids=[code + str(place) for place, (_, code) in enumerate(BAD)])
def test_a_bad_message_is_refused_whole_and_its_neighbours_pass(message: dict[str, Any], code: str) -> None:
    first, bad, last = batch(track("1", user="u"), message, track("2", user="u"))
    assert isinstance(first, Draft)
    assert isinstance(last, Draft)
    assert isinstance(bad, Refusal)
    assert (bad.code, bad.event_id, bad.source_id) == (code, "bad", "app")
    assert msgspec.json.decode(bad.body) == message


def test_what_is_nested_as_deep_as_allowed_is_taken() -> None:
    (draft,) = batch(track("1", user="u", properties=nested(MAX_DEPTH - 1), context=nested(MAX_DEPTH - 1)))
    assert isinstance(draft, Draft)


def test_a_message_that_is_no_object_is_refused_with_an_assigned_id() -> None:
    (bad,) = batch(17)
    assert isinstance(bad, Refusal)
    assert (bad.code, bad.body, len(bad.event_id)) == ("malformed", b"17", 32)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"17", b'{"batch":{}}', b'{"batch":[{]}', b"[" * 100_000])
def test_an_unreadable_body_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        NORMALISER.items(read(body), "app", NOW_US)


def test_batch_fields_reach_the_messages() -> None:
    (draft,) = batch(
        track("1", user="u", timestamp="2026-01-01T00:00:00Z", context={"os": 1}),
        sentAt="2026-01-01T00:01:00Z",
        context={"os": 2, "app": 3},
    )
    assert isinstance(draft, Draft)
    assert draft.times.effective_us == NOW_US - 60_000_000
    assert draft.context.value == {"os": 1, "app": 3}


def test_the_slow_path_reads_the_same_as_the_fast_one() -> None:
    good = track("1", user="u", timestamp="2026-01-01T00:00:00Z", properties={"a": 1})
    more: dict[str, Any] = {"sentAt": "2026-01-01T00:01:00Z", "context": {"app": 3}}
    assert batch(good, **more)[0] == batch(good, {"type": "dance"}, **more)[0]


def test_ids_may_be_numbers_or_null() -> None:
    (draft,) = batch({"type": "track", "event": "x", "userId": 42, "anonymousId": None, "messageId": None})
    assert isinstance(draft, Draft)
    assert (draft.user_id, draft.anonymous_id, len(draft.event_id)) == ("42", None, 32)


def test_a_blocked_user_id_leaves_the_anonymous_one() -> None:
    (draft,) = batch(track("1", user="undefined", anonymous="device-7"))
    assert isinstance(draft, Draft)
    assert (draft.user_id, draft.anonymous_id) == (None, "device-7")


def test_measures_are_scaled_once() -> None:
    (draft,) = batch(track("1", user="u", event="transfer.made", properties={"amount": 12.345, "direction": "out"}))
    assert isinstance(draft, Draft)
    assert draft.measures == {"amount": 1234}


def test_a_single_call_takes_its_kind_from_the_path() -> None:
    (draft,) = NORMALISER.items(read(msgspec.json.encode({"userId": "u", "name": "Help"}), "page"), "app", NOW_US)
    assert isinstance(draft, Draft)
    assert (draft.kind, draft.name, draft.properties) == ("page", "help.viewed", {"name": "Help"})


def test_the_write_key_is_found_in_any_body() -> None:
    assert read(b'{"writeKey":"k","batch":[]}').write_key == "k"
    assert read(b'{"writeKey":"k","messageId":"1"}', "track").write_key == "k"
    assert read(b"{}", "track").write_key is None


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = (
    "type",
    "event",
    "userId",
    "anonymousId",
    "messageId",
    "timestamp",
    "sentAt",
    "properties",
    "traits",
    "context",
    "name",
    "groupId",
    "previousId",
)


@given(st.lists(st.dictionaries(st.sampled_from(fields), json, max_size=6), max_size=4))
def test_every_message_of_a_readable_body_becomes_a_draft_or_a_refusal(messages: list[dict[str, Any]]) -> None:
    assert len(batch(*messages)) == len(messages)


def test_an_identify_keeps_traits_that_nobody_declared() -> None:
    (draft,) = batch(identify("1", user="u", traits={"ageBand": "65+", "shoe": 44}))
    assert isinstance(draft, Draft)
    assert draft.traits == {"age_band": "65+", "shoe": 44}


@pytest.mark.parametrize("text", [b'"\x80"', b'{"\x80":1}'])
@pytest.mark.parametrize("field", ["event", "properties", "messageId", "context"])
def test_what_is_no_utf_8_goes_to_quarantine_and_the_rest_of_its_batch_is_taken(
    tmp_path: Path, field: str, text: bytes
) -> None:
    world = World(tmp_path)
    good = msgspec.json.encode(track("good", user="u"))
    bad = good.replace(b'"good"', b'"bad"')[:-1] + b',"%s":%s}' % (field.encode(), text)
    found = world.normaliser.items(read(b'{"batch":[%s,%s]}' % (bad, good)), "app", NOW_US)
    assert [type(item) for item in found[1:]] == [Draft]
    if isinstance(found[0], Refusal):
        assert (found[0].code, found[0].body) == ("malformed", bad)
    numbers = world.appender.append(found)
    assert numbers[1] > 0
    assert len(world.quarantine.events(None)) == isinstance(found[0], Refusal)
