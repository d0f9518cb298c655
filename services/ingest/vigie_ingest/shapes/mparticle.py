"""mParticle's Events API v2: a batch of one user's events, or a list of such batches.

The user is `customer_id` (the official Python SDK writes `customerid`), the device `mp_deviceid`, else `mpid`, else a
hash of the e-mail address. A batch's attributes and consent become an identify before its events.
"""

from typing import Any, Literal

import msgspec

from vigie_ingest.contexts import packed
from vigie_ingest.domain import Unacceptable
from vigie_ingest.messages import Id, Message
from vigie_ingest.shapes.envelope import Items, Json, Origin, at_millis, hashed_email, part, raws, rejected, sort

Number = int | float


class Consented(msgspec.Struct, frozen=True):
    """A statement on one purpose."""

    consented: bool | None = None


class Consents(msgspec.Struct, frozen=True):
    """`consent_state`; CCPA's stays in the context."""

    gdpr: dict[str, Consented | None] | None = None


class Event(msgspec.Struct, frozen=True):
    """One event: its type says what `data` holds."""

    event_type: str
    data: Json | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch; fields that are not listed are ignored."""

    events: list[msgspec.Raw] | None = None
    user_identities: Json | None = None
    user_attributes: Json | None = None
    deleted_user_attributes: list[str] | None = None
    consent_state: Consents | None = None
    device_info: Json | None = None
    application_info: Json | None = None
    environment: str | None = None
    ip: str | None = None
    mpid: Id = None
    mp_deviceid: str | None = None
    timestamp_unixtime_ms: Number | None = None
    source_request_id: str | None = None
    batch_id: Id = None


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What we read of an event's data; everything of it that is not listed here becomes a property."""

    timestamp_unixtime_ms: Number | None = None
    source_message_id: str | None = None
    custom_attributes: Json | None = None
    event_name: str | None = None
    screen_name: str | None = None
    user_attribute_name: str | None = None
    new: Any = None
    deleted: bool | None = None
    is_opted_out: bool | None = None
    profile_event_type: str | None = None
    push_message_type: str | None = None
    session_duration_ms: Number | None = None
    product_action: Json | None = None


_READ_ELSEWHERE = frozenset(("custom_attributes", "timestamp_unixtime_ms", "source_message_id", "location"))


def read(body: bytes, origin: Origin) -> Items:
    """All events of a batch or of a list of batches; InvalidInput when the body is no JSON."""
    items: Items = []
    for index, raw in enumerate(raws(body)):
        try:
            batch = part(raw, Batch)
        except Unacceptable as error:
            items.append(rejected(error, raw, origin))
            continue
        reader = _Reader(batch, raw, index, origin)
        items += sort([raw], origin, reader.statements)
        items += sort([bytes(event) for event in batch.events or []], origin, reader.event)
    return items


