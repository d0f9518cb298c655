"""Tealium Collect: one flat event, a bulk of them under shared fields, or a pixel's query string.

The visitor is `tealium_visitor_id`, the user the field that carries the customer number. The standard set knows no
message id and no time: an event id comes from the content (see `Origin.content_id`).
"""

from datetime import datetime

import msgspec

from vigie_ingest.contexts import packed
from vigie_ingest.domain import Unacceptable
from vigie_ingest.messages import Message
from vigie_ingest.shapes.envelope import Items, Json, Origin, at_millis, at_text, part, sort, whole

NAMELESS = "tealium.event"
_ID = "tealium_event_id"  # ours: an unprefixed name could be the data layer's own, such as a webinar's number
_STAMPS = ("tealium_timestamp_epoch_ms", "timestamp_unix_milliseconds", "tealium_timestamp_epoch", "timestamp_unix")
_TEXT = "tealium_timestamp_utc"
_UNIQUE = ("tealium_random", "tealium_session_event_number")
_SECONDS_BELOW = 1e11  # milliseconds above, so that either unit is read under either name: year 5138 in seconds


class Bulk(msgspec.Struct, frozen=True):
    """`bulk-event`: events, and fields that all of them share."""

    events: list[msgspec.Raw]
    shared: Json | None = None


def datasource(body: bytes) -> str | None:
    """`tealium_datasource` of an event or of a bulk's shared fields, which may stand for the write key."""
    found = whole(body, Json)
    shared = found.get("shared")
    for fields in (found, shared if isinstance(shared, dict) else {}):
        if isinstance(fields.get("tealium_datasource"), str):
            return str(fields["tealium_datasource"])
    return None


def read(body: bytes, origin: Origin) -> Items:
    """One event; InvalidInput when the body is no JSON object."""
    whole(body, Json)
    return sort([body], origin, lambda raw, index: _event(raw, {}, index, origin))


def read_bulk(body: bytes, origin: Origin) -> Items:
    """`{"shared": {…}, "events": […]}`; InvalidInput when it is none."""
    bulk = whole(body, Bulk)
    shared = bulk.shared or {}
    return sort(
        [bytes(raw) for raw in bulk.events], origin, lambda raw, index: _event(raw, shared, index, origin, body)
    )


def _event(raw: bytes, shared: Json, index: int, origin: Origin, body: bytes = b"") -> list[Message]:
    fields = {**shared, **part(raw, Json)}
    visitor = fields.get("tealium_visitor_id")
    name = fields.get("tealium_event")
    at = _instant(fields)
    own_id = fields.get(_ID)
    stamped = at is not None or any(fields.get(key) is not None for key in _UNIQUE)
    return [
        Message(
            type="track",
            event=NAMELESS if name is None or name == "" else _text("tealium_event", name),
            message_id=_text(_ID, own_id) if own_id else origin.content_id(body or raw, index, stamped=stamped),
            user_id=origin.user_id(fields),
            anonymous_id=None if visitor is None else _text("tealium_visitor_id", visitor),
            timestamp=at,
            properties={key: value for key, value in fields.items() if not key.startswith("tealium_")},
            context=packed({"tealium": {key: value for key, value in fields.items() if key.startswith("tealium_")}}),
        )
    ]


def _instant(fields: Json) -> datetime | None:
    for key in _STAMPS:
        value = fields.get(key)
        if isinstance(value, str) and value:
            value = at_number(key, value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return at_millis(value * 1_000 if abs(value) < _SECONDS_BELOW else value)
    return at_text(_TEXT, fields.get(_TEXT))


def at_number(name: str, text: str) -> float:
    """A number that came as text, as in a query string; Unacceptable when it is none."""
    try:
        return float(text)
    except ValueError as error:
        raise Unacceptable("malformed", f"{name} is no number: {text[:40]!r}") from error


def _text(name: str, value: object) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise Unacceptable("malformed", f"{name} must be text")
    return str(value)
