"""Churn scores with their reasons, and why there is none."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from vigie_contracts import scores
from vigie_contracts.scores import Assessment, Reason

from vigie_gateway.context import Texts
from vigie_gateway.graph.scalars import Info, Locale, instant, text
from vigie_gateway.graph.wording import sentences

BandEnum = Enum("RiskBand", {name: name for name in scores.BANDS})  # type: ignore[misc]
RiskBand = strawberry.enum(BandEnum, description="A step of risk, with hysteresis so that it does not flicker.")

MESSAGES: dict[str, dict[str, str]] = {
    "CONSENT_WITHDRAWN": {
        "en": "The customer does not allow profiling.",
        "fr": "Le client n’autorise pas le profilage.",
    },
    "NOT_ELIGIBLE": {
        "en": "The churn definition does not cover this customer.",
        "fr": "La définition ne couvre pas ce client.",
    },
    "ALREADY_CHURNED": {"en": "The customer has already left.", "fr": "Le client est déjà parti."},
    "INSUFFICIENT_HISTORY": {
        "en": "Too little is known of the customer yet.",
        "fr": "On en sait encore trop peu sur le client.",
    },
    "STALE_FEATURES": {
        "en": "The features lag behind the events; the score comes when they have caught up.",
        "fr": "Les variables sont en retard sur les événements ; le score viendra ensuite.",
    },
    "MODEL_UNAVAILABLE": {
        "en": "No model is being served: train one and promote it.",
        "fr": "Aucun modèle n’est servi : entraînez-en un et promouvez-le.",
    },
}


@strawberry.enum(description="Which way a reason pushes the risk.")
class Direction(Enum):
    INCREASES_RISK = "INCREASES_RISK"
    LOWERS_RISK = "LOWERS_RISK"


@strawberry.enum(description="Why there is no score. There is never a made-up number.")
class ScoreUnavailableReason(Enum):
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    ALREADY_CHURNED = "ALREADY_CHURNED"
    INSUFFICIENT_HISTORY = "INSUFFICIENT_HISTORY"
    STALE_FEATURES = "STALE_FEATURES"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"


@strawberry.type(description="What counts as leaving.")
class ChurnDefinition:
    key: str = strawberry.field(description="Its key, for example `closure`.")
    horizon_days: int = strawberry.field(description="Length of the period in which the loss is expected.")
    names: strawberry.Private[dict[str, str]]

    @strawberry.field(description="Its name.")
    def name(self, locale: Locale | None = None) -> str:
        return text(self.names, locale)


@strawberry.type(description="A probability for one horizon.")
class HorizonProbability:
    days: int = strawberry.field(description="Days from now.")
    probability: float = strawberry.field(description="Calibrated probability, 0 to 1.")


@strawberry.type(
    description="A business concept that moved the score: its TreeSHAP contribution to the log-odds before calibration."
)
class ScoreReason:
    code: str = strawberry.field(description="The concept's code; never changes with the language.")
    direction: Direction = strawberry.field(description="Which way it pushes.")
    contribution: float = strawberry.field(description="Contribution to the log-odds before calibration.")
    feature: str | None = strawberry.field(description="The concept's strongest feature.")
    value: float | None = strawberry.field(description="The feature's value; null when it has none.")
    typical_value: float | None = strawberry.field(description="The feature's median in training.")
    texts: strawberry.Private[dict[str, str]]

    @strawberry.field(description="A sentence for people.")
    def text(self, locale: Locale | None = None) -> str:
        return text(self.texts, locale)


@strawberry.type(description="The last stored score of a customer.")
class ChurnScore:
    definition: ChurnDefinition = strawberry.field(description="What counts as leaving.")
    probability: float = strawberry.field(description="Calibrated probability over the definition's horizon, 0 to 1.")
    band: RiskBand = strawberry.field(description="The step of risk.")  # type: ignore[valid-type]
    horizons: list[HorizonProbability] = strawberry.field(description="Probabilities by horizon.")
    change_over7_days: float | None = strawberry.field(
        name="changeOver7Days", description="Change against the score seven days ago; null without one."
    )
    model_version: str = strawberry.field(description="Registered model and version.")
    features_as_of: datetime = strawberry.field(description="The instant the features were read at.")
    scored_at: datetime = strawberry.field(description="When the score was made.")
    all_reasons: strawberry.Private[list[ScoreReason]]

    @strawberry.field(description="What raises the risk, then what lowers it, each strongest first.")
    def reasons(self, first: int = 5) -> list[ScoreReason]:
        return self.all_reasons[: max(first, 0)]


@strawberry.type(description="There is no score, and why.")
class ScoreUnavailable:
    definition: ChurnDefinition = strawberry.field(description="What counts as leaving.")
    reason: ScoreUnavailableReason = strawberry.field(description="The code.")
    retry_after_seconds: int | None = strawberry.field(description="When asking again may help.")

    @strawberry.field(description="A sentence for people.")
    def message(self, locale: Locale | None = None) -> str:
        return text(MESSAGES[self.reason.value], locale)


ChurnAssessment = Annotated[
    ChurnScore | ScoreUnavailable, strawberry.union("ChurnAssessment", description="A score, or why there is none.")
]


def assessment(found: Assessment, texts: Texts, change: float | None = None) -> ChurnScore | ScoreUnavailable:
    """The graph's form of a stored assessment."""
    meaning = definition(found.definition, texts)
    if isinstance(found, scores.ScoreUnavailable):
        return ScoreUnavailable(
            definition=meaning,
            reason=ScoreUnavailableReason(found.reason),
            retry_after_seconds=found.retry_after_seconds,
        )
    return ChurnScore(
        definition=meaning,
        probability=found.probability,
        band=BandEnum[found.band],
        horizons=[HorizonProbability(days=days, probability=value) for days, value in found.horizons],
        change_over7_days=change,
        model_version=f"{found.model_name}/{found.model_version}",
        features_as_of=instant(found.read_point.t_us),
        scored_at=instant(found.scored_at_us),
        all_reasons=[reason(row, texts) for row in found.reasons],
    )


def definition(key: str, texts: Texts) -> ChurnDefinition:
    """A churn definition by key."""
    known = texts.definitions.get(key)
    return ChurnDefinition(
        key=key, horizon_days=known.horizon_days if known else 0, names=known.name if known else {"en": key}
    )


def unavailable(key: str, texts: Texts, why: ScoreUnavailableReason) -> ScoreUnavailable:
    """There is no assessment at all."""
    return ScoreUnavailable(definition=definition(key, texts), reason=why, retry_after_seconds=None)


def reason(row: Reason, texts: Texts) -> ScoreReason:
    """A reason with its sentences; the concept's title where the feature is not declared any more."""
    feature, concept = texts.features.get(row.feature), texts.concepts.get(row.code)
    told = {} if feature is None else sentences(feature, row.value, row.typical)
    return ScoreReason(
        code=row.code,
        direction=Direction(row.direction),
        contribution=row.contribution,
        feature=row.feature,
        value=row.value,
        typical_value=row.typical,
        texts=told or (concept.title if concept else {"en": row.code}),
    )


def primary(info: Info) -> str:
    """The key of the institution's primary definition."""
    return next(key for key, found in info.context.texts.definitions.items() if found.primary)
