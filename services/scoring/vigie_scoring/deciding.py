"""Offer decisions of a batch: which of them must be made anew, one prediction for all candidates, and their replay."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import msgspec
import numpy as np
from vigie_contracts.errors import InvalidInput, NotFound
from vigie_contracts.offers import Channel, Decision, Verdict
from vigie_contracts.scores import ChurnScore, Reason

from vigie_scoring.arbitration import PROTECTED_FEATURES, KeptCatalogue, OfferCatalogue, Situation, decide, verdicts_of
from vigie_scoring.assessing import Assessed, Batch
from vigie_scoring.loaded import LoadedModel, as_rows
from vigie_scoring.segments import score_values
from vigie_scoring.store import StandingDecision

BECAUSE = 3


@dataclass(frozen=True)
class Decided:
    """A decision made anew, with what it was made from and its fingerprint."""

    decision: Decision
    situation: Situation
    fingerprint: str


def channels_of(names: Sequence[str]) -> tuple[Channel, ...]:
    """The channels that decisions stand for; InvalidInput names an unknown one."""
    known: tuple[Channel, ...] = get_args(Channel)
    chosen = tuple(channel for channel in known if channel in names)
    if unknown := set(names) - set(known):
        raise InvalidInput(f"no such channel: {', '.join(sorted(unknown))}; channels are {', '.join(known)}")
    return tuple(sorted(chosen, key=list(names).index))


class Decider:
    """Makes the decisions of a pass under one offer catalogue."""

    def __init__(self, catalogue: OfferCatalogue, channels: tuple[Channel, ...], known_features: set[str]) -> None:
        self.catalogue = catalogue
        self.channels = channels
        protected = known_features.intersection(PROTECTED_FEATURES)
        self.features = tuple(sorted(catalogue.features | protected))

    def decide(
        self,
        batch: Batch,
        assessed: Sequence[Assessed],
        model: LoadedModel | None,
        standing: Mapping[tuple[str, str], StandingDecision],
    ) -> list[Decided]:
        """Decisions for customers and channels where something changed since the standing one. Not for who denies."""
        due = [
            (situation, verdicts, mark)
            for one in assessed
            for situation, verdicts in self._situations(batch, one, model)
            if self._is_due(mark := _fingerprint(situation, verdicts), one, situation, standing)
        ]
        chances = _propensities(model, [(situation, verdicts) for situation, verdicts, _ in due])
        decided = []
        for (situation, _, mark), chance in zip(due, chances, strict=True):
            full = msgspec.structs.replace(situation, propensities=chance)
            decided.append(Decided(decide(self.catalogue, full), full, mark))
        return decided

    def _situations(
        self, batch: Batch, one: Assessed, model: LoadedModel | None
    ) -> Iterator[tuple[Situation, list[Verdict]]]:
        facts = batch.facts[one.customer_id]
        if facts.denies("profiling", "marketing"):
            return
        instant = batch.instant(one.customer_id)
        churned = any(at_us < instant for at_us in facts.outcomes.values())
        for channel in self.channels:
            situation = Situation(
                facts=facts,
                channel=channel,
                decided_at_us=instant,
                read_point=batch.block.read_point(one.customer_id),
                values={**batch.block.named(one.customer_id, self.features), **score_values([one.assessment])},
                vector=batch.block.vector(one.customer_id, model.features) if model else [],
                propensities={},
                because=_because(one),
                churned=churned,
                model_version=model.version if model else None,
                spec_hash=model.document.spec_hash if model else None,
                catalogue_hash=self.catalogue.hash,
            )
            yield situation, verdicts_of(self.catalogue, situation)

    def _is_due(
        self, mark: str, one: Assessed, situation: Situation, standing: Mapping[tuple[str, str], StandingDecision]
    ) -> bool:
        stands = standing.get((one.customer_id, situation.channel))
        if stands is None:
            return situation.model_version is not None
        moved = one.record is not None and one.record.is_update
        return moved or stands.fingerprint != mark or stands.expires_at_us <= situation.decided_at_us


def _because(one: Assessed) -> list[Reason]:
    return one.assessment.reasons[:BECAUSE] if isinstance(one.assessment, ChurnScore) else []


def _fingerprint(situation: Situation, verdicts: Sequence[Verdict]) -> str:
    codes = [(verdict.offer, verdict.rejected_by) for verdict in verdicts]
    body = (codes, situation.catalogue_hash, situation.model_version)
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()[:16]


def _propensities(
    model: LoadedModel | None, due: Sequence[tuple[Situation, Sequence[Verdict]]]
) -> list[dict[str, float]]:
    """Calibrated acceptance by offer, for each situation's candidates; the base rate for an offer never seen."""
    if model is None or not due:
        return [{} for _ in due]
    candidates = [[verdict.offer for verdict in verdicts if verdict.rejected_by is None] for _, verdicts in due]
    vectors = as_rows([situation.vector for situation, _ in due]).reshape(len(due), -1)
    rows = [model.offer_rows(vector, offers) for vector, offers in zip(vectors, candidates, strict=True)]
    found = iter(model.probabilities(np.vstack(rows)).tolist() if any(map(len, rows)) else [])
    known = set(model.document.offers)
    chances = [{offer: next(found) for offer in offers} for offers in candidates]
    return [{offer: p if offer in known else model.document.base_rate for offer, p in row.items()} for row in chances]


def replay(
    decision: Decision,
    situation: Situation,
    catalogue_of: Callable[[str], bytes | None],
    model_of: Callable[[str], LoadedModel],
) -> Decision:
    """Recompute a decision from what was kept: the situation, the offers of its hash, the model of its version.

    Equal to the stored decision, bit for bit. NotFound when the offers of that hash were not kept.
    """
    payload = catalogue_of(decision.catalogue_hash)
    if payload is None:
        raise NotFound(f"the offers of hash {decision.catalogue_hash} were not kept")
    catalogue = OfferCatalogue(msgspec.json.decode(payload, type=KeptCatalogue))
    model = model_of(decision.model_version) if decision.model_version is not None else None
    verdicts = verdicts_of(catalogue, situation)
    again = msgspec.structs.replace(situation, propensities=_propensities(model, [(situation, verdicts)])[0])
    return decide(catalogue, again)
