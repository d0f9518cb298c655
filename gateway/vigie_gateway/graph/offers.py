"""Offers, standing decisions, and why an offer was not made."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from vigie_contracts import offers as contract
from vigie_contracts.offers import Decision

from vigie_gateway.context import Texts
from vigie_gateway.graph.churn import ScoreReason, reason
from vigie_gateway.graph.scalars import Channel, Locale, Money, instant, maybe_instant, money, text
from vigie_gateway.identifiers import to_global

VERDICTS: dict[str, dict[str, str]] = {
    "CONSENT": {"en": "No consent for offers.", "fr": "Pas de consentement aux offres."},
    "NOT_ELIGIBLE": {"en": "The customer is not eligible.", "fr": "Le client n’est pas éligible."},
    "ALREADY_OWNED": {"en": "The customer owns it already.", "fr": "Le client la possède déjà."},
    "NOT_SUITABLE": {"en": "It does not suit the customer.", "fr": "Elle ne convient pas au client."},
    "ARREARS_OR_VULNERABLE": {
        "en": "Arrears or vulnerability forbid it.",
        "fr": "Impayés ou vulnérabilité l’interdisent.",
    },
    "CONTACT_POLICY": {
        "en": "The contact policy forbids it now.",
        "fr": "La politique de contact l’interdit pour l’instant.",
    },
    "NOT_VALID": {"en": "The offer is not valid now.", "fr": "L’offre n’est pas valable actuellement."},
}
UNAVAILABLE: dict[str, dict[str, str]] = {
    "CONSENT_WITHDRAWN": {"en": "The customer allows no offers.", "fr": "Le client n’autorise pas d’offres."},
    "CONTACT_LIMIT_REACHED": {"en": "Enough was offered for now.", "fr": "Assez d’offres pour l’instant."},
    "NOTHING_ELIGIBLE": {"en": "No offer fits the customer.", "fr": "Aucune offre ne convient au client."},
    "MODEL_UNAVAILABLE": {"en": "No offer model is being served.", "fr": "Aucun modèle d’offres n’est servi."},
}


@strawberry.enum(description="Why there is no offer.")
class OfferUnavailableReason(Enum):
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    CONTACT_LIMIT_REACHED = "CONTACT_LIMIT_REACHED"
    NOTHING_ELIGIBLE = "NOTHING_ELIGIBLE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"


@strawberry.type(description="Something that the institution may offer.")
class Offer:
    id: strawberry.ID = strawberry.field(description="Global id.")
    code: str = strawberry.field(description="Its code in the offer catalogue.")
    product: str = strawberry.field(description="The product it is about.")
    topic: str = strawberry.field(description="Its topic for the contact policy.")
    regulated: bool = strawberry.field(description="Whether suitability rules bind it.")
    expected_margin: Money = strawberry.field(description="Expected margin.")
    active_from: datetime = strawberry.field(description="From when it is valid.")
    active_to: datetime | None = strawberry.field(description="Until when it is valid; null: open.")
    titles: strawberry.Private[dict[str, str]]
    conditions: strawberry.Private[dict[str, str]]

    @strawberry.field(description="Its title.")
    def title(self, locale: Locale | None = None) -> str:
        return text(self.titles, locale)

    @strawberry.field(description="Its terms.")
    def terms(self, locale: Locale | None = None) -> str:
        return text(self.conditions, locale)


@strawberry.type(description="An offer that was not made, and the first filter that removed it.")
class OfferRejection:
    offer: Offer = strawberry.field(description="The offer.")
    code: str = strawberry.field(description="The filter's verdict.")
    detail: str = strawberry.field(description="What exactly was found, for people who ask why.")

    @strawberry.field(description="A sentence for people.")
    def text(self, locale: Locale | None = None) -> str:
        return text(VERDICTS.get(self.code, {"en": self.code}), locale)


@strawberry.type(description="A ranked offer: priority = propensity x context x value x lever.")
class OfferRecommendation:
    id: strawberry.ID = strawberry.field(description="Send it back with feedback.")
    rank: int = strawberry.field(description="1 is best.")
    offer: Offer = strawberry.field(description="The offer.")
    channel: Channel | None = strawberry.field(description="Where to make it.")
    propensity: float = strawberry.field(description="Calibrated probability that it is accepted.")
    context: float = strawberry.field(description="Context weight.")
    value: float = strawberry.field(description="Normalised value.")
    lever: float = strawberry.field(description="Business lever, 0.5 to 2.")
    priority: float = strawberry.field(description="The product of the four.")
    because: list[ScoreReason] = strawberry.field(description="What speaks for it.")


@strawberry.type(description="A standing decision for a customer and channel.")
class OfferRanking:
    id: strawberry.ID = strawberry.field(description="Global id.")
    channel: Channel = strawberry.field(description="The channel it was made for.")
    decided_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime = strawberry.field(description="Until when it stands.")
    explored: bool = strawberry.field(description="Whether the order was varied to learn from the answers.")
    model_version: str | None = strawberry.field(description="Version of the propensity model.")
    offers: list[OfferRecommendation] = strawberry.field(description="Best first.")
    rejected: list[OfferRejection] = strawberry.field(description="What was not offered, and why.")


@strawberry.type(description="There is no offer, and why.")
class OfferUnavailable:
    reason: OfferUnavailableReason = strawberry.field(description="The code.")
    retry_after_seconds: int | None = strawberry.field(description="When asking again may help.")
    rejected: list[OfferRejection] = strawberry.field(description="What was not offered, and why.")

    @strawberry.field(description="A sentence for people.")
    def message(self, locale: Locale | None = None) -> str:
        return text(UNAVAILABLE[self.reason.value], locale)


OfferDecision = Annotated[
    OfferRanking | OfferUnavailable, strawberry.union("OfferDecision", description="A decision, or why there is none.")
]


def offer(row: contract.Offer) -> Offer:
    """The graph's form of an offer."""
    return Offer(
        id=to_global("Offer", row.code),
        code=row.code,
        product=row.product,
        topic=row.topic,
        regulated=row.regulated,
        expected_margin=money(row.margin_minor, row.currency),
        active_from=instant(row.active_from_us),
        active_to=maybe_instant(row.active_to_us),
        titles=row.title,
        conditions=row.terms,
    )


