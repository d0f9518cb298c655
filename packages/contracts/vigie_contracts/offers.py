"""Offers as data, verdicts of the filters, and decisions: what was said to whom, with everything behind it."""

from pathlib import Path
from typing import Literal

import msgspec

from vigie_contracts.catalogue import read_toml
from vigie_contracts.scores import ReadPoint, Reason

Channel = Literal["EMAIL", "PUSH", "SMS", "IN_APP", "PHONE", "BRANCH"]
OfferUnavailableReason = Literal["CONSENT_WITHDRAWN", "CONTACT_LIMIT_REACHED", "NOTHING_ELIGIBLE", "MODEL_UNAVAILABLE"]
VerdictCode = Literal[
    "CONSENT", "NOT_ELIGIBLE", "ALREADY_OWNED", "NOT_SUITABLE", "ARREARS_OR_VULNERABLE", "CONTACT_POLICY", "NOT_VALID"
]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of `feature_repo/offers.toml`. `eligible` and `suitable` are predicates in the segment language.

    `margin_minor` is the expected margin in minor units of `currency`; `lever` is bounded to [0.5, 2];
    `context` maps a feature predicate to a weight that multiplies the priority.
    """

    code: str
    title: dict[str, str]
    terms: dict[str, str]
    product: str
    topic: str
    channels: list[Channel]
    margin_minor: int
    currency: str = "EUR"
    lever: float = 1.0
    eligible: str = ""
    suitable: str = ""
    regulated: bool = False
    active_from_us: int = 0
    active_to_us: int | None = None
    context: dict[str, float] = {}


class ContactPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `max_shown` SHOWN events in `window_days`; none of a topic for `cooling_off_days` after DECLINED."""

    max_shown: int = 5
    window_days: int = 7
    cooling_off_days: int = 30
    decision_valid_hours: int = 24
    exploration_share: float = 0.05


class OfferFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `offers.toml`."""

    offer: list[Offer]
    policy: ContactPolicy = ContactPolicy()


def load_offers(feature_repo: Path) -> OfferFile:
    """Read `offers.toml`; InvalidInput says what is wrong."""
    return read_toml(feature_repo / "offers.toml", OfferFile)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The first filter that removed an offer, or null when it passed; `detail` is for people who ask why."""

    offer: str
    rejected_by: VerdictCode | None
    detail: str = ""


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """One ranked offer with its factors: priority = propensity x context x value x lever."""

    recommendation_id: str
    rank: int
    offer: str
    channel: Channel | None
    propensity: float
    context: float
    value: float
    lever: float
    priority: float
    exploration_propensity: float
    because: list[Reason]


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag="decision"):
    """A standing decision of a customer and channel, kept until `expires_at_us` or until something changes."""

    decision_id: str
    customer_id: str
    channel: Channel
    decided_at_us: int
    expires_at_us: int
    recommendations: list[Recommendation]
    verdicts: list[Verdict]
    unavailable: OfferUnavailableReason | None
    explored: bool
    model_version: str | None
    spec_hash: str | None
    catalogue_hash: str
    read_point: ReadPoint | None
    vector: list[int | None]
