"""`vigie.json`: what a logged model says of itself, read by training, gate and serving without unpickling anything.

A model's artifacts are `booster.ubj` (XGBoost), `vigie.json` (this struct) and MLflow's own files. The raw margin
becomes a probability by `Calibrator`; rows are ordered by `features`.
"""

from typing import Literal

import msgspec

MODEL_FILE = "vigie.json"
BOOSTER_FILE = "booster.ubj"
SPEC_HASH_TAG = "vigie.feature_spec_hash"
PROPENSITY_MODEL = "vigie-next-best-offer"
CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """Maps the raw margin (log-odds) to a probability.

    isotonic: linear interpolation of (x, y), flat outside. platt: 1 / (1 + exp(-(a * margin + b))).
    """

    kind: Literal["isotonic", "platt"]
    x: list[float] = []
    y: list[float] = []
    a: float = 1.0
    b: float = 0.0


class GoldenRow(msgspec.Struct, frozen=True):
    """A row that serving must reproduce (within 1e-6) before a version goes live."""

    vector: list[int | None]
    probability: float


class ModelDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `vigie.json`.

    For the propensity model each input row is the customer's features followed by one 0/1 column for each of `offers`.
    `typical` is each feature's median in training (null when mostly absent).
    """

    kind: Literal["churn", "propensity"]
    definition: str
    features: list[str]
    definition_hashes: list[str]
    spec_hash: str
    horizon_days: int
    gap_days: int
    calibrator: Calibrator
    typical: list[float | None]
    golden: list[GoldenRow]
    base_rate: float
    offers: list[str] = []


def encode_document(document: ModelDocument) -> bytes:
    """JSON bytes of `vigie.json`."""
    return msgspec.json.format(msgspec.json.encode(document))


def decode_document(payload: bytes) -> ModelDocument:
    """Parse `vigie.json`; msgspec.ValidationError when it is none."""
    return msgspec.json.decode(payload, type=ModelDocument)
