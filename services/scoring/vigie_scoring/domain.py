"""What a churn assessment is made of: facts of a customer, eligibility, calibration, reasons, what is an update.

Pure: time, probabilities and contributions are passed in; nothing here reads a clock, a file or a database.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray
from vigie_contracts.events import PURPOSES, Purpose
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import Calibrator
from vigie_contracts.scores import (
    Assessment,
    Attrition,
    ChurnDefinition,
    ChurnScore,
    Reason,
    ScoreUnavailable,
    UnavailableReason,
)

RAISING_REASONS = 3
LOWERING_REASONS = 2
CHURN_PURPOSE: Purpose = "profiling"

Floats = NDArray[np.float64]


class Contact(msgspec.Struct, frozen=True, array_like=True):
    """An offer event of a customer: SHOWN, CLICKED, ACCEPTED or DECLINED, at an effective instant."""

    kind: str
    offer: str
    at_us: int


class CustomerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What scoring's own tail of the log "events" knows of a customer, over all its members.

    `denied` are the purposes that any member's latest statement denies (or that the settings deny while unset),
    `outcomes` the earliest instant of each definition's outcome, `owned` the products held.
    """

    customer_id: str
    first_seen_us: int | None = None
    last_activity_us: int | None = None
    denied: list[Purpose] = []
    outcomes: dict[str, int] = {}
    owned: list[str] = []
    contacts: list[Contact] = []

    def denies(self, *purposes: Purpose) -> bool:
        """Whether any of the purposes is denied."""
        return any(purpose in self.denied for purpose in purposes)


def denied_purposes(states: dict[Purpose, list[str]], unset_denied: Sequence[str]) -> list[Purpose]:
    """Purposes denied by any member's latest statement, or denied while no member has stated anything."""
    found: list[Purpose] = []
    for purpose in PURPOSES:
        stated = [state for state in states.get(purpose, []) if state != "unset"]
        if "denied" in stated or (not stated and purpose in unset_denied):
            found.append(purpose)
    return found


class Trail(msgspec.Struct, frozen=True):
    """What a definition's own eligibility needs: the last act that counts, amounts as (at, minor units) by time."""

    last_act_us: int | None = None
    amounts: tuple[tuple[int, int], ...] = ()


NO_TRAIL = Trail()


def ineligible(
    definition: ChurnDefinition, facts: CustomerFacts, t_us: int, trail: Trail = NO_TRAIL
) -> UnavailableReason | None:
    """Why a customer may not be scored at `t_us`: consent, then the outcome, too little history, its own eligibility.

    The last is what training calls eligible (vigie_training.fates), from the same events.
    """
    if facts.denies(CHURN_PURPOSE):
        return "CONSENT_WITHDRAWN"
    if facts.outcomes.get(definition.outcome, t_us) < t_us:
        return "ALREADY_CHURNED"
    if facts.first_seen_us is None or t_us - facts.first_seen_us < definition.min_history_days * DAY_US:
        return "INSUFFICIENT_HISTORY"
    horizon_us = definition.horizon_days * DAY_US
    if definition.kind == "inactivity" and (trail.last_act_us is None or trail.last_act_us < t_us - horizon_us):
        return "ALREADY_CHURNED"
    if definition.attrition is not None:
        standing = definition.attrition.standing(_trailing(trail, definition.attrition, t_us, horizon_us))
        return {"below least": "NOT_ELIGIBLE", "far under": "ALREADY_CHURNED", "holds": None}[standing]
    return None


def _trailing(trail: Trail, attrition: Attrition, t_us: int, horizon_us: int) -> list[int]:
    """Known values of the periods before `t_us`, the latest last."""
    found: list[int] = []
    begins = [t_us - number * horizon_us for number in range(attrition.periods, -1, -1)]
    for begin, end in pairwise(begins):
        if attrition.measure == "sum":
            found.append(sum(amount for at_us, amount in trail.amounts if begin <= at_us < end))
        else:
            levels = [amount for at_us, amount in trail.amounts if begins[0] - horizon_us <= at_us < end]
            found.extend(levels[-1:])
    return found


