"""What makes an event acceptable, when it counts, and what the catalogue says of it. Pure: clocks are passed in."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from vigie_contracts.catalogue import AttributeSpec, Catalogue
from vigie_contracts.errors import InvalidInput
from vigie_contracts.events import PURPOSES, ConsentState, EventKind, Purpose
from vigie_contracts.instants import DAY_US, parse_instant, to_micros

DUPLICATE_WINDOW_US = 14 * DAY_US
MAX_ID_LENGTH = 255
MAX_NAME_LENGTH = 200
REMEMBERED_NAMES = 5_000
MAX_DEPTH = 32
"""Levels of objects and lists below an event. A decoder's own limit depends on how deep its caller stands: what one
process has just read another could not."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for a text that is no JSON, no UTF-8, or too deep."""

_NESTING = frozenset((dict, list))

Consents = tuple[tuple[Purpose, ConsentState], ...]


class Unacceptable(InvalidInput):
    """An event that goes to quarantine; `reason_code` is stable, the message says what is wrong."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was sent, whole, and why it was not accepted.

    `message`: what the sender meant, as a message of the tracking API that stands alone; empty when the body is that.
    """

    source_id: str
    event_id: str
    received_at_us: int
    code: str
    reason: str
    body: bytes
    message: bytes = b""


class Times(msgspec.Struct, frozen=True, gc=False):
    """Microseconds UTC of a client's stamps and of what follows from them."""

    original_us: int | None
    sent_us: int | None
    timestamp_us: int
    effective_us: int


class Context(NamedTuple):
    """A message's context as the JSON text of an object, and the consents that it states."""

    text: msgspec.Raw
    consents: Consents

    @property
    def value(self) -> dict[str, Any]:
        """The object."""
        found: dict[str, Any] = msgspec.json.decode(self.text)
        return found


NO_CONTEXT = Context(msgspec.Raw(b"{}"), ())


class Draft(msgspec.Struct, kw_only=True, gc=False):
    """An acceptable event before the log's writer gives it a member, an instant and a position."""

    source_id: str
    event_id: str
    kind: EventKind
    name: str
    catalogued: bool
    category: str | None
    anonymous_id: str | None
    user_id: str | None
    previous_id: str | None
    group_id: str | None
    received_at_us: int
    times: Times
    channel: str | None
    properties: dict[str, Any]
    measures: dict[str, int]
    traits: dict[str, Any]
    context: Context
    consents: Consents
    known_at_us: int | None
    notes: tuple[str, ...] = ()
    warned: bool = False

    @property
    def backfilled(self) -> bool:
        """Whether the event comes from a file and was known before it was appended."""
        return self.known_at_us is not None


def event_times(original: datetime | None, sent_us: int | None, received_us: int) -> Times:
    """Correct the client's clock by its own `sent_at`, then clamp the future once.

    timestamp = received_at - (sent_at - original_timestamp) with both stamps, else original_timestamp, else
    received_at; effective_at = min(timestamp, received_at). Unacceptable for a stamp without an offset, or before 1970.
    """
    original_us = None if original is None else micros("timestamp", original)
    if original_us is None:
        timestamp_us = received_us
    elif sent_us is None:
        timestamp_us = original_us
    else:
        timestamp_us = received_us - (sent_us - original_us)
    if timestamp_us < 0:
        raise Unacceptable("time_out_of_range", "the event's corrected timestamp lies before 1970")
    return Times(original_us, sent_us, timestamp_us, timestamp_us if timestamp_us < received_us else received_us)


def imported_times(effective_us: int, now_us: int) -> Times:
    """Times of a file's row; Unacceptable when it lies in the future of the business clock or before 1970."""
    if effective_us > now_us:
        raise Unacceptable("in_the_future", "effective_at lies in the future of the installation's clock")
    if effective_us < 0:
        raise Unacceptable("time_out_of_range", "effective_at lies before 1970")
    return Times(effective_us, None, effective_us, effective_us)


def checked_id(field: str, value: str | int | None) -> str | None:
    """An id as text, None when absent or empty; Unacceptable when it is too long."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_ID_LENGTH:
        raise Unacceptable("id_too_long", f"{field} is longer than {MAX_ID_LENGTH} characters")
    return text


def check_depth(*values: dict[str, Any]) -> None:
    """Unacceptable when maps or lists are nested deeper than MAX_DEPTH."""
    for value in values:
        if value and not _is_shallow(value.values(), MAX_DEPTH - 1):
            raise Unacceptable("too_deep", f"the event is nested more than {MAX_DEPTH} levels deep")


def _is_shallow(values: Iterable[Any], left: int) -> bool:
    if _NESTING.isdisjoint(map(type, values)):
        return True
    return left > 0 and all(
        _is_shallow(value.values() if type(value) is dict else value, left - 1)
        for value in values
        if type(value) in _NESTING
    )


class Named(NamedTuple):
    """What an event is called: the catalogue's name, or as it was sent; `measured` when it has numeric properties."""

    name: str
    catalogued: bool
    category: str | None
    measured: bool


