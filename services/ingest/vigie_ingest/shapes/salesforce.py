"""Salesforce: outbound messages (SOAP), records in JSON, change events, and Marketing Cloud's event notifications.

Contacts, leads and person accounts are persons. Cases and tasks concern their `ContactId` or `WhoId`. A subscriber of
Marketing Cloud is a person of its own, whom a sent mail's address links to the contact with that address.
"""

import xml.etree.ElementTree as ET  # nosec B405
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from vigie_contracts.errors import InvalidInput

from vigie_ingest.contexts import packed
from vigie_ingest.domain import UNREADABLE, Unacceptable
from vigie_ingest.messages import Message
from vigie_ingest.shapes import crm
from vigie_ingest.shapes.crm import Record
from vigie_ingest.shapes.envelope import (
    Items,
    Json,
    Origin,
    asserted,
    at_millis,
    at_text,
    hashed_email,
    part,
    raws,
    sort,
)

ACKNOWLEDGED = (
    b'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
    b'<soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_PERSONS = ("contact", "lead", "individual")
_OPENING = ("CREATE", "UNDELETE")
_MAIL_EVENTS = {
    "EmailSent": "sent",
    "EmailNotSent": "not_sent",
    "EmailBounced": "bounced",
    "EmailOpen": "opened",
    "EmailClick": "clicked",
    "EmailUnsubscribe": "unsubscribed",
}
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class Notified(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An event of the Event Notification Service; it has no id of its own."""

    event_category_type: str
    timestamp_utc: int | float | None = msgspec.field(default=None, name="timestampUTC")
    composite: Json = {}
    info: Json | None = None
    definition_key: str | None = None


class Verification(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The unsigned message by which Marketing Cloud asks to verify a new callback."""

    callback_id: str
    verification_key: str


def is_soap(body: bytes) -> bool:
    """Whether a body is XML and not JSON."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def verification(body: bytes) -> Verification | None:
    """The request to verify a callback, when the body is one."""
    try:
        return msgspec.json.decode(body, type=Verification)
    except UNREADABLE:
        return None


def read(body: bytes, origin: Origin) -> Items:
    """All notifications or records of a request; InvalidInput when it is neither XML nor JSON."""
    parts = [msgspec.json.encode(record) for record in _notifications(body)] if is_soap(body) else _records(body)
    return sort(parts, origin, lambda raw, _: _messages(raw, origin))


def _records(body: bytes) -> list[bytes]:
    parts = raws(body)
    if len(parts) == 1 and b'"records"' in parts[0]:
        try:
            return [bytes(raw) for raw in msgspec.json.decode(parts[0], type=_Listed).records]
        except UNREADABLE:
            return parts
    return parts


class _Listed(msgspec.Struct, frozen=True):
    records: list[msgspec.Raw]


def _notifications(body: bytes) -> list[Json]:
    """Records of a SOAP envelope: `attributes.type`, `notification` (its id) and the fields; a nil field is null."""
    try:
        text = body.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InvalidInput("an outbound message has no document type; this one was refused unread")
        root = ET.fromstring(text)  # noqa: S314  # nosec B314
    except (UnicodeDecodeError, ET.ParseError, ValueError) as error:
        raise InvalidInput(f"the body is no XML in UTF-8: {error}") from error
    found = [node for node in root.iter() if _local(node.tag) == "Notification"]
    if not found:
        raise InvalidInput("the envelope holds no Notification of an outbound message")
    return [_record(node) for node in found]


def _record(notification: ET.Element) -> Json:
    fields: Json = {}
    for child in notification:
        if _local(child.tag) == "Id":
            fields["notification"] = child.text
        elif _local(child.tag) == "sObject":
            fields["attributes"] = {"type": child.get(_TYPE, "").rpartition(":")[2]}
            for field in child:
                fields[_local(field.tag)] = None if field.get(_NIL) == "true" else field.text
    return fields


def _messages(raw: bytes, origin: Origin) -> list[Message]:
    fields = part(raw, Json)
    if "eventCategoryType" in fields:
        return _notified(part(raw, Notified), raw, origin)
    change = fields.get("payload", fields)
    if isinstance(change, dict) and isinstance(change.get("ChangeEventHeader"), dict):
        return _changed(change, raw, origin)
    attributes = fields.pop("attributes", None)
    type_ = crm.text(attributes.get("type")) if isinstance(attributes, dict) else None
    if type_ is None:
        raise Unacceptable("unknown_type", "the record does not say its object in attributes.type")
    notification = crm.text(fields.pop("notification", None))
    return _object(type_, crm.text(fields.get("Id")), fields, notification, raw, origin)


def _changed(change: Json, raw: bytes, origin: Origin) -> list[Message]:
    """A change event: only the changed fields, once for each record that changed alike."""
    header = change.pop("ChangeEventHeader")
    type_, numbers, committed = (header.get(name) for name in ("entityName", "recordIds", "commitTimestamp"))
    if not isinstance(type_, str) or not isinstance(numbers, list) or not numbers:
        raise Unacceptable("malformed", "a change event needs entityName and recordIds")
    at = at_text("commitTimestamp", committed)
    if header.get("changeType") == "DELETE":
        return [_deleted(type_, crm.text(number), at, committed, origin) for number in numbers]
    fields = {**change, **({} if "LastModifiedDate" in change else {"LastModifiedDate": committed})}
    if header.get("changeType") in _OPENING:
        fields.setdefault("CreatedDate", committed)
    messages: list[Message] = []
    for number in numbers:
        key = origin.content_id(raw, str(number), stamped=at is not None)
        messages += _object(type_, crm.text(number), fields, key, raw, origin)
    return messages


def _deleted(type_: str, number: str | None, at: datetime | None, committed: Any, origin: Origin) -> Message:
    if type_.lower() not in _PERSONS or number is None:
        raise crm.nobody(f"the deletion of {type_} {number}", "only those of contacts and leads are kept")
    record = Record("salesforce", type_.lower(), number, _person(number, origin), at, {})
    return crm.activity(record, "deleted", event_id=f"{type_}:{number}:deleted:{committed}")


def _object(
    type_: str, number: str | None, fields: Json, notification: str | None, raw: bytes, origin: Origin
) -> list[Message]:
    kind = type_.lower()
    modified = at_text("LastModifiedDate", crm.first(fields, ("LastModifiedDate", "SystemModstamp")))
    event_id = notification or origin.content_id(raw, stamped=modified is not None)
    account_of = crm.text(fields.get("PersonContactId")) if kind == "account" else None
    if kind in _PERSONS or account_of is not None:
        person = account_of or number
        if person is None:
            raise Unacceptable("malformed", f"the {type_} needs an Id")
        traits = {name: value for name, value in fields.items() if name != "Id"}
        return crm.statement(_person(person, origin), traits, event_id, modified, origin)
    contact = crm.text(crm.first(fields, ("ContactId", "WhoId", "ParticipantId")))
    if contact is None:
        raise crm.nobody(
            f"the {type_} {number}", "add ContactId (of a task WhoId, of an account PersonContactId) to the fields"
        )
    if number is None:
        raise Unacceptable("malformed", f"the {type_} needs an Id")
    created = at_text("CreatedDate", fields.get("CreatedDate"))
    record = Record("salesforce", kind, _long(number), _person(contact, origin), created or modified, {})
    if kind == "case":
        return [_case(record, fields, created, modified, origin)]
    if kind == "task":
        return [_task(record, fields, origin)]
    return [crm.activity(replace(record, at=modified or created, properties=fields), "saved", event_id=event_id)]


def _case(record: Record, fields: Json, created: datetime | None, modified: datetime | None, origin: Origin) -> Message:
    channel = crm.text(fields.get("Origin"))
    topic = crm.text(crm.first(fields, ("Reason", "Type")))
    properties = {"ticket": record.number, **({"topic": topic} if topic else {})}
    if channel:
        properties["channel"] = channel.lower()
    record = replace(record, properties=properties)
    closed = at_text("ClosedDate", fields.get("ClosedDate"))
    if closed is None and fields.get("IsClosed") not in (True, "true") and fields.get("Status") != "Closed":
        if created is None and modified is not None:
            event_id = f"case:{record.number}:updated:{record.person}:{modified.isoformat()}"
            return crm.activity(record, "updated", event_id=event_id)
        return crm.opened(record, origin)
    ended = closed or modified
    more = crm.minutes_between(created, ended)
    return crm.activity(replace(record, at=ended), "closed", more=more)


def _task(record: Record, fields: Json, origin: Origin) -> Message:
    subtype = str(fields.get("TaskSubtype") or "").lower()
    is_call = subtype == "call" or crm.first(fields, ("CallType", "CallDurationInSeconds")) is not None
    if not is_call:
        kind, channel = ("email", "email") if subtype == "email" else ("task", None)
        properties = {"task": record.number, **({"channel": channel} if channel else {})}
        return crm.opened(replace(record, kind=kind, channel=channel, properties=properties), origin)
    seconds = crm.text(fields.get("CallDurationInSeconds"))
    properties = {"call": record.number, "channel": "phone", **({"duration_seconds": seconds} if seconds else {})}
    call = replace(record, kind="call", channel="phone", properties=properties)
    if str(fields.get("CallType") or "").lower() == "outbound":
        return crm.activity(call, "outbound")
    return crm.opened(call, origin)


def _notified(event: Notified, raw: bytes, origin: Origin) -> list[Message]:
    """A mail's event; one that carries the address links the subscriber to it, an unsubscription denies marketing."""
    name = event.event_category_type.rpartition(".")[2]
    verb = _MAIL_EVENTS.get(name)
    subscriber = crm.text(event.composite.get("subscriberId"))
    if verb is None or subscriber is None:
        raise crm.nobody(
            f"the notification {event.event_category_type!r}", "only mails with composite.subscriberId are read"
        )
    at = at_millis(event.timestamp_utc)
    info = event.info or {}
    job = crm.text(event.composite.get("jobId"))
    url = crm.text(crm.first(info, ("contentLink", "url")))
    given = {"job": job, "url": url, "definition": event.definition_key}
    properties = {"channel": "email", **{name: value for name, value in given.items() if value is not None}}
    person = f"{origin.source_id}:subscriber:{subscriber}"
    event_id = origin.content_id(raw, stamped=at is not None)
    record = Record("salesforce", "email", job or "", person, at, properties, "email")
    message = crm.activity(record, verb, event_id=event_id)
    if verb == "unsubscribed":
        message = msgspec.structs.replace(message, context=packed(asserted("marketing", False)))
    address = info.get("to")
    # The subscriber is the address's, and the address the contact's, so that it matters not which is known first.
    links = (
        [crm.joined(person, hashed_email(address), event_id, at)] if isinstance(address, str) and "@" in address else []
    )
    return [message, *links]


def _person(number: str, origin: Origin) -> str:
    return origin.person(_long(number))


def _long(number: str) -> str:
    """The 18-character form of a 15-character id: a case-insensitive checksum of three blocks of five is added."""
    if len(number) != 15:
        return number
    blocks = (number[:5], number[5:10], number[10:])
    return number + "".join(
        _SUFFIX[sum(c.isascii() and c.isupper() and 1 << i for i, c in enumerate(b))] for b in blocks
    )


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
