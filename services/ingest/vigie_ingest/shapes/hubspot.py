"""HubSpot: webhook subscriptions, records that workflows post, and events of the e-mail event log.

A subscription's event names an object by number only. A contact is the person. A ticket or call is counted when it is
associated with a contact; an event of another object that names no contact is refused with that advice.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from vigie_ingest.domain import Unacceptable
from vigie_ingest.messages import Id, Message
from vigie_ingest.shapes import crm
from vigie_ingest.shapes.crm import Record
from vigie_ingest.shapes.envelope import (
    Items,
    Json,
    Origin,
    at_millis,
    at_text,
    hashed_email,
    part,
    raws,
    sort,
)

_KINDS = {
    "0-1": "contact",
    "0-2": "company",
    "0-3": "deal",
    "0-5": "ticket",
    "0-18": "communication",
    "0-27": "task",
    "0-46": "note",
    "0-47": "meeting",
    "0-48": "call",
    "0-49": "email",
}
MAIL_PROPERTIES = {
    "hs_email_last_send_date": "sent",
    "hs_email_last_open_date": "opened",
    "hs_email_last_click_date": "clicked",
    "hs_email_last_reply_date": "replied",
    "hs_sales_email_last_opened": "opened",
    "hs_sales_email_last_clicked": "clicked",
    "hs_sales_email_last_replied": "replied",
}
_MAIL_EVENTS = {
    "SENT": "sent",
    "DELIVERED": "delivered",
    "OPEN": "opened",
    "CLICK": "clicked",
    "BOUNCE": "bounced",
    "DROPPED": "dropped",
    "DEFERRED": "deferred",
    "SPAMREPORT": "reported",
    "STATUSCHANGE": "status_changed",
    "UNSUBSCRIBED": "unsubscribed",
}
_ADVICE = "subscribe to its association with contacts, or post it from a workflow with `contactId`"


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event of a webhook subscription, of the older (`contact.creation`) or newer (`object.creation`) kind."""

    subscription_type: str
    object_id: Id = None
    object_type_id: str | None = None
    portal_id: Id = None
    event_id: Id = None
    occurred_at: int | float | None = None
    property_name: str | None = None
    property_value: Any = None
    association_type: str | None = None
    association_removed: bool = False
    from_object_id: Id = None
    to_object_id: Id = None
    from_object_type_id: str | None = None
    to_object_type_id: str | None = None
    primary_object_id: Id = None
    merged_object_ids: list[str | int] = []
    new_object_id: Id = None
    change_source: str | None = None


class Mailed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event of the e-mail event log."""

    id: str
    type: str
    recipient: str
    created: int | float
    email_campaign_id: Id = None
    subject: str | None = None
    url: str | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A record as workflows post it and as the CRM API returns it; older contacts have a `vid`."""

    properties: Json
    vid: Id = None
    id: Id = None
    object_id: Id = None
    object_type_id: str | None = None
    object_type: str | None = None
    contact_id: Id = None
    associations: Json | None = None
    updated_at: str | None = None


def read(body: bytes, origin: Origin) -> Items:
    """All events of a request; InvalidInput when the body is no JSON."""
    return sort(raws(body), origin, lambda raw, _: _messages(raw, origin))


def _messages(raw: bytes, origin: Origin) -> list[Message]:
    keys = part(raw, dict[str, msgspec.Raw]).keys()
    if "subscriptionType" in keys:
        return _subscribed(part(raw, Subscribed), raw, origin)
    if "recipient" in keys:
        return _mailed(part(raw, Mailed))
    if "properties" in keys:
        return _recorded(part(raw, Recorded), raw, origin)
    raise Unacceptable("unknown_type", "neither a subscription's event, nor a record with properties, nor a mail event")


def _subscribed(event: Subscribed, raw: bytes, origin: Origin) -> list[Message]:
    kind, _, what = event.subscription_type.partition(".")
    if kind == "object":
        kind = _KINDS.get(event.object_type_id or event.from_object_type_id or "", event.object_type_id or "object")
    at = at_millis(event.occurred_at)
    stamped = at is not None or event.event_id is not None
    event_id = ":".join(
        str(bit) for bit in (event.subscription_type, event.object_id, event.property_name, event.event_id) if bit
    )
    if event.event_id is None or at is None:
        event_id = origin.content_id(raw, stamped=stamped)
    else:
        event_id = f"{event_id}:{event.occurred_at}"
    if what == "associationChange":
        return [_associated(event, at, origin)]
    if kind != "contact":
        raise crm.nobody(f"the event {event.subscription_type!r} of {kind} {event.object_id}", _ADVICE)
    if what == "merge":
        return _merged(event, at, event_id, origin)
    if event.object_id is None:
        raise Unacceptable("malformed", "the event needs objectId")
    person = origin.person(event.object_id)
    if what == "propertyChange":
        return _changed(event, person, at, event_id, origin)
    properties = {"change_source": event.change_source} if event.change_source else {}
    record = Record("hubspot", "contact", str(event.object_id), person, at, properties)
    return [crm.activity(record, what, event_id=event_id)]


def _changed(event: Subscribed, person: str, at: datetime | None, event_id: str, origin: Origin) -> list[Message]:
    name = event.property_name
    if not name:
        raise Unacceptable("malformed", "a propertyChange needs propertyName")
    verb = MAIL_PROPERTIES.get(name)
    if verb is None:
        return crm.statement(person, {name: event.property_value}, event_id, at, origin)
    when = at_text(name, event.property_value) or at
    record = Record("hubspot", "email", str(event.object_id), person, when, {"channel": "email"}, "email")
    return [crm.activity(record, verb, event_id=event_id)]