def decision(
    row: Decision, known: dict[str, contract.Offer], texts: Texts, first: int
) -> OfferRanking | OfferUnavailable:
    """The graph's form of a decision; offers that left the catalogue are left out."""
    rejected = [
        OfferRejection(offer=offer(known[found.offer]), code=found.rejected_by, detail=found.detail)
        for found in row.verdicts
        if found.rejected_by is not None and found.offer in known
    ]
    if row.unavailable is not None:
        return OfferUnavailable(
            reason=OfferUnavailableReason(row.unavailable), retry_after_seconds=None, rejected=rejected
        )
    return OfferRanking(
        id=to_global("OfferRanking", row.decision_id),
        channel=Channel(row.channel),
        decided_at=instant(row.decided_at_us),
        expires_at=instant(row.expires_at_us),
        explored=row.explored,
        model_version=row.model_version,
        rejected=rejected,
        offers=[_recommendation(found, known, texts) for found in row.recommendations if found.offer in known][:first],
    )


def _recommendation(
    row: contract.Recommendation, known: dict[str, contract.Offer], texts: Texts
) -> OfferRecommendation:
    return OfferRecommendation(
        id=strawberry.ID(row.recommendation_id),
        rank=row.rank,
        offer=offer(known[row.offer]),
        channel=Channel(row.channel) if row.channel else None,
        propensity=row.propensity,
        context=row.context,
        value=row.value,
        lever=row.lever,
        priority=row.priority,
        because=[reason(found, texts) for found in row.because],
    )
