"""The next best offer: filters with recorded verdicts, P x C x V x L, exploration with its exact propensity.

Pure and deterministic: everything a decision depends on is in `Situation`, its random source is seeded by the decision
id, and so `decide` on the stored situation gives the stored decision bit for bit.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.offers import (
    Channel,
    ContactPolicy,
    Decision,
    Offer,
    OfferFile,
    OfferUnavailableReason,
    Recommendation,
    Verdict,
    VerdictCode,
)
from vigie_contracts.scores import ReadPoint, Reason
from vigie_contracts.segments import Node, Value, Vocabulary, compile_predicate, evaluate, features_used

from vigie_scoring.domain import CustomerFacts

LEVER_RANGE = (0.5, 2.0)
PROTECTED_FEATURES = ("in_arrears", "vulnerable")
"""Features that, when declared and not zero, stop every offer: the institution's own decision, not computed here."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision was made from; stored beside it.

    `values` are the features and scores at the read point that predicates may name; `propensities` the calibrated
    probability of acceptance by offer, for offers that passed the filters. `vector` is ordered by the propensity
    model's features.
    """

    facts: CustomerFacts
    channel: Channel
    decided_at_us: int
    read_point: ReadPoint
    values: dict[str, Value]
    vector: list[int | None]
    propensities: dict[str, float]
    because: list[Reason]
    churned: bool
    model_version: str | None
    spec_hash: str | None
    catalogue_hash: str


class KeptCatalogue(msgspec.Struct, frozen=True):
    """An offer file with its checked predicates by text: kept under its hash, so that decisions can be replayed."""

    file: OfferFile
    predicates: dict[str, Node]


class OfferCatalogue:
    """The offers with their predicates; the hash names the version that a decision was made under."""

    def __init__(self, kept: KeptCatalogue) -> None:
        self.kept = kept
        self.file = kept.file
        self.policy: ContactPolicy = kept.file.policy
        self.offers = {offer.code: offer for offer in kept.file.offer}
        self.topics = {offer.code: offer.topic for offer in kept.file.offer}
        self.products = {offer.code: offer.product for offer in kept.file.offer}
        self.hash = hashlib.sha256(msgspec.json.encode(kept, order="sorted")).hexdigest()[:16]
        self.greatest_margin = max((offer.margin_minor for offer in kept.file.offer), default=0)
        _check(kept.file)

    @classmethod
    def compiled(cls, file: OfferFile, vocabulary: Vocabulary) -> "OfferCatalogue":
        """Check the predicates against what is declared; InvalidInput names the offer and the place."""
        return cls(KeptCatalogue(file, _compiled(file, vocabulary)))

    def holds(self, text: str, values: Mapping[str, Value]) -> bool:
        """Whether a predicate's text holds for features and scores; empty text always does."""
        return not text or evaluate(self.kept.predicates[text], values)

    @property
    def features(self) -> frozenset[str]:
        """Feature keys that the offers' predicates name."""
        return frozenset(key for tree in self.kept.predicates.values() for key in features_used(tree))


def _compiled(file: OfferFile, vocabulary: Vocabulary) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for offer in file.offer:
        for text in (offer.eligible, offer.suitable, *offer.context):
            try:
                found[text] = compile_predicate(text, vocabulary)
            except InvalidInput as error:
                raise InvalidInput(f"offers.toml: offer {offer.code!r}: {text!r}: {error.message}") from error
    return found


def _check(file: OfferFile) -> None:
    for code, times in Counter(offer.code for offer in file.offer).items():
        if times > 1:
            raise InvalidInput(f"offers.toml: two offers share the code {code!r}")
    if len({offer.currency for offer in file.offer}) > 1:
        raise InvalidInput("offers.toml: margins of different currencies cannot be compared; use one `currency`")
    for offer in file.offer:
        if offer.margin_minor <= 0:
            raise InvalidInput(f"offers.toml: offer {offer.code!r} needs a positive `margin_minor`")
        if any(weight <= 0 for weight in offer.context.values()):
            raise InvalidInput(f"offers.toml: offer {offer.code!r} has a context weight that is not positive")
    if not 0 <= file.policy.exploration_share <= 1:
        raise InvalidInput("offers.toml: `exploration_share` lies between 0 and 1")


# ---- filters --------------------------------------------------------------------------------------------------------


def verdicts_of(catalogue: OfferCatalogue, situation: Situation) -> list[Verdict]:
    """One verdict an offer, in file order: the first filter that removed it, or null."""
    return [verdict_of(catalogue, offer, situation) for offer in catalogue.file.offer]


