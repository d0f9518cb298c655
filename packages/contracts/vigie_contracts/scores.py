"""What scoring says of a customer: churn scores, why there is none, reasons, and records of the log "scores"."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vigie_contracts.catalogue import Catalogue, read_toml
from vigie_contracts.errors import InvalidInput, NotFound

RiskBand = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
BANDS: tuple[RiskBand, ...] = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
UnavailableReason = Literal[
    "CONSENT_WITHDRAWN",
    "NOT_ELIGIBLE",
    "ALREADY_CHURNED",
    "INSUFFICIENT_HISTORY",
    "STALE_FEATURES",
    "MODEL_UNAVAILABLE",
]


class BandEdges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lowest probability of each band above LOW; a band is left only when the edge is passed by `hysteresis`."""

    medium: float
    high: float
    critical: float
    hysteresis: float = 0.01

    def band(self, probability: float, previous: RiskBand | None = None) -> RiskBand:
        """Band of a probability; with `previous`, a step down needs probability < edge - hysteresis."""
        edges = (self.medium, self.high, self.critical)
        level = sum(probability >= edge for edge in edges)
        if previous is not None:
            kept = sum(probability >= edge - self.hysteresis for edge in edges)
            level = max(level, min(kept, BANDS.index(previous)))
        return BANDS[level]


ChurnKind = Literal["closure", "inactivity", "balance_attrition"]


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measured property of micro-conversions (names or @categories) whose properties `where` are as given."""

    events: tuple[str, ...]
    value_property: str
    where: dict[str, str] = {}


class Attrition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `balance_attrition` watches, period by period of `horizon_days`; amounts are scaled integers (minor units).

    `sum`: the sum of the amounts of a period (an inflow). `last`: the latest amount by its end (a balance), which
    stands until the next one and is unknown when there is none within `periods` + 1 periods before as-of.
    A customer counts whose trailing median, over the `periods` before as-of, is at least `least`.
    """

    amounts: tuple[Amount, ...]
    measure: Literal["sum", "last"] = "sum"
    periods: int = 6
    share: float = 0.4
    least: int = 1

    def __post_init__(self) -> None:
        if not (self.amounts and self.periods >= 1 and 0 < self.share < 1 and self.least >= 1):
            raise ValueError("attrition needs amounts, periods >= 1, 0 < share < 1 and least >= 1")

    def standing(self, trailing: Sequence[int]) -> Literal["below least", "far under", "holds"]:
        """How a customer stands by the known values of the periods before, the latest one last.

        `far under`: the latest value is less than `share` of their median, so that the loss has happened already.
        """
        median = statistics.median(trailing) if trailing else 0
        if median < self.least:
            return "below least"
        return "far under" if trailing[-1] < self.share * median else "holds"


class ChurnDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A churn definition file. The label interval is [as_of + gap, as_of + gap + horizon). Lost is who, by kind:

    closure: has `outcome` in the interval. inactivity: has no act (an event of `activity`) in it. balance_attrition:
    has a value of `attrition` in it far under its trailing median.

    `outcome` is the micro-conversion that ends the relationship. A customer is eligible from `min_history_days` after
    the first known event until the outcome; for inactivity only with an act in the `horizon_days` before as-of, for
    balance_attrition only while the trailing median is worth it and the latest value is not far under it.
    `activity` is names and @categories of the catalogue, without `outcome`; `@customer` is all that a customer starts.
    """

    key: str
    kind: ChurnKind = "closure"
    name: dict[str, str]
    outcome: str
    gap_days: int
    horizon_days: int
    min_history_days: int
    bands: BandEdges
    primary: bool = False
    exclude_features: tuple[str, ...] = ()
    activity: tuple[str, ...] = ("@customer",)
    attrition: Attrition | None = None

    def __post_init__(self) -> None:
        if self.gap_days < 0 or self.horizon_days < 1 or self.min_history_days < 0:
            raise ValueError("gap_days and min_history_days are not negative, horizon_days is at least 1")
        if (self.kind == "balance_attrition") != (self.attrition is not None):
            raise ValueError("a table [attrition] belongs to kind = 'balance_attrition', and to no other kind")
        if self.min_history_days < self.trailing_days:
            raise ValueError(
                f"min_history_days must be at least {self.trailing_days}: the trailing median reads that many days"
            )

    @property
    def trailing_days(self) -> int:
        """Days of the periods before as-of whose median is taken; 0 for other kinds."""
        return self.attrition.periods * self.horizon_days if self.attrition else 0

    @property
    def model_name(self) -> str:
        """The registered model's name in MLflow."""
        return f"vigie-churn-{self.key.replace('_', '-')}"

    def at_horizon(self, days: int) -> "ChurnDefinition":
        """The same with another horizon, and with the history that its trailing median needs."""
        history = max(self.min_history_days, self.attrition.periods * days if self.attrition else 0)
        return msgspec.structs.replace(self, horizon_days=days, min_history_days=history)

    def resolved(self, catalogue: Catalogue, where: str) -> "ChurnDefinition":
        """With the names of the catalogue in the place of categories; InvalidInput for what is not in it."""
        catalogue.expand([self.outcome], where)
        acts = tuple(name for name in catalogue.expand(self.activity, where) if name != self.outcome)
        if self.kind == "inactivity" and not acts:
            raise InvalidInput(f"{where}: `activity` names no micro-conversion but the outcome")
        if self.attrition is None:
            return msgspec.structs.replace(self, activity=acts)
        amounts = tuple(_resolved(amount, catalogue, where) for amount in self.attrition.amounts)
        return msgspec.structs.replace(
            self, activity=acts, attrition=msgspec.structs.replace(self.attrition, amounts=amounts)
        )

    @classmethod
    def load(cls, feature_repo: Path, key: str) -> "ChurnDefinition":
        """Read `churn/KEY.toml`; NotFound names those that there are, InvalidInput says what is wrong."""
        path = feature_repo / "churn" / f"{key}.toml"
        known = sorted(found.stem for found in path.parent.glob("*.toml"))
        if key not in known:
            raise NotFound(f"there is no churn definition {key!r}; {path.parent} has {', '.join(known) or 'none'}")
        return _read(path, Catalogue.load(feature_repo))

    @classmethod
    def load_all(cls, feature_repo: Path) -> "list[ChurnDefinition]":
        """All definitions, the primary first; InvalidInput unless exactly one is primary."""
        catalogue = Catalogue.load(feature_repo)
        found = [_read(path, catalogue) for path in sorted((feature_repo / "churn").glob("*.toml"))]
        if sum(definition.primary for definition in found) != 1:
            raise InvalidInput(f"{feature_repo / 'churn'}: exactly one definition must say primary = true")
        return sorted(found, key=lambda definition: not definition.primary)


