"""mParticle's batches: whose, which kind, which id, and what is refused."""

from typing import Any

import msgspec
import pytest
from vigie_contracts.errors import InvalidInput
from vigie_ingest.shapes.envelope import hashed_email
from vigie_ingest.shapes.mparticle import read

from tests.unit.ingest.ingest_world import NOW_US, World
from tests.unit.ingest.shapes_world import NOW_MS, accepted, deliver, refused, said, taken

USER = {"user_identities": {"customer_id": "u1"}, "mp_deviceid": "d1"}


def event(event_type: str, **data: Any) -> dict[str, Any]:
    return {"event_type": event_type, "data": {"timestamp_unixtime_ms": NOW_MS - 5_000, **data}}


@pytest.mark.parametrize(
    ("sent", "kind", "name"),
    [
        (event("custom_event", event_name="Transfer Made"), "track", "transfer.made"),
        (event("custom_event", event_name="Shoe Tied"), "track", "Shoe Tied"),
        (event("screen_view", screen_name="Home"), "screen", "screen.viewed"),
        (event("session_start"), "track", "session_start"),
        (event("session_end", session_duration_ms=90_500), "track", "session.ended"),
        (event("uninstall"), "track", "app.uninstalled"),
        (event("profile", profile_event_type="login"), "track", "app.logged_in"),
        (event("push_message", push_message_type="action"), "track", "message.opened"),
        (
            event("commerce_event", product_action={"action": "purchase", "total_amount": 9}),
            "track",
            "commerce.purchase",
        ),
        (event("user_attribute_change", user_attribute_name="$State", new="Bretagne"), "identify", "identify"),
        (event("opt_out", is_opted_out=True), "track", "opt_out"),
        (event("first_run"), "track", "first_run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_event_type_is_an_event_of_the_user(sent: dict[str, Any], kind: str, name: str) -> None:
    (draft,) = accepted(read, {**USER, "events": [sent]})
    assert said(draft) == (kind, name, "u1", "d1")
    assert draft.times.effective_us == NOW_US - 5_000_000


def test_attributes_of_an_event_are_its_properties_and_are_measured() -> None:
    sent = event("custom_event", event_name="Transfer Made", custom_attributes={"amount": "12.5", "direction": "out"})
    (draft,) = accepted(read, {**USER, "events": [sent]})
    assert draft.measures == {"amount": 1250}
    assert draft.properties == {"event_name": "Transfer Made", "amount": "12.5", "direction": "out"}
    (ended,) = accepted(read, {**USER, "events": [event("session_end", session_duration_ms=90_500)]})
    assert ended.measures == {"duration_seconds": 90}


def test_a_batch_states_attributes_and_consent_before_its_events() -> None:
    batch = {
        "user_identities": {"customerid": 7, "email": "Ana@Example.org "},
        "user_attributes": {"$State": "Bretagne", "tags": ["a", "b"]},
        "deleted_user_attributes": ["adviser"],
        "consent_state": {"gdpr": {"Marketing": {"consented": False}, "analytics": {"consented": True}}},
        "device_info": {"platform": "iOS"},
        "events": [event("session_start")],
    }
    identify, session = accepted(read, batch)
    assert said(identify) == ("identify", "identify", "7", hashed_email("ana@example.org"))
    assert identify.traits == {"region": "Bretagne", "tags": ["a", "b"], "adviser": None, "email": "Ana@Example.org "}
    assert identify.consents == (("analytics", "granted"), ("marketing", "denied"))
    assert (session.consents, session.context.value) == ((), {"device": {"platform": "iOS"}})


def test_who_opts_out_denies_and_who_comes_back_states_nothing() -> None:
    out, back = accepted(read, {**USER, "events": [event("opt_out", is_opted_out=s) for s in (True, False)]})
    assert dict(out.consents) == {"analytics": "denied", "marketing": "denied", "profiling": "denied"}
    assert set(dict(back.consents).values()) == {"unset"}


def test_the_device_is_mp_deviceid_then_mpid_then_the_hashed_address() -> None:
    identities = {"user_identities": {"email": "a@b.c"}}
    given = [{**identities, "mpid": 99, "mp_deviceid": "d"}, {**identities, "mpid": 99}, identities]
    found = [taken(read, {**batch, "events": [event("session_start")]})[-1] for batch in given]
    assert [getattr(draft, "anonymous_id", None) for draft in found] == ["d", "mpid:99", hashed_email("a@b.c")]


def test_the_event_id_is_the_senders_or_comes_from_the_request_or_from_the_content() -> None:
    own = event("session_start", source_message_id="m1")
    assert [d.event_id for d in accepted(read, {**USER, "events": [own]})] == ["m1"]
    twice = {**USER, "events": [event("session_start"), event("session_start")]}
    first, second = (draft.event_id for draft in accepted(read, twice))
    assert first != second
    assert [d.event_id for d in accepted(read, twice, now_us=NOW_US + 3_600_000_000)] == [first, second]
    named = {**USER, "source_request_id": "r1", "events": [{"event_type": "session_start", "data": {}}]}
    later = {**named, "ip": "10.0.0.1"}
    assert accepted(read, named)[0].event_id == accepted(read, later, now_us=NOW_US + 3_600_000_000)[0].event_id


def test_content_without_any_stamp_is_the_same_event_for_one_minute() -> None:
    batch = {**USER, "events": [{"event_type": "session_start"}]}
    ids = [accepted(read, batch, now_us=NOW_US + shift)[0].event_id for shift in (0, 59_999_999, 60_000_000)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        ({**USER, "events": [{"event_type": "dance", "data": {}}]}, "unknown_type"),
        ({**USER, "events": [{"event_type": "custom_event", "data": {}}]}, "no_event_name"),
        ({**USER, "events": [{"event_type": "custom_event", "data": {"event_name": 7}}]}, "malformed"),
        ({**USER, "events": [event("session_start", timestamp_unixtime_ms=1e30)]}, "time_out_of_range"),
        ({**USER, "events": [17]}, "malformed"),
        ({"events": [event("session_start")]}, "no_user_anon_id"),
        ({**USER, "events": [event("user_attribute_change")]}, "malformed"),
        (USER, "empty_batch"),
        ({"events": 17}, "malformed"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_a_reason_and_kept(batch: dict[str, Any], code: str) -> None:
    refusal = refused(read, batch)
    assert refusal.code == code
    assert refusal.body in msgspec.json.encode(batch)
    assert refused(read, batch).event_id == refusal.event_id or code in ("no_event_name", "no_user_anon_id")


def test_a_bad_batch_of_a_bulk_does_not_spoil_the_others() -> None:
    good = {**USER, "events": [event("session_start")]}
    found = taken(read, [good, {"events": 17}, {**good, "mp_deviceid": "d2"}])
    assert [getattr(item, "code", "accepted") for item in found] == ["accepted", "malformed", "accepted"]


@pytest.mark.parametrize("body", [b"", b"{", b"x", b"[" * 100_000])
def test_an_unreadable_body_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        taken(read, body)


def test_the_same_batch_again_is_a_duplicate(tmp_path: Any) -> None:
    world = World(tmp_path)
    batch = {**USER, "user_attributes": {"$State": "B"}, "events": [event("session_start"), {"event_type": "dance"}]}
    assert [mark > 0 for mark in deliver(world, read, batch)] == [True, True, False]
    assert deliver(world, read, batch) == [0, 0, 0]