def verdict_of(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Verdict:
    """Filters in order: consent, validity, eligibility, ownership, suitability, protection, contact policy."""
    for passes in _FILTERS:
        code, detail = passes(catalogue, offer, situation)
        if code is not None:
            return Verdict(offer=offer.code, rejected_by=code, detail=detail)
    return Verdict(offer=offer.code, rejected_by=None)


Outcome = tuple[VerdictCode | None, str]
_PASSED: Outcome = (None, "")


def _consent(_catalogue: OfferCatalogue, _offer: Offer, situation: Situation) -> Outcome:
    missing = [purpose for purpose in ("profiling", "marketing") if purpose in situation.facts.denied]
    return ("CONSENT", f"denied: {', '.join(missing)}") if missing else _PASSED


def _validity(_catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Outcome:
    if situation.decided_at_us < offer.active_from_us:
        return "NOT_VALID", "not yet active"
    if offer.active_to_us is not None and situation.decided_at_us >= offer.active_to_us:
        return "NOT_VALID", "no longer active"
    if situation.channel not in offer.channels:
        return "NOT_VALID", f"not offered on {situation.channel}"
    return _PASSED


def _eligibility(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Outcome:
    if situation.churned:
        return "NOT_ELIGIBLE", "the relationship has ended"
    if not catalogue.holds(offer.eligible, situation.values):
        return "NOT_ELIGIBLE", f"needs {offer.eligible}"
    return _PASSED


def _ownership(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Outcome:
    if offer.product in situation.facts.owned:
        return "ALREADY_OWNED", f"holds {offer.product}"
    for contact in situation.facts.contacts:
        if contact.kind == "ACCEPTED" and catalogue.products.get(contact.offer) == offer.product:
            return "ALREADY_OWNED", f"has accepted an offer of {offer.product}"
    return _PASSED


def _suitability(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Outcome:
    if not catalogue.holds(offer.suitable, situation.values):
        return "NOT_SUITABLE", f"needs {offer.suitable}"
    return _PASSED


def _protection(_catalogue: OfferCatalogue, _offer: Offer, situation: Situation) -> Outcome:
    named = [key for key in PROTECTED_FEATURES if situation.values.get(key)]
    return ("ARREARS_OR_VULNERABLE", ", ".join(named)) if named else _PASSED


def _contact_policy(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> Outcome:
    policy, now_us = catalogue.policy, situation.decided_at_us
    since_us = now_us - policy.window_days * DAY_US
    shown = sum(contact.kind == "SHOWN" and since_us <= contact.at_us < now_us for contact in situation.facts.contacts)
    if shown >= policy.max_shown:
        return "CONTACT_POLICY", f"{shown} offers shown within {policy.window_days} days"
    since_us = now_us - policy.cooling_off_days * DAY_US
    for contact in situation.facts.contacts:
        same_topic = catalogue.topics.get(contact.offer) == offer.topic
        if contact.kind == "DECLINED" and same_topic and since_us <= contact.at_us < now_us:
            return "CONTACT_POLICY", f"topic {offer.topic} was declined within {policy.cooling_off_days} days"
    return _PASSED


_FILTERS: tuple[Callable[[OfferCatalogue, Offer, Situation], Outcome], ...] = (
    _consent,
    _validity,
    _eligibility,
    _ownership,
    _suitability,
    _protection,
    _contact_policy,
)


# ---- ranking --------------------------------------------------------------------------------------------------------


def decide(catalogue: OfferCatalogue, situation: Situation) -> Decision:
    """The decision of a situation: verdicts, the ranking, exploration, or why there is none. Deterministic."""
    verdicts = verdicts_of(catalogue, situation)
    unavailable = _unavailable(verdicts, situation)
    decision_id = _decision_id(situation)
    ranked, explored = ([], False) if unavailable else _ranking(catalogue, situation, verdicts, decision_id)
    withdrawn = unavailable == "CONSENT_WITHDRAWN"
    return Decision(
        decision_id=decision_id,
        customer_id=situation.facts.customer_id,
        channel=situation.channel,
        decided_at_us=situation.decided_at_us,
        expires_at_us=situation.decided_at_us + catalogue.policy.decision_valid_hours * HOUR_US,
        recommendations=ranked,
        verdicts=verdicts,
        unavailable=unavailable,
        explored=explored,
        model_version=situation.model_version,
        spec_hash=situation.spec_hash,
        catalogue_hash=situation.catalogue_hash,
        read_point=None if withdrawn else situation.read_point,
        vector=[] if withdrawn else situation.vector,
    )


def _unavailable(verdicts: Sequence[Verdict], situation: Situation) -> OfferUnavailableReason | None:
    codes = {verdict.rejected_by for verdict in verdicts}
    if "CONSENT" in codes:
        return "CONSENT_WITHDRAWN"
    if None not in codes:
        return "CONTACT_LIMIT_REACHED" if "CONTACT_POLICY" in codes else "NOTHING_ELIGIBLE"
    return "MODEL_UNAVAILABLE" if situation.model_version is None else None


def _decision_id(situation: Situation) -> str:
    return hashlib.sha256(msgspec.json.encode(situation)).hexdigest()[:32]


def factors(catalogue: OfferCatalogue, offer: Offer, situation: Situation) -> tuple[float, float, float, float]:
    """(P, C, V, L): propensity, product of the context weights that apply, margin over the greatest, bounded lever."""
    context = 1.0
    for text, weight in offer.context.items():
        if catalogue.holds(text, situation.values):
            context *= weight
    value = offer.margin_minor / catalogue.greatest_margin
    lever = min(max(offer.lever, LEVER_RANGE[0]), LEVER_RANGE[1])
    return situation.propensities[offer.code], context, value, lever


def _ranking(
    catalogue: OfferCatalogue, situation: Situation, verdicts: Sequence[Verdict], decision_id: str
) -> tuple[list[Recommendation], bool]:
    passed = [catalogue.offers[verdict.offer] for verdict in verdicts if verdict.rejected_by is None]
    found = {offer.code: factors(catalogue, offer, situation) for offer in passed}
    priority = {code: p * c * v * lever for code, (p, c, v, lever) in found.items()}
    greedy = sorted(priority, key=lambda code: (-priority[code], code))
    free = [code for code in greedy if not catalogue.offers[code].regulated]
    share = catalogue.policy.exploration_share
    drawn = draw(decision_id, share, len(free))
    order = explored_order(greedy, free, drawn or 0)
    chances = placement_propensities(greedy, free, share)
    return [
        _recommendation(decision_id, rank, code, situation, found[code], priority[code], chances[code, rank])
        for rank, code in enumerate(order, start=1)
    ], drawn is not None


def _recommendation(
    decision_id: str,
    rank: int,
    code: str,
    situation: Situation,
    found: tuple[float, float, float, float],
    priority: float,
    chance: float,
) -> Recommendation:
    propensity, context, value, lever = found
    return Recommendation(
        recommendation_id=f"{decision_id}-{code}",
        rank=rank,
        offer=code,
        channel=situation.channel,
        propensity=propensity,
        context=context,
        value=value,
        lever=lever,
        priority=priority,
        exploration_propensity=chance,
        because=situation.because,
    )


# ---- exploration ----------------------------------------------------------------------------------------------------


def draw(decision_id: str, share: float, choices: int) -> int | None:
    """The free offer to put first when this decision explores (index in greedy order), else null.

    Two independent uniforms come from SHA-256 of the decision id, so a replay draws the same.
    """
    if choices < 2 or _uniform(decision_id, "explore") >= share:
        return None
    return min(int(_uniform(decision_id, "choice") * choices), choices - 1)


def _uniform(decision_id: str, purpose: str) -> float:
    digest = hashlib.sha256(f"{decision_id}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def explored_order(greedy: Sequence[str], free: Sequence[str], drawn: int) -> list[str]:
    """The ranking with the drawn free offer in the first free place; regulated offers keep their places."""
    moved = iter((free[drawn], *free[:drawn], *free[drawn + 1 :])) if free else iter(())
    return [next(moved) if code in free else code for code in greedy]


def placement_propensities(greedy: Sequence[str], free: Sequence[str], share: float) -> dict[tuple[str, int], float]:
    """(offer, rank) -> exact probability that the policy shows this offer at this rank."""
    choices = len(free)
    chances: dict[tuple[str, int], float] = defaultdict(float)
    for drawn in range(max(choices, 1)):
        weight = share / choices if choices >= 2 else 0.0
        if drawn == 0:
            weight += 1.0 - (share if choices >= 2 else 0.0)
        for rank, code in enumerate(explored_order(greedy, free, drawn), start=1):
            chances[code, rank] += weight
    return dict(chances)