def _read(path: Path, catalogue: Catalogue) -> ChurnDefinition:
    found = read_toml(path, ChurnDefinition)
    if found.key != path.stem:
        raise InvalidInput(f"{path}: the key is {found.key!r}, but the file's name says {path.stem!r}")
    return found.resolved(catalogue, str(path))


def _resolved(amount: Amount, catalogue: Catalogue, where: str) -> Amount:
    events = catalogue.expand(amount.events, where)
    if not events or not catalogue.is_measured(events, amount.value_property):
        raise InvalidInput(f"{where}: {amount.value_property!r} must be a numeric property of all events of its amount")
    return msgspec.structs.replace(amount, events=events)


class Concept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A business concept that groups features in reasons; its title by locale."""

    code: str
    title: dict[str, str]


class _ConceptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    concept: list[Concept]


def load_concepts(feature_repo: Path) -> dict[str, Concept]:
    """`concepts.toml` by code."""
    file = read_toml(feature_repo / "concepts.toml", _ConceptFile)
    return {concept.code: concept for concept in file.concept}


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """A concept's TreeSHAP contribution to the log-odds before calibration, with its strongest feature."""

    code: str
    direction: Literal["INCREASES_RISK", "LOWERS_RISK"]
    contribution: float
    feature: str
    value: int | None
    typical: float | None


class ReadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """(t, pos): the instant, and per lane the last number of the log "events" that was applied."""

    t_us: int
    pos: dict[int, int]


class ChurnScore(msgspec.Struct, frozen=True, kw_only=True, tag="score"):
    """A calibrated probability with everything needed to recompute it. `vector` is ordered by the model's features."""

    customer_id: str
    definition: str
    probability: float
    horizons: list[tuple[int, float]]
    band: RiskBand
    reasons: list[Reason]
    model_name: str
    model_version: str
    spec_hash: str
    read_point: ReadPoint
    vector: list[int | None]
    scored_at_us: int


class ScoreUnavailable(msgspec.Struct, frozen=True, kw_only=True, tag="unavailable"):
    """Why there is no score. Never replaced by a made-up number."""

    customer_id: str
    definition: str
    reason: UnavailableReason
    scored_at_us: int
    retry_after_seconds: int | None = None


Assessment = ChurnScore | ScoreUnavailable


class ScoreRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the log "scores". `previous` is the last assessment that was an update (null: none yet).

    `is_update`: the band changed, availability changed, or the probability moved by at least the threshold since the
    last update. Subscriptions and webhooks see updates only.
    """

    score_id: str
    current: Assessment
    previous: Assessment | None = None
    is_update: bool = False


def encode_score(record: ScoreRecord) -> bytes:
    """JSON bytes of a record of the log "scores"."""
    return msgspec.json.encode(record)


_SCORES = msgspec.json.Decoder(ScoreRecord)


def decode_score(payload: bytes) -> ScoreRecord:
    """A record of the log "scores"; msgspec.ValidationError when it is none."""
    return _SCORES.decode(payload)