def _associated(event: Subscribed, at: datetime | None, origin: Origin) -> Message:
    """A thing and a contact, whichever side names which: the same event from either side."""
    if event.association_type:
        sides = event.association_type.lower().split("_to_")
    else:
        sides = [_KINDS.get(side or "", side or "") for side in (event.from_object_type_id, event.to_object_type_id)]
    numbers = (event.from_object_id, event.to_object_id)
    if len(sides) != 2 or "contact" not in sides or None in numbers:
        raise crm.nobody(f"the association {event.association_type or sides!r}", "it has no contact on either side")
    place = sides.index("contact")
    kind, number = sides[1 - place], str(numbers[1 - place])
    record = Record("hubspot", kind, number, origin.person(numbers[place]), at, _of_thing(kind, number), _channel(kind))
    if not event.association_removed:
        return crm.opened(record, origin)
    return crm.activity(
        record, "dissociated", event_id=f"{kind}:{number}:dissociated:{record.person}:{event.occurred_at}"
    )


def _merged(event: Subscribed, at: datetime | None, event_id: str, origin: Origin) -> list[Message]:
    kept = event.new_object_id or event.primary_object_id or event.object_id
    gone = [number for number in (*event.merged_object_ids, event.primary_object_id) if number not in (None, kept)]
    if kept is None or not gone:
        raise Unacceptable("malformed", "a merge needs primaryObjectId and mergedObjectIds")
    return [crm.joined(origin.person(number), origin.person(kept), event_id, at) for number in gone]


def _mailed(event: Mailed) -> list[Message]:
    verb = _MAIL_EVENTS.get(event.type.upper())
    if verb is None:
        raise Unacceptable("unknown_type", f"{event.type!r} is no type of the e-mail event log")
    given = {"campaign": event.email_campaign_id, "subject": event.subject, "url": event.url}
    properties = {"channel": "email", **{name: value for name, value in given.items() if value is not None}}
    at = at_millis(event.created)
    record = Record("hubspot", "email", event.id, hashed_email(event.recipient), at, properties, "email")
    return [crm.activity(record, verb, event_id=f"mail:{event.created}:{event.id}")]


def _recorded(given: Recorded, raw: bytes, origin: Origin) -> list[Message]:
    values = {name: _value(value) for name, value in given.properties.items()}
    number = crm.text(given.vid or given.id or given.object_id or crm.first(values, ("hs_object_id",)))
    if number is None:
        raise Unacceptable("malformed", "the record needs an id")
    kind = _kind(given, values)
    at = at_text("lastmodifieddate", crm.first(values, ("lastmodifieddate", "hs_lastmodifieddate")) or given.updated_at)
    if kind == "contact":
        event_id = origin.content_id(raw, stamped=at is not None)
        return crm.statement(origin.person(number), values, event_id, at, origin)
    contact = _contact(given, values)
    if contact is None:
        raise crm.nobody(f"the {kind} {number}", "post it with `contactId` or with its associated contacts")
    created = at_text("createdate", crm.first(values, ("hs_timestamp", "createdate", "hs_createdate")))
    properties = {**_of_thing(kind, number), **_topic(values)}
    record = Record("hubspot", kind, number, origin.person(contact), created or at, properties, _channel(kind))
    if kind == "call":
        direction = str(values.get("hs_call_direction") or "").lower()
        return [crm.activity(record, "outbound") if direction == "outbound" else crm.opened(record, origin)]
    closed = at_text("closed_date", values.get("closed_date")) if kind == "ticket" else None
    if closed is None:
        return [crm.opened(record, origin)]
    return [_closed(record, created, closed)]


def _closed(record: Record, created: datetime | None, closed: datetime) -> Message:
    ended = replace(record, at=closed)
    return crm.activity(ended, "closed", more=crm.minutes_between(created, closed))


def _kind(given: Recorded, values: Json) -> str:
    if given.vid is not None:
        return "contact"
    stated = given.object_type_id or given.object_type
    if stated:
        return _KINDS.get(stated, stated.lower().removesuffix("s"))
    if any(name.startswith("hs_call_") for name in values):
        return "call"
    if "hs_pipeline_stage" in values or "hs_ticket_priority" in values:
        return "ticket"
    return "contact"


def _contact(given: Recorded, values: Json) -> str | None:
    results: Any = given.associations or {}
    for key in ("contacts", "results"):
        results = results.get(key) if isinstance(results, dict) else None
    first = results[0] if isinstance(results, list) and results else None
    associated = first.get("id") if isinstance(first, dict) else None
    return crm.text(given.contact_id) or crm.text(associated) or crm.text(values.get("contactId"))


def _value(value: Any) -> Any:
    """Older records wrap a property as `{"value": …, "versions": […]}`."""
    return value.get("value") if isinstance(value, dict) and "value" in value else value


def _of_thing(kind: str, number: str) -> Json:
    return {kind: number, **({"channel": "phone"} if kind == "call" else {})}


def _topic(values: Json) -> Json:
    found = crm.text(crm.first(values, ("hs_ticket_category", "hs_call_title")))
    channel = crm.text(values.get("source_type"))
    return {**({"topic": found} if found else {}), **({"channel": channel.lower()} if channel else {})}


def _channel(kind: str) -> str | None:
    return {"call": "phone", "email": "email"}.get(kind)