class _Reader:
    """One batch: what its events share."""

    def __init__(self, batch: Batch, raw: bytes, index: int, origin: Origin) -> None:
        self._batch = batch
        self._key: tuple[bytes | str, ...] = (batch.source_request_id or raw, str(index))
        self._origin = origin
        identities = batch.user_identities or {}
        self.user_id = _id(identities.get("customer_id")) or _id(identities.get("customerid"))
        email = identities.get("email")
        self.anonymous_id = (
            batch.mp_deviceid
            or (f"mpid:{batch.mpid}" if batch.mpid not in (None, "", 0) else None)
            or (hashed_email(email) if isinstance(email, str) and email else None)
        )
        self.context = _context(batch)

    def statements(self, _body: bytes, _index: int) -> list[Message]:
        """An identify when the batch states attributes or consent; Unacceptable when it holds nothing at all."""
        batch = self._batch
        traits: Json = {**(batch.user_attributes or {}), **dict.fromkeys(batch.deleted_user_attributes or ())}
        email = (batch.user_identities or {}).get("email")
        if isinstance(email, str) and email:
            traits.setdefault("email", email)
        consents = batch.consent_state.gdpr if batch.consent_state else None
        if not traits and not consents:
            if not batch.events:
                raise Unacceptable("empty_batch", "the batch holds neither events nor attributes nor consent")
            return []
        context = self.context
        if consents:
            preferences = {name.lower(): given.consented if given else None for name, given in consents.items()}
            context = {**context, "consent": {"categoryPreferences": preferences}}
        return [self._message("identify", None, Data(), "identify", traits=traits, context=context)]

    def event(self, body: bytes, index: int) -> list[Message]:
        """One event; Unacceptable when it is malformed or of a type that the schema does not know."""
        event = part(body, Event)
        given = event.data or {}
        data = part(msgspec.json.encode(given), Data)
        reader = _TYPES.get(event.event_type)
        if reader is None:
            raise Unacceptable("unknown_type", f"{event.event_type!r} is no event type of the Events API")
        kind, name, more = reader(event.event_type, data)
        if kind == "identify":
            return [self._message("identify", None, data, index, **more)]
        left = {key: value for key, value in given.items() if key not in _READ_ELSEWHERE}
        properties = {**left, **(data.custom_attributes or {}), **more.pop("properties", {})}
        return [self._message(kind, name, data, index, properties=properties, **more)]

    def _message(self, kind: str, name: str | None, data: Data, place: str | int, **more: Any) -> Message:
        millis = data.timestamp_unixtime_ms
        if millis is None:
            millis = self._batch.timestamp_unixtime_ms
        stamped = millis is not None or self._batch.source_request_id is not None
        context = {**self.context, **more.pop("context", {})}
        return Message(
            type=kind,
            event=name if kind == "track" else None,
            name=name if kind == "screen" else None,
            message_id=data.source_message_id or self._origin.content_id(*self._key, place, stamped=stamped),
            user_id=self.user_id,
            anonymous_id=self.anonymous_id,
            timestamp=at_millis(millis),
            context=packed(context),
            **more,
        )


Read = tuple[Literal["track", "screen", "identify"], str | None, Json]


def _named(event_type: str, _data: Data) -> Read:
    return "track", event_type, {}


def _custom(_type: str, data: Data) -> Read:
    return "track", data.event_name, {}


def _screen(_type: str, data: Data) -> Read:
    return "screen", data.screen_name, {}


def _session_end(_type: str, data: Data) -> Read:
    duration = data.session_duration_ms
    return (
        "track",
        "session_end",
        {"properties": {} if duration is None else {"duration_seconds": int(duration // 1000)}},
    )


def _profile(_type: str, data: Data) -> Read:
    return "track", f"profile.{data.profile_event_type or 'update'}", {}


def _push(_type: str, data: Data) -> Read:
    return "track", f"push_message.{data.push_message_type or 'sent'}", {"channel": "push"}


def _commerce(_type: str, data: Data) -> Read:
    action = data.product_action or {}
    amount = action.get("total_amount")
    name = action.get("action")
    properties = {} if amount is None else {"amount": amount}
    return "track", f"commerce.{name}" if isinstance(name, str) else "commerce", {"properties": properties}


def _attribute(_type: str, data: Data) -> Read:
    if not data.user_attribute_name:
        raise Unacceptable("malformed", "a user_attribute_change needs user_attribute_name")
    return "identify", None, {"traits": {data.user_attribute_name: None if data.deleted else data.new}}


def _opt_out(_type: str, data: Data) -> Read:
    allowed = False if data.is_opted_out else None
    purposes = ("analytics", "marketing", "profiling")
    return "track", "opt_out", {"context": {"consent": {"categoryPreferences": dict.fromkeys(purposes, allowed)}}}


_TYPES = {
    **dict.fromkeys(
        (
            "session_start",
            "crash_report",
            "first_run",
            "push_registration",
            "application_state_transition",
            "network_performance",
            "breadcrumb",
            "user_identity_change",
            "uninstall",
        ),
        _named,
    ),
    "custom_event": _custom,
    "screen_view": _screen,
    "session_end": _session_end,
    "profile": _profile,
    "push_message": _push,
    "commerce_event": _commerce,
    "user_attribute_change": _attribute,
    "opt_out": _opt_out,
}


def _context(batch: Batch) -> Json:
    given = {
        "device": batch.device_info,
        "app": batch.application_info,
        "ip": batch.ip,
        "environment": batch.environment,
        "mpid": batch.mpid,
    }
    return {name: value for name, value in given.items() if value is not None}


def _id(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
