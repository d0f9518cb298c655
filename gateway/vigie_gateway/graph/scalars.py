"""Scalars, enums and directives that several subjects share."""

from datetime import datetime
from enum import Enum
from typing import Any, NewType

import strawberry
from strawberry.schema_directive import Location
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import format_instant, from_micros

from vigie_gateway.context import Context

Info = strawberry.Info[Context, None]

Cursor = NewType("Cursor", str)
Decimal = NewType("Decimal", str)
CURSOR = strawberry.scalar(
    name="Cursor",
    description="An opaque place in a list or stream. Keep it, send it back, read nothing into it.",
    serialize=str,
    parse_value=str,
)
DECIMAL = strawberry.scalar(
    name="Decimal",
    description="A decimal number as text, for example `12.50`.",
    serialize=str,
    parse_value=str,
)


def _parse(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{value!r} is no instant; write it as 2026-11-23T12:00:00Z") from error
    if found.tzinfo is None:
        raise InvalidInput(f"{value!r} says no offset from UTC; append Z")
    return found


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="An instant in UTC, RFC 3339.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time.html",
    serialize=lambda value: value.isoformat().replace("+00:00", "Z"),
    parse_value=_parse,
)
SCALARS: dict[object, Any] = {Cursor: CURSOR, Decimal: DECIMAL, datetime: DATE_TIME}


def instant(micros: int) -> datetime:
    """The datetime of an instant in microseconds."""
    return from_micros(micros)


def maybe_instant(micros: int | None) -> datetime | None:
    """The same for an instant that may be absent."""
    return None if micros is None else from_micros(micros)


def instant_text(micros: int) -> str:
    """RFC 3339 text of an instant."""
    return format_instant(micros)


@strawberry.enum(description="A language of texts. Codes never change with it.")
class Locale(Enum):
    EN = "en"
    FR = "fr"


@strawberry.enum(description="A window that ends now: one, seven, thirty or ninety days.")
class Window(Enum):
    D1 = 1
    D7 = 7
    D30 = 30
    D90 = 90


@strawberry.enum(description="A way to reach a customer.")
class Channel(Enum):
    EMAIL = "EMAIL"
    PUSH = "PUSH"
    SMS = "SMS"
    IN_APP = "IN_APP"
    PHONE = "PHONE"
    BRANCH = "BRANCH"


@strawberry.enum(description="How personal a field is.")
class PiiClass(Enum):
    DIRECT_IDENTIFIER = "direct_identifier"
    CONTACT = "contact"
    FINANCIAL = "financial"


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION], name="pii", description="This field is personal data of the named class."
)
class Pii:
    pii_class: PiiClass = strawberry.directive_field(name="class")


DIRECT = Pii(pii_class=PiiClass.DIRECT_IDENTIFIER)
CONTACT = Pii(pii_class=PiiClass.CONTACT)


def text(texts: dict[str, str], locale: Locale | None) -> str:
    """The text in a language, else in English, else in whatever there is."""
    wanted = (locale or Locale.EN).value
    return texts.get(wanted) or texts.get("en") or next(iter(texts.values()), "")


@strawberry.type(description="An amount of money.")
class Money:
    amount: Decimal = strawberry.field(description="Decimal text in the currency's main unit.")
    currency: str = strawberry.field(description="ISO 4217 code.")


def money(minor: int, currency: str = "EUR") -> Money:
    """Money of minor units (two decimals)."""
    sign = "-" if minor < 0 else ""
    return Money(amount=Decimal(f"{sign}{abs(minor) // 100}.{abs(minor) % 100:02d}"), currency=currency)
