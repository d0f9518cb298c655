"""Zoho CRM's notifications, and the mail webhooks of Zoho Campaigns.

A notification names records by number, and their changed values when the channel was opened with
`return_affected_field_values`. Contacts and leads are persons; cases and calls concern the contact that they look up.
"""

from functools import partial
from typing import Any

import msgspec
from vigie_contracts.errors import InvalidInput

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
    rejected,
    sort,
)

_PERSONS = {"contacts": "contact", "leads": "lead"}
_THINGS = {"cases": "case", "calls": "call", "tickets": "ticket", "tasks": "task", "events": "meeting"}
_LOOKUPS = ("Who_Id", "Contact_Name", "Related_To", "Contact", "Participant")
_CLOSED = frozenset(("closed", "resolved", "completed"))
_VERBS = {"insert": "created", "update": "updated", "delete": "deleted", "edit": "updated", "create": "created"}
_MAIL = {"email_open": "opened", "email_click": "clicked", "email_sent": "sent", "email_unsubscribe": "unsubscribed"}


class Changed(msgspec.Struct, frozen=True):
    """The changed values of a record."""

    record_id: Id = None
    values: Json = {}


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One operation on records of one module."""

    module: str
    operation: str
    ids: list[str | int]
    token: str | None = None
    channel_id: Id = None
    server_time: int | float | None = None
    affected_values: list[Changed] | None = None
    affected_fields: list[dict[str, list[str]]] | None = None


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """One action of a recipient of a mail campaign."""

    contact_email: str
    action_time: int | float | None = None
    contact_id: Id = None
    click_url: str | None = None


class Campaign(msgspec.Struct, frozen=True, kw_only=True, rename={"action_type": "actionType"}):
    """A webhook of Zoho Campaigns: one kind of action, several recipients."""

    action_type: str
    data: list[msgspec.Raw]
    transmission_id: Id = None
    transmission_name: str | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str | None = None


def token(body: bytes) -> str | None:
    """The verification token of the first notification; None when the body cannot be read or has none."""
    try:
        return msgspec.json.decode(raws(body)[0], type=_Token).token
    except (InvalidInput, msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        return None


def read(body: bytes, origin: Origin) -> Items:
    """All records of all notifications of a request; InvalidInput when the body is no JSON."""
    items: Items = []
    for raw in raws(body):
        try:
            items += sort(_parts(raw), origin, partial(_messages, origin))
        except Unacceptable as error:
            items.append(rejected(error, raw, origin))
    return items


def _parts(raw: bytes) -> list[bytes]:
    """A notification or a campaign's webhook, one part for each record or recipient, without the token."""
    if "actionType" in part(raw, dict[str, msgspec.Raw]):
        campaign = part(raw, Campaign)
        return [msgspec.json.encode(msgspec.structs.replace(campaign, data=[one])) for one in campaign.data]
    event = part(raw, Notification)
    if not event.ids:
        raise Unacceptable("malformed", "the notification names no records")
    return [msgspec.json.encode(_alone(event, str(number))) for number in event.ids]


def _alone(event: Notification, number: str) -> Notification:
    values = [changed for changed in event.affected_values or [] if str(changed.record_id) == number]
    fields = [{number: named[number]} for named in event.affected_fields or [] if number in named]
    return msgspec.structs.replace(
        event, ids=[number], token=None, channel_id=None, affected_values=values, affected_fields=fields
    )


def _messages(origin: Origin, body: bytes, _index: int) -> list[Message]:
    if "actionType" in part(body, dict[str, msgspec.Raw]):
        return [_mail(part(body, Campaign), origin)]
    event = part(body, Notification)
    number = str(event.ids[0])
    values = event.affected_values[0].values if event.affected_values else {}
    module = event.module.lower()
    verb = _VERBS.get(event.operation.lower(), event.operation.lower())
    at = at_millis(event.server_time)
    event_id = origin.content_id(body, stamped=at is not None)
    if module not in _PERSONS:
        return [_thing(event, number, values, verb, event_id, origin)]
    person = origin.person(number)
    if values and verb != "deleted":
        return crm.statement(person, values, event_id, at, origin)
    fields = [name for named in event.affected_fields or [] for name in named.get(number, [])]
    record = Record("zoho", _PERSONS[module], number, person, at, {"fields": fields})
    return [crm.activity(record, verb, event_id=event_id)]


def _thing(event: Notification, number: str, values: Json, verb: str, event_id: str, origin: Origin) -> Message:
    contact = _looked_up(values)
    if contact is None:
        advice = "open the channel with return_affected_field_values and a lookup of its contact among the fields"
        raise crm.nobody(f"the {event.module} {number}", advice)
    module = event.module.lower()
    kind = _THINGS.get(module, module)
    at = at_millis(event.server_time)
    record = Record("zoho", kind, number, origin.person(contact), at, _properties(kind, number, values), _channel(kind))
    if str(values.get("Status", "")).lower() in _CLOSED:
        more = crm.minutes_between(at_text("Created_Time", values.get("Created_Time")), at)
        return crm.activity(record, "closed", more=more)
    if kind == "call" and str(values.get("Call_Type", "")).lower() == "outbound":
        return crm.activity(record, "outbound")
    return crm.opened(record, origin) if verb == "created" else crm.activity(record, verb, event_id=event_id)


def _mail(campaign: Campaign, origin: Origin) -> Message:
    verb = _MAIL.get(campaign.action_type.lower())
    if verb is None:
        raise Unacceptable("unknown_type", f"{campaign.action_type!r} is no action that is read")
    raw = bytes(campaign.data[0])
    opened = part(raw, Opened)
    at = at_millis(opened.action_time)
    given = {"campaign": campaign.transmission_id, "url": opened.click_url}
    properties = {"channel": "email", **{name: value for name, value in given.items() if value is not None}}
    event_id = origin.content_id(raw, campaign.action_type, str(campaign.transmission_id), stamped=at is not None)
    record = Record("zoho", "email", event_id, hashed_email(opened.contact_email), at, properties, "email")
    return crm.activity(record, verb, event_id=event_id)


def _looked_up(values: Json) -> str | None:
    for name in _LOOKUPS:
        value: Any = values.get(name)
        found = crm.text(value.get("id")) if isinstance(value, dict) else crm.text(value)
        if found is not None:
            return found
    return None


def _properties(kind: str, number: str, values: Json) -> Json:
    channel = crm.text(crm.first(values, ("Case_Origin", "Channel")))
    topic = crm.text(crm.first(values, ("Case_Reason", "Subject")))
    found = {
        kind: number,
        "channel": "phone" if kind == "call" else channel.lower() if channel else None,
        "topic": topic,
    }
    return {name: value for name, value in found.items() if value is not None}


def _channel(kind: str) -> str | None:
    return "phone" if kind == "call" else None
