"""CloudEvents in the three content modes, built by the official SDK."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from vigie_contracts.errors import InvalidInput
from vigie_ingest.shapes.cloudevents import BATCH, STRUCTURED, UnsupportedMedia, read

from tests.unit.ingest.ingest_world import NOW_US
from tests.unit.ingest.shapes_world import accepted, refused, said, taken

ATTRIBUTES: dict[str, Any] = {
    "id": "1",
    "source": "/bank/core",
    "type": "transfer.made",
    "time": datetime(2026, 3, 1, 11, 59, 55, tzinfo=UTC),
    "subject": "u1",
    "anonymousid": "d é1",
    "datacontenttype": "application/json",
}
DATA = {"amount": "12.5", "direction": "out"}
RAW = {"specversion": "1.0", "id": "1", "source": "/bank/core", "type": "transfer.made", "subject": "u1", "data": DATA}


def headers_of(message: Any) -> dict[str, str]:
    return {name.lower().replace("-", "_"): value for name, value in message.headers.items()}


@pytest.mark.parametrize("to_http", [to_structured_event, to_binary_event])
def test_an_event_of_the_official_sdk_is_the_same_in_either_mode(to_http: Any) -> None:
    message = to_http(CloudEvent(ATTRIBUTES, DATA))
    (draft,) = accepted(read, message.body, **headers_of(message))
    assert said(draft) == ("track", "transfer.made", "u1", "d é1")
    assert (draft.event_id, draft.measures) == ("/bank/core#1", {"amount": 1250})
    assert draft.times.effective_us == NOW_US - 5_000_000
    assert draft.context.value["cloudevents"]["source"] == "/bank/core"


def test_a_batch_gives_each_event_its_verdict() -> None:
    found = taken(read, [RAW, {"id": "2"}, {**RAW, "id": "3"}], content_type=BATCH)
    assert [getattr(item, "code", None) or item.event_id for item in found] == [
        "/bank/core#1",
        "malformed",
        "/bank/core#3",
    ]


def test_a_type_that_ends_in_identify_states_attributes_and_consent() -> None:
    data = {"traits": {"ageBand": "25-34"}, "consent": {"marketing": False}}
    (draft,) = accepted(read, {**RAW, "type": "org.bank.identify", "data": data}, content_type=STRUCTURED)
    assert (draft.kind, draft.traits, draft.consents) == ("identify", {"age_band": "25-34"}, (("marketing", "denied"),))


def test_the_user_is_the_extension_then_the_data_then_the_subject() -> None:
    given: list[dict[str, Any]] = [{"userid": "x", "data": {"customerId": "y"}}, {"data": {"customerId": "y"}}, {}]
    found = [accepted(read, {**RAW, **more}, content_type=STRUCTURED)[0].user_id for more in given]
    assert found == ["x", "y", "u1"]


@pytest.mark.parametrize(
    ("data", "properties"),
    [
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": None}, {}),
        ({"data_base64": "eyJhIjoxfQ=="}, {"a": 1}),
        ({"data_base64": "AAE=", "datacontenttype": "image/png"}, {"data": "AAE="}),
    ],
)
def test_data_of_any_kind_is_kept(data: dict[str, Any], properties: dict[str, Any]) -> None:
    event = {name: value for name, value in RAW.items() if name != "data"}
    (draft,) = accepted(read, {**event, **data, "type": "x"}, content_type=STRUCTURED)
    assert draft.properties == properties


def test_binary_mode_keeps_text_and_bytes_and_an_empty_body() -> None:
    ce = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "x", "ce_subject": "u%C3%A91"}
    (text,) = accepted(read, b"hello", content_type="text/plain", **ce)
    (png,) = accepted(read, b"\0\1", content_type="image/png", **ce)
    (empty,) = accepted(read, b"", **ce)
    assert (text.properties, png.properties, empty.properties) == ({"data": "hello"}, {"data": "AAE="}, {})
    assert text.user_id == "ué1"


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"source": None},
        {"type": 7},
        {"specversion": "0.3"},
        {"time": "soon"},
        {"data": 1, "data_base64": "eyJhIjoxfQ=="},
    ],
)
def test_an_event_without_its_required_attributes_is_refused(change: dict[str, Any]) -> None:
    assert refused(read, {**RAW, **change}, content_type=STRUCTURED).code == "malformed"


def test_long_ids_are_shortened_and_stay_different() -> None:
    found = [accepted(read, {**RAW, "id": "i" * n}, content_type=STRUCTURED)[0].event_id for n in (300, 301, 300)]
    assert found[0] == found[2] != found[1]
    assert len(found[0]) == 32


@pytest.mark.parametrize("media", ["application/json", "application/cloudevents+avro", ""])
def test_another_media_type_is_not_supported(media: str) -> None:
    with pytest.raises(UnsupportedMedia, match="content type"):
        taken(read, RAW, content_type=media)


def test_an_unreadable_body_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        taken(read, b"{", content_type=STRUCTURED)
    with pytest.raises(InvalidInput):
        taken(read, b"{}", content_type=BATCH)
