"""What scoring says of a customer: churn scores, why there is none, reasons, and records of the log "scores"."""

from pathlib import Path
from typing import Literal

import msgspec

from vigie_contracts.catalogue import read_toml
from vigie_contracts.errors import InvalidInput

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


class ChurnDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A churn definition file. The label interval is [as_of + gap, as_of + gap + horizon).

    `outcome` is the micro-conversion that ends the relationship (kind `closure`). A customer is eligible from
    `min_history_days` after the first known event until the outcome.
    """

    key: str
    kind: Literal["closure"] = "closure"
    name: dict[str, str]
    outcome: str
    gap_days: int
    horizon_days: int
    min_history_days: int
    bands: BandEdges
    primary: bool = False
    exclude_features: tuple[str, ...] = ()

    @property
    def model_name(self) -> str:
        """The registered model's name in MLflow."""
        return f"vigie-churn-{self.key.replace('_', '-')}"

    @classmethod
    def load(cls, feature_repo: Path, key: str) -> "ChurnDefinition":
        """Read `churn/KEY.toml`; InvalidInput when it does not exist or is wrong."""
        return read_toml(feature_repo / "churn" / f"{key}.toml", cls)

    @classmethod
    def load_all(cls, feature_repo: Path) -> "list[ChurnDefinition]":
        """All definitions, the primary first; InvalidInput unless exactly one is primary."""
        found = [read_toml(path, cls) for path in sorted((feature_repo / "churn").glob("*.toml"))]
        if sum(definition.primary for definition in found) != 1:
            raise InvalidInput(f"{feature_repo / 'churn'}: exactly one definition must say primary = true")
        return sorted(found, key=lambda definition: not definition.primary)


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
