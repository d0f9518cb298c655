"""What the three CRMs share: records of people, tickets, calls and mails -> messages about the person.

A person is `SOURCE_ID:NUMBER` until a record names the institution's customer number; then both are one customer. An
e-mail address is an identity too (hashed), so that mails that name only an address reach the same customer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vigie_contracts.instants import to_micros

from vigie_ingest.contexts import packed
from vigie_ingest.domain import DUPLICATE_WINDOW_US, Unacceptable
from vigie_ingest.messages import Message
from vigie_ingest.shapes.envelope import Json, Origin, asserted, bounded, hashed_email, plain

_EMAILS = frozenset(("email", "personemail", "emailaddress"))
_OPT_OUTS = frozenset(("hsemailoptout", "hasoptedoutofemail", "personhasoptedoutofemail", "emailoptout"))
_TRUE = (True, 1, "true", "True", "1", "yes")


@dataclass(frozen=True)
class Record:
    """A thing of a CRM and the person that it concerns: `kind` is `ticket`, `call`, … `at` when it came about."""

    vendor: str
    kind: str
    number: str
    person: str
    at: datetime | None
    properties: Json
    channel: str | None = None


def statement(
    person: str, traits: Mapping[str, Any], event_id: str, at: datetime | None, origin: Origin
) -> list[Message]:
    """An identify of a person, and a link to the e-mail address when it states one.

    The customer number joins the person to the customer. An opt-out of mail denies marketing; its end states nothing.
    """
    event_id = bounded(event_id)
    given = dict(traits)
    opt_outs = [value for name, value in given.items() if plain(name) in _OPT_OUTS and value is not None]
    context = asserted("marketing", False if any(_true(value) for value in opt_outs) else None) if opt_outs else {}
    user_id = origin.user_id(given)
    messages = [
        Message(
            type="identify",
            message_id=event_id,
            user_id=user_id,
            anonymous_id=person,
            timestamp=at,
            traits=given,
            context=packed(context),
        )
    ]
    return messages + [joined(hashed_email(address), person, event_id, at) for address in _addresses(given)]


def joined(previous: str, to: str, event_id: str, at: datetime | None) -> Message:
    """An alias: `previous` belongs to the person `to`; a second person there makes it a shared one."""
    message_id = bounded(f"{event_id}:{previous}")
    return Message(type="alias", message_id=message_id, anonymous_id=to, previous_id=previous, timestamp=at)


def opened(record: Record, origin: Origin) -> Message:
    """`VENDOR.KIND.opened`, once a record: the same however often and by whatever way the record comes.

    Longer ago than duplicates are remembered it is an update, for it was told when it was opened.
    """
    at = record.at
    if at is not None and origin.received_us - to_micros(at) >= DUPLICATE_WINDOW_US:
        stamp = to_micros(at)
        return activity(record, "updated", event_id=origin.content_id(record.number, stamp, stamped=False))
    return activity(record, "opened")


def activity(record: Record, verb: str, *, event_id: str | None = None, more: Json | None = None) -> Message:
    """`VENDOR.KIND.VERB` of the record's person; without an id of its own once a record, so that files tell it too."""
    return Message(
        type="track",
        event=f"{record.vendor}.{record.kind}.{verb}",
        message_id=bounded(event_id or f"{record.kind}:{record.number}:{verb}:{record.person}"),
        anonymous_id=record.person,
        timestamp=record.at,
        channel=record.channel,
        properties={**record.properties, **(more or {})},
    )


def nobody(what: str, advice: str) -> Unacceptable:
    """The refusal of a record that does not say whose it is."""
    return Unacceptable("no_customer", f"{what} does not say which customer it concerns; {advice}")


def minutes_between(start: datetime | None, end: datetime | None) -> Json:
    """`minutes`, whole, when both ends are known and in order."""
    if start is None or end is None or start.tzinfo is None or end.tzinfo is None or end < start:
        return {}
    return {"minutes": int((end - start).total_seconds() // 60)}


def text(value: Any) -> str | None:
    """A number or text as text; None for anything else and for what is empty."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first field that is there and not empty."""
    return next((record[name] for name in names if record.get(name) not in (None, "")), None)


def _addresses(traits: Mapping[str, Any]) -> list[str]:
    found = {v for name, v in traits.items() if plain(name) in _EMAILS and isinstance(v, str) and "@" in v}
    return sorted(found)


def _true(value: Any) -> bool:
    return isinstance(value, bool | int | str) and value in _TRUE
