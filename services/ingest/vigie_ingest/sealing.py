"""What of an event is personal, and its sealed part: AES-256-GCM under the member's key, bound to the event's header.

Clear stays what every consumer needs: ids of member, source and message, kind, catalogued name, times, channel, and the
catalogue's properties and attributes without a PII class. A declared property is clear as a single value only.
"""

import os
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import Event

from vigie_ingest.domain import NO_CONTEXT, Draft
from vigie_ingest.keystore import Keys

FORMAT = b"\x01"
NONCE_BYTES = 12
_NOTHING: frozenset[str] = frozenset()


class Personal(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed part: the event's own fields, and the entries of its maps that are personal; nothing that is empty."""

    name: str = ""
    anonymous_id: str | None = None
    user_id: str | None = None
    properties: dict[str, Any] = {}
    measures: dict[str, int] = {}
    traits: dict[str, Any] = {}
    context: dict[str, Any] = {}


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Personal).decode


class Sealer:
    """Seals events as the one writer appends them; opens them for reads of ingest, from any thread."""

    def __init__(self, catalogue: Catalogue, keys: Keys) -> None:
        self.keys = keys
        self._properties = {
            row.name: frozenset(name for name, spec in row.properties.items() if spec.pii is None)
            for row in catalogue.micro_conversions.values()
        }
        self._traits = frozenset(row.name for row in catalogue.attributes.values() if row.pii is None)
        self._random, self._used = b"", 0

    def seal(self, draft: Draft, member_id: str, known_us: int) -> Event:
        """The event as it lies in the log. The member's key, if new, was minted and is committed later."""
        public = self._properties.get(draft.name, _NOTHING) if draft.catalogued else _NOTHING
        personal: dict[str, Any] = {}
        name, properties, measures, traits = draft.name, draft.properties, draft.measures, draft.traits
        if not draft.catalogued and name != draft.kind:
            personal["name"], name = name, ""
        if draft.anonymous_id is not None:
            personal["anonymous_id"] = draft.anonymous_id
        if draft.user_id is not None:
            personal["user_id"] = draft.user_id
        if properties:
            properties = _parted("properties", properties, public, personal)
        if not public.issuperset(measures):
            measures = _parted("measures", measures, public, personal)
        if traits:
            shown = self._traits if draft.kind == "identify" else _NOTHING
            traits = _parted("traits", traits, shown, personal)
        if draft.context is not NO_CONTEXT:
            personal["context"] = draft.context.text
        cipher = self.keys.cipher(member_id) or self.keys.mint(member_id)
        nonce = self._nonce()
        header = _header(member_id, draft.source_id, draft.event_id)
        times = draft.times
        return Event(
            member_id=member_id,
            event_id=draft.event_id,
            source_id=draft.source_id,
            kind=draft.kind,
            name=name,
            catalogued=draft.catalogued,
            original_timestamp_us=times.original_us,
            sent_at_us=times.sent_us,
            received_at_us=draft.received_at_us,
            known_at_us=known_us,
            timestamp_us=times.timestamp_us,
            effective_at_us=times.effective_us,
            channel=draft.channel,
            properties=properties,
            measures=measures,
            traits=traits,
            backfilled=draft.known_at_us is not None,
            sealed=FORMAT + nonce + cipher.encrypt(nonce, _ENCODE(personal), header),
        )

    def seal_value(self, member_id: str, name: str, value: Any) -> str | bytes:
        """An attribute for its row: JSON when the catalogue declares it without a PII class, else sealed."""
        text = msgspec.json.encode(value)
        if name in self._traits:
            return text.decode()
        cipher, nonce = self.keys.cipher(member_id) or self.keys.mint(member_id), self._nonce()
        return FORMAT + nonce + cipher.encrypt(nonce, text, _header(member_id, "", name))

    def open_value(self, member_id: str, name: str, stored: str | bytes) -> Any:
        """The attribute of a row; None when its key was destroyed. IncompatibleData when it was altered."""
        if isinstance(stored, str):
            return msgspec.json.decode(stored)
        opened = self._open(member_id, stored, _header(member_id, "", name))
        return None if opened is None else msgspec.json.decode(opened)

    def _open(self, member_id: str, sealed: bytes, header: bytes) -> bytes | None:
        cipher = self.keys.cipher(member_id) if sealed else None
        if cipher is None:
            return None
        try:
            return cipher.decrypt(sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :], header)
        except (InvalidTag, ValueError) as error:
            raise IncompatibleData(f"a sealed part of member {member_id} does not fit its header or key") from error

    def _nonce(self) -> bytes:
        """Random, never twice. Only the writer's thread takes one."""
        at = self._used
        if at == len(self._random):
            self._random, at = os.urandom(256 * NONCE_BYTES), 0
        self._used = at + NONCE_BYTES
        return self._random[at : self._used]

    def opened(self, event: Event) -> Event:
        """The whole event; the clear part alone when the key was destroyed. IncompatibleData when it was altered."""
        header = _header(event.member_id, event.source_id, event.event_id)
        body = self._open(event.member_id, event.sealed, header)
        if body is None:
            return event
        personal = _DECODE(body)
        return msgspec.structs.replace(
            event,
            name=personal.name or event.name,
            anonymous_id=personal.anonymous_id,
            user_id=personal.user_id,
            properties={**event.properties, **personal.properties},
            measures={**event.measures, **personal.measures},
            traits={**event.traits, **personal.traits},
            context=personal.context,
            sealed=b"",
        )


def _parted(field: str, values: dict[str, Any], public: frozenset[str], personal: dict[str, Any]) -> dict[str, Any]:
    """The clear entries; the others are added to the personal part."""
    clear: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in values.items():
        if key in public and type(value) is not dict and type(value) is not list:
            clear[key] = value
        else:
            own[key] = value
    if own:
        personal[field] = own
    return clear


def _header(member_id: str, source_id: str, event_id: str) -> bytes:
    return f"{member_id}\0{source_id}\0{event_id}".encode()
