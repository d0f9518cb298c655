"""Who a customer is: attributes, consents, identities."""

from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
from vigie_contracts.reads import AttributeRow, ConsentRow, CustomerRow, IdentityRow

from vigie_gateway.graph.scalars import CONTACT, DIRECT, Channel, Decimal, Locale, instant, maybe_instant


@strawberry.enum(description="What an attribute is about.")
class AttributeClass(Enum):
    DEMOGRAPHIC = "demographic"
    GEOGRAPHIC = "geographic"
    BEHAVIOURAL = "behavioural"
    PSYCHOGRAPHIC = "psychographic"
    TRANSACTIONAL = "transactional"


@strawberry.type(description="What a customer said about one purpose; unset follows the installation's setting.")
class Consent:
    purpose: str = strawberry.field(description="service, analytics, marketing or profiling.")
    granted: bool = strawberry.field(description="Whether the purpose is allowed now.")
    since: datetime = strawberry.field(description="Since when.")
    source: str = strawberry.field(description="Which source stated it.")


@strawberry.type(description="The latest known value of an attribute; one of text, number, flag, at holds it.")
class ProfileAttribute:
    name: str = strawberry.field(description="The catalogue's name.")
    attribute_class: AttributeClass | None = strawberry.field(name="class", description="What it is about.")
    text: str | None = strawberry.field(description="A text value.")
    number: Decimal | None = strawberry.field(description="A numeric value.")
    flag: bool | None = strawberry.field(description="A yes or no.")
    source: str = strawberry.field(description="Which source stated it.")
    updated_at: datetime = strawberry.field(description="From when it holds.")


@strawberry.type(description="A customer's profile.")
class CustomerProfile:
    row: strawberry.Private[CustomerRow]
    last_seen_at: datetime | None = strawberry.field(description="The last event of the customer.")
    preferred_locale: Locale | None = strawberry.field(description="Declared language.")
    preferred_channel: Channel | None = strawberry.field(description="Declared channel.")
    display_name: str | None = strawberry.field(description="Name to show.", directives=[DIRECT])
    email: str | None = strawberry.field(description="Mail address.", directives=[CONTACT])
    phone: str | None = strawberry.field(description="Telephone number.", directives=[CONTACT])
    customer_since: datetime | None = strawberry.field(description="First known event.")
    consents: list[Consent] = strawberry.field(description="What the customer said, by purpose.")

    @strawberry.field(description="Attributes by name, all by default. Personal ones stand in fields of their own.")
    def attributes(self, names: list[str] | None = None) -> list[ProfileAttribute]:
        return [
            attribute(row) for row in self.row.attributes if row.pii is None and (names is None or row.name in names)
        ]


@strawberry.type(description="A name under which a source knows the customer.")
class Identity:
    namespace: str = strawberry.field(description="user_id, anonymous_id, …")
    value: str = strawberry.field(description="The name itself.", directives=[DIRECT])
    verified: bool = strawberry.field(description="Whether the source vouches for it.")
    linked_at: datetime = strawberry.field(description="When it was first seen.")
    shared: bool = strawberry.field(description="Whether a second person identified on it, so that it joins nobody.")


def attribute(row: AttributeRow) -> ProfileAttribute:
    """A profile attribute of its row."""
    value = row.value
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    known = row.attribute_class in {kind.value for kind in AttributeClass}
    return ProfileAttribute(
        name=row.name,
        attribute_class=AttributeClass(row.attribute_class) if known else None,
        text=value if isinstance(value, str) else None,
        number=None if number is None else Decimal(str(number)),
        flag=value if isinstance(value, bool) else None,
        source=row.source,
        updated_at=instant(row.updated_at_us),
    )


def profile(row: CustomerRow) -> CustomerProfile:
    """The profile of a customer's row."""
    values: dict[str, Any] = {found.name: found.value for found in row.attributes}
    locale, channel = str(values.get("locale", "")).lower()[:2], str(values.get("preferred_channel", "")).upper()
    return CustomerProfile(
        row=row,
        last_seen_at=maybe_instant(row.last_seen_us),
        preferred_locale=Locale(locale) if locale in ("en", "fr") else None,
        preferred_channel=Channel(channel) if channel in Channel.__members__ else None,
        display_name=_string(values.get("display_name")),
        email=_string(values.get("email")),
        phone=_string(values.get("phone")),
        customer_since=maybe_instant(row.first_seen_us),
        consents=[_consent(found) for found in row.consents],
    )


def identity(row: IdentityRow) -> Identity:
    """An identity of its row."""
    return Identity(
        namespace=row.namespace,
        value=row.value,
        verified=row.verified,
        linked_at=instant(row.linked_at_us),
        shared=row.shared,
    )


def _consent(row: ConsentRow) -> Consent:
    return Consent(purpose=row.purpose, granted=row.allowed, since=instant(row.since_us), source=row.source)


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