class Names:
    """Names of calls by the catalogue; remembers a bounded number of what was asked."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[tuple[str, str | None], Named] = {}

    def of(self, kind: str, sent: str | None) -> Named:
        """A track call by its event, a page or screen by `page: NAME` or `page.viewed`, others by their kind.

        Unacceptable for a track call without a name, and for a name that is too long.
        """
        found = self._known.get((kind, sent))
        if found is None:
            found = self._find(kind, sent)
            if len(self._known) >= REMEMBERED_NAMES:
                self._known.clear()
            self._known[kind, sent] = found
        return found

    def _find(self, kind: str, sent: str | None) -> Named:
        if kind == "track":
            if sent is None or not sent.strip():
                raise Unacceptable("no_event_name", "a track call needs `event`")
            return self._resolved(sent)
        if kind not in ("page", "screen"):
            return Named(kind, False, None, False)
        special = self._catalogue.resolve(f"{kind}: {sent}") if sent else None
        return self._resolved(special or f"{kind}.viewed")

    def _resolved(self, sent: str) -> Named:
        if len(sent) > MAX_NAME_LENGTH:
            raise Unacceptable("name_too_long", f"the event's name is longer than {MAX_NAME_LENGTH} characters")
        name = self._catalogue.resolve(sent)
        if name is None:
            return Named(sent, False, None, False)
        row = self._catalogue.micro_conversions[name]
        return Named(name, True, row.category, any(spec.measured for spec in row.properties.values()))


def category_of(catalogue: Catalogue, name: str) -> str | None:
    """The catalogue's category of a resolved name."""
    row = catalogue.micro_conversions.get(name)
    return row.category if row else None


def measures_of(catalogue: Catalogue, name: str, properties: dict[str, Any]) -> dict[str, int]:
    """Scaled integers of the declared numeric properties; Unacceptable for one that is no number."""
    try:
        return catalogue.measures(name, properties)
    except InvalidInput as error:
        raise Unacceptable("bad_number", error.message) from error


def canonical_traits(catalogue: Catalogue, traits: Mapping[str, Any]) -> dict[str, Any]:
    """Traits under the catalogue's names, typed as declared; others as sent. The catalogue's own spelling wins."""
    found: dict[str, Any] = {}
    for sent, value in traits.items():
        name = catalogue.resolve_attribute(sent)
        if name is None:
            found.setdefault(sent, value)
        elif name == sent or name not in found:
            found[name] = typed(catalogue.attributes[name], value)
    return found


def typed(spec: AttributeSpec, value: Any) -> Any:
    """The value as the attribute's type, read from text where nothing is lost; Unacceptable otherwise. Null stays."""
    if value is None:
        return None
    converted = _CONVERSIONS[spec.type](value)
    if converted is None:
        raise Unacceptable("bad_attribute", f"attribute {spec.name!r} must be a {spec.type}")
    return converted


def stated_consents(context: Mapping[str, Any]) -> Consents:
    """Statements in `context.consent.categoryPreferences` on purposes that we know; anything but a boolean is unset."""
    consent = context.get("consent")
    preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else None
    return consents_from(preferences) if isinstance(preferences, dict) else ()


def consents_from(preferences: Mapping[str, Any]) -> Consents:
    """(purpose, state) of a map purpose -> boolean, in a fixed order."""
    return tuple((purpose, _state(preferences[purpose])) for purpose in PURPOSES if purpose in preferences)


def corrected_seconds(times: Times) -> float:
    """By how many seconds the effective instant differs from the client's own stamp."""
    return 0.0 if times.original_us is None else (times.effective_us - times.original_us) / 1_000_000


def micros(field: str, instant: datetime) -> int:
    """Microseconds UTC; Unacceptable for a stamp without an offset."""
    try:
        return to_micros(instant)
    except ValueError as error:
        raise Unacceptable("naive_time", f"{field} has no offset from UTC") from error


def _state(value: Any) -> ConsentState:
    if not isinstance(value, bool):
        return "unset"
    return "granted" if value else "denied"


def _to_string(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _to_number(value: Any) -> int | float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    try:
        return int(value)
    except ValueError:
        return _finite(value)


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    return True if text in ("true", "1", "yes", "y") else False if text in ("false", "0", "no", "n") else None


def _to_instant(value: Any) -> str | None:
    try:
        parse_instant(value)
    except (TypeError, ValueError):
        return None
    return str(value)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "string": _to_string,
    "number": _to_number,
    "boolean": _to_boolean,
    "instant": _to_instant,
}