def calibrate(calibrator: Calibrator, margins: Floats) -> Floats:
    """Probabilities of raw margins (log-odds): interpolated between isotonic steps, or Platt's sigmoid."""
    if calibrator.kind == "isotonic":
        return np.interp(margins, calibrator.x, calibrator.y)
    scaled = calibrator.a * margins + calibrator.b
    return np.array([_sigmoid(float(margin)) for margin in scaled], dtype=np.float64)


def _sigmoid(margin: float) -> float:
    """One at a time by the C library, so that a row's probability does not depend on its place in a batch."""
    if margin < 0:
        return math.exp(margin) / (1.0 + math.exp(margin))
    return 1.0 / (1.0 + math.exp(-margin))


def reasons_of(
    contributions: Floats,
    features: Sequence[FeatureSpec],
    values: Sequence[int | None],
    typical: Sequence[float | None],
) -> list[Reason]:
    """Top 3 raising and top 2 lowering concepts of one row's TreeSHAP contributions (log-odds, without the bias).

    A concept's contribution is the sum over its features; its strongest feature is the largest in the same direction.
    """
    grouped: dict[str, list[int]] = {}
    for index, feature in enumerate(features):
        grouped.setdefault(feature.concept, []).append(index)
    totals = sorted(((float(sum(contributions[i] for i in group)), code) for code, group in grouped.items()))
    lowering = [(total, code) for total, code in totals if total < 0][:LOWERING_REASONS]
    raising = [(total, code) for total, code in reversed(totals) if total > 0][:RAISING_REASONS]
    return [
        _reason(code, total, _strongest(grouped[code], contributions, total), features, values, typical)
        for total, code in (*raising, *lowering)
    ]


def _strongest(group: Sequence[int], contributions: Floats, total: float) -> int:
    sign = 1.0 if total > 0 else -1.0
    return max(group, key=lambda index: sign * float(contributions[index]))


def _reason(
    code: str,
    total: float,
    strongest: int,
    features: Sequence[FeatureSpec],
    values: Sequence[int | None],
    typical: Sequence[float | None],
) -> Reason:
    return Reason(
        code=code,
        direction="INCREASES_RISK" if total > 0 else "LOWERS_RISK",
        contribution=total,
        feature=features[strongest].key,
        value=values[strongest],
        typical=typical[strongest],
    )


def is_update(last_update: Assessment | None, current: Assessment, threshold: float) -> bool:
    """Whether subscribers hear of it: band or availability changed, or the probability moved by the threshold.

    Compared with `last_update`, the last assessment that was an update. The first score is one; a first
    `ScoreUnavailable` is none, because nothing was available before either.
    """
    if isinstance(current, ScoreUnavailable):
        return isinstance(last_update, ChurnScore)
    if not isinstance(last_update, ChurnScore):
        return True
    return current.band != last_update.band or abs(current.probability - last_update.probability) >= threshold


def worth_storing(standing: Assessment | None, current: Assessment) -> bool:
    """Scores always; why there is none only when that changed, and never for a customer who never had a score."""
    if isinstance(current, ChurnScore):
        return True
    if standing is None:
        return current.reason != "MODEL_UNAVAILABLE"
    return isinstance(standing, ChurnScore) or standing.reason != current.reason


RETRY_AFTER_SECONDS: dict[UnavailableReason, int] = {"MODEL_UNAVAILABLE": 60, "STALE_FEATURES": 60}


def unavailable(customer_id: str, definition: str, reason: UnavailableReason, now_us: int) -> ScoreUnavailable:
    """Why there is no score, said at business instant `now_us`."""
    return ScoreUnavailable(
        customer_id=customer_id,
        definition=definition,
        reason=reason,
        scored_at_us=now_us,
        retry_after_seconds=RETRY_AFTER_SECONDS.get(reason),
    )
