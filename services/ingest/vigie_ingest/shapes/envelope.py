"""What every shape makes: a message in an envelope, or a refusal with its reason. Nothing readable is lost."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import MINUTE_US, from_micros, parse_instant

from vigie_ingest.domain import MAX_ID_LENGTH, UNREADABLE, Unacceptable
from vigie_ingest.messages import Message
from vigie_ingest.surrogates import mended

T = TypeVar("T")
Json = dict[str, Any]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way in; `body` is the part of the request that it came in, kept when it is quarantined."""

    message: Message
    body: bytes


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a readable body that is no acceptable event; `code` is stable, `reason` says what to do."""

    event_id: str
    code: str
    reason: str
    body: bytes


Items = list[Envelope | Rejected]


@dataclass(frozen=True)
class Origin:
    """Where a body comes from. `customer_fields`: names, reduced by `plain`, under which records carry the user id."""

    source_id: str
    received_us: int
    customer_fields: frozenset[str] = frozenset(("customerid",))
    headers: Mapping[str, str] = field(default_factory=dict)

    def person(self, value: object) -> str:
        """The anonymous id of a person that the source knows by its own number: `SOURCE_ID:NUMBER`."""
        return f"{self.source_id}:{value}"

    def user_id(self, record: Mapping[str, Any]) -> str | int | None:
        """The institution's own customer number in a record, or None."""
        for name, value in record.items():
            if plain(name) in self.customer_fields and isinstance(value, str | int) and not isinstance(value, bool):
                return value
        return None

    def content_id(self, *parts: bytes | str | int, stamped: bool) -> str:
        """An event id from content, for senders that give none: the same content again is the same event.

        Content that carries no stamp of its own is the same event only within one minute of arrival.
        """
        minute = () if stamped else (self.received_us // MINUTE_US,)
        text = b"\0".join(part if isinstance(part, bytes) else str(part).encode() for part in (*parts, *minute))
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def sort(parts: Iterable[bytes], origin: Origin, read: Callable[[bytes, int], list[Message]]) -> Items:
    """Envelopes of each part (`read` takes it and its index), or its refusal."""
    items: Items = []
    for index, body in enumerate(parts):
        try:
            items += [Envelope(message=message, body=body) for message in read(body, index)]
        except Unacceptable as error:
            items.append(rejected(error, body, origin))
    return items


def rejected(error: Unacceptable, body: bytes, origin: Origin) -> Rejected:
    """A refusal; the same part again is a duplicate of it."""
    event_id = origin.content_id(body, stamped=True)
    return Rejected(event_id=event_id, code=error.reason_code, reason=error.message, body=body)


def whole(body: bytes, type_: type[T]) -> T:
    """A request's body; InvalidInput (the sender's answer is 400) when it cannot be read at all."""
    try:
        return _decoded(body, type_)
    except UNREADABLE as error:
        raise InvalidInput(f"the body is not what was expected: {error}") from error


def part(body: bytes, type_: type[T]) -> T:
    """A part of a body; Unacceptable `malformed` when its fields are wrong."""
    try:
        return _decoded(body, type_)
    except UNREADABLE as error:
        raise Unacceptable("malformed", f"the event is wrong: {error}") from error


def _decoded(body: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except UNREADABLE:
        found = mended(body)
        if found is body:
            raise
        return msgspec.json.decode(found, type=type_)


def raws(body: bytes) -> list[bytes]:
    """The elements of a body that is a list, or the one that it is; InvalidInput when it is no JSON."""
    found = whole(body, msgspec.Raw)
    if bytes(found).lstrip()[:1] == b"[":
        return [bytes(raw) for raw in whole(body, list[msgspec.Raw])]
    return [bytes(found)]


def at_millis(millis: float | None) -> datetime | None:
    """Instant of milliseconds since 1970; Unacceptable when it is out of range."""
    try:
        return None if millis is None else from_micros(round(millis * 1_000))
    except (OverflowError, ValueError) as error:
        raise Unacceptable("time_out_of_range", f"{millis} milliseconds are no instant") from error


def at_text(name: str, value: Any) -> datetime | None:
    """Instant of a record's field: RFC 3339 text (`Z`, `+0000`), or milliseconds; None when empty."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return at_millis(value)
    text = str(value)
    try:
        return at_millis(int(text)) if text.isdecimal() else from_micros(parse_instant(text))
    except (ValueError, OverflowError) as error:
        raise Unacceptable("malformed", f"{name} is no instant with an offset from UTC: {text[:40]!r}") from error


def bounded(event_id: str) -> str:
    """An event id that is short enough: a longer one becomes its hash."""
    if len(event_id) <= MAX_ID_LENGTH:
        return event_id
    return hashlib.blake2b(event_id.encode(), digest_size=16).hexdigest()


def hashed_email(address: str) -> str:
    """The anonymous id of an e-mail address: SHA-256 of its trimmed lower-case form, as in the field's match keys."""
    return "email:" + hashlib.sha256(address.strip().lower().encode()).hexdigest()


def plain(name: str) -> str:
    """A field's name without case, separators and Salesforce's `__c`, so that spellings of one name are equal."""
    return "".join(c for c in name.casefold().removesuffix("__c") if c.isalnum())


def asserted(purpose: str, allowed: bool | None) -> Json:
    """Context that states one purpose of consent; None: no statement stands any more."""
    return {"consent": {"categoryPreferences": {purpose: allowed}}}
