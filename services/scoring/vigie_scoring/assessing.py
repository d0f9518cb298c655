"""Churn assessments of a batch: who may be scored, one prediction for all, reasons, band and what is an update."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from vigie_contracts.scores import Assessment, ChurnDefinition, ChurnScore, RiskBand, ScoreRecord

from vigie_scoring.block import FeatureBlock
from vigie_scoring.domain import (
    NO_TRAIL,
    CustomerFacts,
    Trail,
    ineligible,
    is_update,
    reasons_of,
    unavailable,
    worth_storing,
)
from vigie_scoring.loaded import LoadedModel
from vigie_scoring.store import Standing

NO_TRAILS: Mapping[str, Trail] = {}


@dataclass(frozen=True)
class Assessed:
    """What a pass found of a customer: what now stands, and the record to append (null: nothing new to store)."""

    customer_id: str
    assessment: Assessment
    record: ScoreRecord | None


@dataclass(frozen=True)
class Batch:
    """The customers of a pass with everything that is known of them."""

    customer_ids: Sequence[str]
    facts: Mapping[str, CustomerFacts]
    block: FeatureBlock
    now_us: int

    def instant(self, customer_id: str) -> int:
        """The instant that a customer is assessed for."""
        return max(self.now_us, self.block.instant(customer_id))


def assess(
    batch: Batch,
    definition: ChurnDefinition,
    model: LoadedModel | None,
    standing: Mapping[str, Standing],
    threshold: float,
    trails: Mapping[str, Trail] = NO_TRAILS,
) -> list[Assessed]:
    """Assess every customer of the batch for one definition; one prediction for all that are eligible."""
    found: dict[str, Assessment] = {}
    for customer_id in batch.customer_ids:
        trail, facts = trails.get(customer_id, NO_TRAIL), batch.facts[customer_id]
        reason = ineligible(definition, facts, batch.instant(customer_id), trail)
        if reason is None and not batch.block.is_present(customer_id):
            reason = "INSUFFICIENT_HISTORY"
        if reason is None and model is None:
            reason = "MODEL_UNAVAILABLE"
        if reason is not None:
            found[customer_id] = unavailable(customer_id, definition.key, reason, batch.now_us)
    eligible = [customer_id for customer_id in batch.customer_ids if customer_id not in found]
    if model is not None and eligible:
        found.update((score.customer_id, score) for score in _scores(batch, eligible, definition, model, standing))
    return [recorded(found[customer_id], standing.get(customer_id), threshold) for customer_id in batch.customer_ids]


def _scores(
    batch: Batch,
    eligible: Sequence[str],
    definition: ChurnDefinition,
    model: LoadedModel,
    standing: Mapping[str, Standing],
) -> list[ChurnScore]:
    rows = batch.block.matrix(eligible, model.features)
    probabilities = model.probabilities(rows)
    contributions, _bias = model.contributions(rows)
    scores = []
    for place, customer_id in enumerate(eligible):
        probability = float(probabilities[place])
        vector = batch.block.vector(customer_id, model.features)
        scores.append(
            ChurnScore(
                customer_id=customer_id,
                definition=definition.key,
                probability=probability,
                horizons=[(definition.horizon_days, probability)],
                band=definition.bands.band(probability, _band(standing.get(customer_id))),
                reasons=reasons_of(contributions[place], model.features, vector, model.document.typical),
                model_name=model.name,
                model_version=model.version,
                spec_hash=model.document.spec_hash,
                read_point=batch.block.read_point(customer_id),
                vector=vector,
                scored_at_us=batch.now_us,
            )
        )
    return scores


def _band(standing: Standing | None) -> RiskBand | None:
    current = standing.current if standing else None
    return current.band if isinstance(current, ChurnScore) else None


def recorded(current: Assessment, standing: Standing | None, threshold: float) -> Assessed:
    """The assessment with the record that it needs, if any. A withdrawal repeats nothing of the score before."""
    if not worth_storing(standing.current if standing else None, current):
        return Assessed(current.customer_id, current, None)
    last_update = standing.last_update if standing else None
    update = is_update(last_update, current, threshold)
    withdrawn = not isinstance(current, ChurnScore) and current.reason == "CONSENT_WITHDRAWN"
    record = ScoreRecord(
        score_id=_score_id(current),
        current=current,
        previous=None if withdrawn else last_update,
        is_update=update,
    )
    return Assessed(current.customer_id, current, record)


def ended(customer_id: str, definition: str, now_us: int, had_score: bool) -> ScoreRecord:
    """What is said after an erasure, in the words of a withdrawn consent; an update for whoever was told a score."""
    current = unavailable(customer_id, definition, "CONSENT_WITHDRAWN", now_us)
    return ScoreRecord(score_id=_score_id(current), current=current, is_update=had_score)


def _score_id(current: Assessment) -> str:
    return hashlib.sha256(msgspec.json.encode(current)).hexdigest()[:32]


def covers(standing: Standing | None, cause: Mapping[int, int]) -> bool:
    """Whether the standing score was read at or after every cause (lane -> number), so that it need not be repeated."""
    current = standing.current if standing else None
    if not isinstance(current, ChurnScore):
        return False
    return all(current.read_point.pos.get(lane, 0) >= number for lane, number in cause.items())


def is_of(standing: Standing | None, model: LoadedModel | None) -> bool:
    """Whether the standing score was made by this version."""
    current = standing.current if standing else None
    return model is None or (isinstance(current, ChurnScore) and current.model_version == model.version)
