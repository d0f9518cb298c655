"""Segment's wire shapes -> drafts. One bad message never spoils its batch."""

import secrets
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput
from vigie_contracts.events import EventKind
from vigie_contracts.imports import ImportRecord

from vigie_ingest import contexts, domain
from vigie_ingest.contexts import ABSENT, Contexts
from vigie_ingest.domain import NO_CONTEXT, UNREADABLE, Draft, Refusal, Unacceptable
from vigie_ingest.identity import Rules
from vigie_ingest.plan import SHOWN_VIOLATIONS, Plan
from vigie_ingest.surrogates import is_lossy, mended, note_loss

KINDS: frozenset[str] = frozenset(("track", "identify", "page", "screen", "group", "alias"))
Id = str | int | None


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One call of Segment's tracking API; fields that are not listed are ignored."""

    type: str | None = None
    message_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None
    group_id: Id = None
    event: str | None = None
    name: str | None = None
    timestamp: datetime | None = None
    original_timestamp: datetime | None = None
    sent_at: datetime | None = None
    channel: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: msgspec.Raw = ABSENT


class Batch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A batch whose messages are decoded together."""

    batch: list[Message]
    write_key: str | None = None
    sent_at: datetime | None = None
    context: msgspec.Raw = ABSENT


class RawBatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A batch whose messages are decoded one by one, because one of them is wrong."""

    batch: list[msgspec.Raw]
    write_key: str | None = None
    sent_at: Any = None
    context: msgspec.Raw = ABSENT


class Single(Message, frozen=True, kw_only=True, rename="camel"):
    """A body that is one message."""

    write_key: str | None = None


