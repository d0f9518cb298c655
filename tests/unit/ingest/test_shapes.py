"""Every shape, whatever it is sent: no error but "unreadable", and a verdict on each event."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_ingest.domain import Draft, Refusal
from vigie_ingest.shapes import salesforce

from tests.unit.ingest.ingest_world import NOW_US
from tests.unit.ingest.shapes_strategies import SHAPES, json, least
from tests.unit.ingest.shapes_world import taken


def codes(found: list[Draft | Refusal]) -> list[str]:
    return [item.code if isinstance(item, Refusal) else "accepted" for item in found]


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_every_event_of_a_readable_body_gets_a_verdict(name: str, data: st.DataObject) -> None:
    read, shaped, headers = SHAPES[name]
    parts = data.draw(st.lists(shaped | json, max_size=4))
    body = {"events": parts} if name == "tealium" else parts
    found = taken(read, body, **headers)
    assert len(found) >= sum(least(name, part) for part in parts)
    for item in found:
        assert msgspec.json.encode(item)
    assert codes(taken(read, body, now_us=NOW_US + 1, **headers)) == codes(found)


@pytest.mark.parametrize("name", SHAPES)
@given(body=st.binary(max_size=64) | json.map(msgspec.json.encode))
def test_any_body_is_read_or_is_an_error_in_words(name: str, body: bytes) -> None:
    read, _, headers = SHAPES[name]
    with contextlib.suppress(InvalidInput):
        taken(read, body, **headers)


@given(body=st.text(max_size=200).map(lambda text: f"<a><Notification><sObject>{text}</sObject></Notification></a>"))
def test_any_xml_is_read_or_is_an_error_in_words(body: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert len(taken(salesforce.read, body.encode())) >= 1
