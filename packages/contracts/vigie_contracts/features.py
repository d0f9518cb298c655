"""The feature table: one row declares a feature, and everything else follows from the row.

All values are 64-bit integers or null, so that every engine's result can be compared for equality. What each measure
means is defined in `docs/features.md` (section "Measures"); the oracle, the stream kernel and the batch query each
implement that text and import nothing from each other.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vigie_contracts.catalogue import Catalogue, read_toml
from vigie_contracts.errors import InvalidInput

Measure = Literal[
    "count", "sum", "max", "trend", "baseline", "rate", "active_days", "streak", "longest_gap", "breadth", "weekday",
    "weekend_share", "hour", "recency", "tenure", "nth", "last", "attribute", "engagement",
]  # fmt: skip
WINDOW_DAYS = (1, 7, 30, 90)
HOUR_WINDOW_DAYS = (1, 7)
"""Windows whose left edge is a UTC hour; the others begin at local midnight."""
BASELINE_DAYS = 90
"""The customer's own long window, against which `baseline` holds a shorter one."""
MOST_NTH = 16

_NO_WINDOW = frozenset(("recency", "tenure", "nth", "last", "attribute"))
_WINDOWS: dict[str, tuple[int, ...]] = {
    "max": (30, 90), "weekday": (30, 90), "weekend_share": (30, 90), "hour": HOUR_WINDOW_DAYS, "baseline": (1, 7, 30),
}  # fmt: skip
_NULL_WITHOUT_EVENTS = frozenset(("recency", "tenure", "nth", "last", "attribute", "max", "weekday", "hour"))
_RATIOS = frozenset(("trend", "rate", "baseline", "weekend_share"))


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of an engagement score: floor(weight * min(x, cap) / cap), x a count or active days in the window."""

    events: tuple[str, ...]
    measure: Literal["count", "active_days"] = "count"
    weight: int
    cap: int


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the feature table. `events` are catalogue names, or `@category` (`@customer`: all a customer initiates).

    `where` filters by exact string value of declared properties. `zero_over_zero`, `x_over_zero` and `cap` are permille
    values of ratios. `nth` is which event the measure of that name waits for. `categories` are an attribute's declared
    values; without them it is an integer. `label` (by locale) and `unit` are for people: what reasons call the feature,
    and what its integers count when that does not follow from the measure (minor units of money, seconds).
    """

    name: str
    description: str
    measure: Measure
    owner: str = "vigie"
    version: int = 1
    events: tuple[str, ...] = ()
    where: dict[str, str] = {}
    value_property: str | None = None
    window_days: int | None = None
    nth: int | None = None
    denominator: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    attribute: str | None = None
    categories: tuple[str, ...] = ()
    zero_over_zero: int = 1000
    x_over_zero: int = 10_000
    cap: int = 10_000
    concept: str = "other"
    label: dict[str, str] = {}
    unit: Literal["minor", "seconds"] | None = None

    @property
    def key(self) -> str:
        """`name`, or `name@2` from version 2 on: how models and Feast refer to it."""
        return self.name if self.version == 1 else f"{self.name}@{self.version}"

    @property
    def default(self) -> int | None:
        """The value of a customer without events."""
        if self.measure in _NULL_WITHOUT_EVENTS:
            return None
        if self.measure == "longest_gap":
            return (self.window_days or 0) + 1
        return self.zero_over_zero if self.measure in _RATIOS else 0

    @property
    def definition_hash(self) -> str:
        """16 hex digits of SHA-256 over what the value depends on (no name, version, or text for people)."""
        body = msgspec.structs.asdict(self)
        for field in ("name", "description", "owner", "version", "concept", "label", "unit"):
            del body[field]
        if self.nth is None:
            del body["nth"]  # so that a row from before this field keeps its hash
        return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()[:16]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    features: list[FeatureSpec]


class FeatureTable:
    """The declared features in file order, with categories expanded by the catalogue."""

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        self.features = tuple(features)
        self.by_key = {feature.key: feature for feature in self.features}
        if len(self.by_key) != len(self.features):
            raise InvalidInput("two rows of the feature table share a name and version")

    @classmethod
    def load(cls, feature_repo: Path) -> "FeatureTable":
        """Read `features.toml` and check it against `catalogue.toml`; InvalidInput says which row and why."""
        path = feature_repo / "features.toml"
        catalogue = Catalogue.load(feature_repo)
        file = read_toml(path, _File)
        return cls([_checked(row, catalogue, path) for row in file.features])

    def select(self, keys: Sequence[str]) -> tuple[FeatureSpec, ...]:
        """Rows by key, in the order asked for; InvalidInput names an unknown one."""
        missing = [key for key in keys if key not in self.by_key]
        if missing:
            raise InvalidInput(f"no such feature: {', '.join(missing)}")
        return tuple(self.by_key[key] for key in keys)


def feature_spec_hash(features: Sequence[FeatureSpec]) -> str:
    """Hash of an ordered (key, definition hash) list: what a model was trained on. 16 hex digits of SHA-256."""
    pairs = [(feature.key, feature.definition_hash) for feature in features]
    return hashlib.sha256(msgspec.json.encode(pairs)).hexdigest()[:16]


def _checked(row: FeatureSpec, catalogue: Catalogue, path: Path) -> FeatureSpec:
    where = f"{path}: feature {row.name!r}"
    _check_window(row, where)
    if row.measure in ("sum", "max", "last") and not _is_measured(row, catalogue):
        raise InvalidInput(f"{where}: `value_property` must be a numeric property of all its events")
    if (row.measure == "nth") != (row.nth is not None) or not 2 <= (row.nth or 2) <= MOST_NTH:
        raise InvalidInput(f"{where}: `nth` is for the measure 'nth', from 2 to {MOST_NTH}")
    if row.measure == "rate" and not row.denominator:
        raise InvalidInput(f"{where}: a rate needs `denominator`")
    if row.measure == "attribute":
        _check_attribute(row, catalogue, where)
    elif row.measure != "engagement" and not row.events:
        raise InvalidInput(f"{where}: `events` is empty")
    if row.cap < 1 or any(part.cap < 1 or part.weight < 0 for part in row.components):
        raise InvalidInput(f"{where}: caps must be positive and weights not negative")
    components = tuple(
        msgspec.structs.replace(part, events=catalogue.expand(part.events, where)) for part in row.components
    )
    return msgspec.structs.replace(
        row,
        events=catalogue.expand(row.events, where),
        denominator=catalogue.expand(row.denominator, where),
        components=components,
    )


def _check_window(row: FeatureSpec, where: str) -> None:
    if row.measure in _NO_WINDOW:
        if row.window_days is not None:
            raise InvalidInput(f"{where}: {row.measure!r} has no window")
        return
    allowed = _WINDOWS.get(row.measure, WINDOW_DAYS)
    if row.window_days not in allowed:
        raise InvalidInput(f"{where}: window_days must be one of {allowed} for {row.measure!r}")


def _is_measured(row: FeatureSpec, catalogue: Catalogue) -> bool:
    return catalogue.is_measured(catalogue.expand(row.events, row.name), row.value_property or "")


def _check_attribute(row: FeatureSpec, catalogue: Catalogue, where: str) -> None:
    spec = catalogue.attributes.get(row.attribute or "")
    if spec is None:
        raise InvalidInput(f"{where}: attribute {row.attribute!r} is not in the catalogue")
    if spec.pii is not None:
        raise InvalidInput(f"{where}: attribute {row.attribute!r} is personal ({spec.pii}) and may not be a feature")
    if spec.type == "string" and not row.categories:
        raise InvalidInput(f"{where}: declare the categories of {row.attribute!r}")