class RawSingle(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What must be readable of a body that is one message."""

    write_key: str | None = None
    message_id: Id = None


class Call(msgspec.Struct, frozen=True):
    """A readable body; `decoded` when all of it is as expected."""

    body: bytes
    kind: str | None
    write_key: str | None
    decoded: Batch | Single | None


_BATCH = msgspec.json.Decoder(Batch)
_SINGLE = msgspec.json.Decoder(Single)
_RAW_BATCH = msgspec.json.Decoder(RawBatch)
_RAW_SINGLE = msgspec.json.Decoder(RawSingle)
_MESSAGE = msgspec.json.Decoder(Message)


def read(body: bytes, kind: str | None = None) -> Call:
    """A batch, or the one message of the kind that its path says; InvalidInput when it cannot be read at all."""
    batched = kind is None
    try:
        decoded: Batch | Single = (_BATCH if batched else _SINGLE).decode(body)
        return Call(body, kind, decoded.write_key, decoded)
    except UNREADABLE:
        raw: RawBatch | RawSingle = _decoded(_RAW_BATCH if batched else _RAW_SINGLE, mended(body))
        return Call(body, kind, raw.write_key, None)


class _Given(NamedTuple):
    """What a path and a batch say of their messages; `lossy` when half surrogate pairs were replaced in the body."""

    kind: str | None
    sent_at: Any
    context: msgspec.Raw
    lossy: bool


class Normaliser:
    """Makes drafts and refusals of one source's messages by the catalogue and the identity rules."""

    def __init__(self, catalogue: Catalogue, rules: Rules, plan: Plan | None = None) -> None:
        self._catalogue = catalogue
        self._rules = rules
        self._plan = plan or None
        self._names = domain.Names(catalogue)
        self._contexts = Contexts()

    def items(self, call: Call, source_id: str, received_us: int) -> list[Draft | Refusal]:
        """Drafts and refusals in the order sent."""
        whole = call.decoded
        try:
            if isinstance(whole, Batch):
                sent_us, context = _sent_us(whole.sent_at), whole.context
                return [self._draft(m, m.type, sent_us, context, source_id, received_us) for m in whole.batch]
            if whole is not None:
                return [self._draft(whole, call.kind, None, ABSENT, source_id, received_us)]
        except Unacceptable:
            pass
        return self._one_by_one(call, source_id, received_us)

    def enveloped(self, message: Message, body: bytes, source_id: str, received_us: int) -> Draft | Refusal:
        """A message that another shape made; `body` is what was sent, for quarantine."""
        try:
            draft = self._draft(message, message.type, None, ABSENT, source_id, received_us)
            if is_lossy(body):
                note_loss(draft)
            return draft
        except Unacceptable as error:
            meant = _meant(message)
            return _refusal(error, source_id, _id_of(meant), received_us, body, meant)

    def imported(self, record: ImportRecord, source_id: str, now_us: int) -> Draft | Refusal:
        """A file's record, by the same rules."""
        try:
            return self._imported(record, source_id, now_us)
        except Unacceptable as error:
            body = msgspec.json.encode(record)
            return _refusal(error, source_id, record.event_id, now_us, body)

    def _one_by_one(self, call: Call, source_id: str, received_us: int) -> list[Draft | Refusal]:
        body = mended(call.body)
        lossy = body is not call.body
        if call.kind is not None:
            given = _Given(call.kind, None, ABSENT, lossy)
            return [self._careful(body, given, source_id, received_us)]
        raw: RawBatch = _decoded(_RAW_BATCH, body)
        given = _Given(None, raw.sent_at, raw.context, lossy)
        return [self._careful(bytes(message), given, source_id, received_us) for message in raw.batch]

    def _careful(self, body: bytes, given: "_Given", source_id: str, received_us: int) -> Draft | Refusal:
        try:
            message = _message(body)
            sent_us = _sent_us(_instant(given.sent_at))
            draft = self._draft(message, given.kind or message.type, sent_us, given.context, source_id, received_us)
            if given.lossy and is_lossy(body):
                note_loss(draft)
            return draft
        except Unacceptable as error:
            meant = _standing_alone(body, given)
            return _refusal(error, source_id, _id_of(body), received_us, body, meant)

    def _draft(
        self,
        message: Message,
        kind: str | None,
        sent_us: int | None,
        batch_context: msgspec.Raw,
        source_id: str,
        received_us: int,
    ) -> Draft:
        if kind not in KINDS:
            raise Unacceptable("unknown_type", f"{kind!r} is no call of the tracking API")
        catalogue = self._catalogue
        event_id = domain.checked_id("messageId", message.message_id) or secrets.token_hex(16)
        user_id, anonymous_id, notes = self._identities(message.user_id, message.anonymous_id)
        named = self._names.of(kind, message.event if kind == "track" else message.name)
        properties = message.properties or {}
        context = self._contexts.of(message.context, batch_context)
        traits = message.traits or {}
        domain.check_depth(properties, traits)
        if kind == "identify":
            traits = domain.canonical_traits(catalogue, traits)
        elif message.name is not None and kind in ("page", "screen"):
            properties = {"name": message.name, **properties}
        group_id = previous_id = None
        if kind == "group":
            group_id = _needed("groupId", message.group_id, kind, "no_group_id")
        elif kind == "alias":
            previous_id = _needed("previousId", message.previous_id, kind, "no_previous_id")
        warnings = self._warnings(kind, named.name, properties, traits)
        return Draft(
            source_id=source_id,
            event_id=event_id,
            kind=kind,  # type: ignore[arg-type]
            name=named.name,
            catalogued=named.catalogued,
            category=named.category,
            anonymous_id=anonymous_id,
            user_id=user_id,
            previous_id=previous_id,
            group_id=group_id,
            received_at_us=received_us,
            times=domain.event_times(
                message.timestamp or message.original_timestamp,
                _sent_us(message.sent_at) if message.sent_at is not None else sent_us,
                received_us,
            ),
            channel=message.channel,
            properties=properties,
            measures=domain.measures_of(catalogue, named.name, properties) if named.measured else {},
            traits=traits,
            context=context,
            consents=context.consents,
            known_at_us=None,
            notes=notes + warnings,
            warned=bool(warnings),
        )

    def _imported(self, record: ImportRecord, source_id: str, now_us: int) -> Draft:
        catalogue = self._catalogue
        kind: EventKind = record.kind
        user_id, anonymous_id, notes = self._identities(record.user_id, record.anonymous_id)
        event_id = domain.checked_id("event_id", record.event_id)
        if event_id is None:
            raise Unacceptable("no_event_id", "an imported record needs an event_id")
        named = self._names.of(kind, record.name)
        domain.check_depth(record.properties, record.traits)
        known_us = record.effective_at_us if record.known_at_us is None else record.known_at_us
        traits = domain.canonical_traits(catalogue, record.traits) if record.traits else {}
        warnings = self._warnings(kind, named.name, record.properties, traits)
        return Draft(
            source_id=source_id,
            event_id=event_id,
            kind=kind,
            name=named.name,
            catalogued=named.catalogued,
            category=named.category,
            anonymous_id=anonymous_id,
            user_id=user_id,
            previous_id=None,
            group_id=None,
            received_at_us=now_us,
            times=domain.imported_times(record.effective_at_us, now_us),
            channel=record.channel,
            properties=record.properties,
            measures=domain.measures_of(catalogue, named.name, record.properties) if named.measured else {},
            traits=traits,
            context=NO_CONTEXT,
            consents=domain.consents_from(record.consent) if record.consent else (),
            known_at_us=known_us,
            notes=notes + warnings,
            warned=bool(warnings),
        )

    def _warnings(self, kind: str, name: str, properties: dict[str, Any], traits: dict[str, Any]) -> tuple[str, ...]:
        """What the receipt says of violations of the plan; Unacceptable when they quarantine the event."""
        found = None if self._plan is None else self._plan.verdict(kind, name, properties, traits)
        if found is None:
            return ()
        if found.action == "quarantine":
            raise Unacceptable("plan_violation", f"the tracking plan is violated at {found}")
        return tuple(f"the tracking plan is violated at {one}" for one in found.violations[:SHOWN_VIOLATIONS])

    def _identities(self, user: Id, anonymous: Id) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Both ids, null where absent or blocked, and what the receipt says of a blocked one."""
        user_id = domain.checked_id("userId", user)
        anonymous_id = domain.checked_id("anonymousId", anonymous)
        if user_id is None and anonymous_id is None:
            raise Unacceptable("no_user_anon_id", "an event needs userId or anonymousId")
        notes: tuple[str, ...] = ()
        if user_id is not None and self._rules.blocked("user_id", user_id):
            user_id, notes = None, ("userId was ignored: it is a placeholder that stands for nobody",)
        if anonymous_id is not None and self._rules.blocked("anonymous_id", anonymous_id):
            anonymous_id, notes = None, ("anonymousId was ignored: it is a placeholder that stands for nobody",)
        if user_id is None and anonymous_id is None:
            raise Unacceptable("blocked_identity", "the event's ids are placeholders that stand for nobody")
        return user_id, anonymous_id, notes


def _needed(field: str, value: Id, kind: str, code: str) -> str:
    found = domain.checked_id(field, value)
    if found is None:
        raise Unacceptable(code, f"the {kind} call needs {field}")
    return found


def _message(body: bytes) -> Message:
    try:
        return _MESSAGE.decode(body)
    except UNREADABLE as error:
        raise Unacceptable("malformed", f"the message is wrong: {error}") from error


def _sent_us(sent_at: datetime | None) -> int | None:
    return None if sent_at is None else domain.micros("sentAt", sent_at)


def _instant(sent_at: Any) -> datetime | None:
    if sent_at is None or isinstance(sent_at, datetime):
        return sent_at
    try:
        return msgspec.convert(sent_at, datetime)
    except msgspec.ValidationError as error:
        raise Unacceptable("malformed", f"the batch's sentAt is wrong: {error}") from error


def _id_of(body: bytes) -> str:
    """The event id of a message that is otherwise wrong; one is assigned when it has none that can be used."""
    try:
        named = _RAW_SINGLE.decode(body)
        return domain.checked_id("messageId", named.message_id) or secrets.token_hex(16)
    except (*UNREADABLE, Unacceptable):
        return secrets.token_hex(16)


def _standing_alone(body: bytes, given: _Given) -> bytes:
    """A message with what its path and its batch said; empty when they said nothing or it is no JSON object."""
    context = contexts.shared(given.context)
    said = {"type": given.kind, "sentAt": given.sent_at, "context": context or None}
    try:
        found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        return b""
    own = {key: value for key, value in found.items() if value is not None}
    whole = {**{key: value for key, value in said.items() if value is not None}, **own}
    if given.kind is not None:
        whole["type"] = given.kind
    if context and isinstance(own.get("context"), dict):
        whole["context"] = {**context, **own["context"]}
    return b"" if whole == own else msgspec.json.encode(whole)


def _meant(message: Message) -> bytes:
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(message))
    return msgspec.json.encode({key: value for key, value in whole.items() if value is not None})


def _refusal(
    error: Unacceptable, source_id: str, event_id: str, received_us: int, body: bytes, message: bytes = b""
) -> Refusal:
    return Refusal(
        source_id=source_id,
        event_id=event_id,
        received_at_us=received_us,
        code=error.reason_code,
        reason=error.message,
        body=body,
        message=message,
    )


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise InvalidInput(f"the body is not what was expected: {error}") from error
