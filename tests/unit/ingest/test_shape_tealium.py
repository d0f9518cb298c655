"""Tealium's flat events, bulks and pixels."""

from typing import Any

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_ingest.domain import Draft
from vigie_ingest.shapes.tealium import datasource, read, read_bulk

from tests.unit.ingest.ingest_world import NOW_US
from tests.unit.ingest.shapes_world import NOW_MS, accepted, refused, said, taken

EVENT = {
    "tealium_account": "bank",
    "tealium_profile": "main",
    "tealium_event": "user_login",
    "tealium_visitor_id": "v1",
    "customer_id": "u1",
    "topic": "loans",
}


def test_a_flat_event_is_the_visitors_and_the_customers() -> None:
    (draft,) = accepted(read, EVENT)
    assert said(draft) == ("track", "app.logged_in", "u1", "v1")
    assert draft.properties == {"customer_id": "u1", "topic": "loans"}
    assert draft.context.value["tealium"]["tealium_account"] == "bank"
    assert draft.times.effective_us == NOW_US


@pytest.mark.parametrize(
    "stamp",
    [
        {"tealium_timestamp_epoch": NOW_MS // 1_000 - 5},
        {"tealium_timestamp_epoch": str(NOW_MS // 1_000 - 5)},
        {"timestamp_unix_milliseconds": NOW_MS - 5_000},
        {"tealium_timestamp_utc": "2026-03-01T11:59:55.000Z"},
    ],
)
def test_the_stamp_is_read_in_seconds_milliseconds_or_text(stamp: dict[str, Any]) -> None:
    (draft,) = accepted(read, {**EVENT, **stamp})
    assert draft.times.effective_us == NOW_US - 5_000_000


def test_the_same_content_is_one_event_for_a_minute_and_for_ever_when_it_carries_a_stamp() -> None:
    def ids(event: dict[str, Any]) -> list[str]:
        return [accepted(read, event, now_us=NOW_US + shift)[0].event_id for shift in (0, 60_000_000)]

    first, later = ids(EVENT)
    assert first != later
    for stamp in ({"tealium_timestamp_epoch": 1_700_000_000}, {"tealium_random": "0.5"}):
        first, later = ids({**EVENT, **stamp})
        assert first == later
    assert ids({**EVENT, "tealium_event_id": "mine"}) == ["mine", "mine"]


def test_a_bulk_shares_fields_and_one_bad_event_spoils_nothing() -> None:
    shared = {"tealium_visitor_id": "v1", "topic": "loans", "tealium_datasource": "abc123"}
    body = {"shared": shared, "events": [{"tealium_event": "a"}, {"tealium_event": "a", "topic": "cards"}, 17]}
    first, second, bad = taken(read_bulk, body)
    assert isinstance(first, Draft)
    assert isinstance(second, Draft)
    assert (first.properties, second.properties) == ({"topic": "loans"}, {"topic": "cards"})
    assert first.event_id != second.event_id
    assert getattr(bad, "code", None) == "malformed"


def test_equal_events_of_one_bulk_are_two_events() -> None:
    first, second = accepted(read_bulk, {"events": [EVENT, EVENT]})
    assert first.event_id != second.event_id


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tealium_visitor_id": None, "customer_id": None}, "no_user_anon_id"),
        ({"tealium_event": ["x"]}, "malformed"),
        ({"tealium_visitor_id": {"a": 1}}, "malformed"),
        ({"tealium_event_id": ["x"]}, "malformed"),
        ({"tealium_timestamp_epoch": "soon"}, "malformed"),
        ({"tealium_timestamp_epoch": "nan"}, "time_out_of_range"),
        ({"tealium_timestamp_utc": "2026-03-01T11:59:55"}, "malformed"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_a_reason(change: dict[str, Any], code: str) -> None:
    assert refused(read, {**EVENT, **change}).code == code


def test_names_of_the_data_layer_are_neither_id_nor_time() -> None:
    (draft,) = accepted(read, {**EVENT, "event_id": "webinar-7", "timestamp": "last summer"})
    assert draft.event_id != "webinar-7"
    assert (draft.properties["event_id"], draft.times.original_us) == ("webinar-7", None)


def test_an_event_without_a_name_has_one() -> None:
    (draft,) = accepted(read, {"tealium_visitor_id": "v1"})
    assert (draft.name, draft.catalogued) == ("tealium.event", False)


def test_the_datasource_is_found_in_events_and_bulks() -> None:
    assert datasource(b'{"tealium_datasource":"abc123"}') == "abc123"
    assert datasource(b'{"shared":{"tealium_datasource":"abc123"},"events":[]}') == "abc123"
    assert datasource(b'{"shared":17,"tealium_datasource":17}') is None


@pytest.mark.parametrize("body", [b"", b"[]", b"17", b'{"events":{}}'])
def test_an_unreadable_body_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        taken(read_bulk, body)
