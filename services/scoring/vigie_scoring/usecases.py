"""What the service answers: standing scores, history, decisions, the work list, segments and models. Reads only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vigie_contracts.errors import InvalidInput, Unavailable
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.offers import Channel, Decision, OfferUnavailableReason, Verdict, VerdictCode
from vigie_contracts.reads import (
    DecisionsAnswer,
    DecisionsRequest,
    MembershipsAnswer,
    MembershipsRequest,
    ModelsAnswer,
    OffersAnswer,
    ScoreHistoryAnswer,
    ScoreHistoryRequest,
    ScoreHistoryRow,
    ScoresAnswer,
    ScoresRequest,
    SegmentMembersRequest,
    SegmentsAnswer,
    StandingScore,
    WorkListAnswer,
    WorkListRequest,
)
from vigie_contracts.scores import ChurnDefinition, UnavailableReason, decode_score
from vigie_contracts.subjects import Holdings, Subject, SubjectData
from vigie_kit.sqlite_log import LANE

from vigie_scoring import erasure_store
from vigie_scoring.arbitration import OfferCatalogue
from vigie_scoring.champions import Champions
from vigie_scoring.deciding import channels_of
from vigie_scoring.domain import CHURN_PURPOSE, unavailable
from vigie_scoring.lag import StateLag
from vigie_scoring.requests import RefreshAnswer, RefreshRequest
from vigie_scoring.segments import ScoreSegments
from vigie_scoring.store import Snapshot, Standing, Store

LIMIT = 1000


@dataclass(frozen=True)
class Scoring:
    """The reads, over the store and what is loaded. Consent is checked again at every read."""

    store: Store
    champions: Champions
    definitions: Sequence[ChurnDefinition]
    catalogue: OfferCatalogue
    segments: ScoreSegments
    channels: Sequence[Channel]
    lag: StateLag
    now_us: Callable[[], int]
    wake: Callable[[], None]

    def scores(self, request: ScoresRequest) -> ScoresAnswer:
        """One standing assessment for each customer and definition asked for, in that order."""
        _limited(request.customer_ids)
        definitions = [self._definition(key) for key in request.definitions] or list(self.definitions)
        with self.store.reading() as snapshot:
            denied = snapshot.deniers(request.customer_ids)
            found = {d.key: snapshot.standing(request.customer_ids, d.key) for d in definitions if self._serves(d)}
        return ScoresAnswer(
            scores=[
                self._standing(
                    customer_id, d, found.get(d.key, {}).get(customer_id), CHURN_PURPOSE in denied[customer_id]
                )
                for customer_id in request.customer_ids
                for d in definitions
            ]
        )

    def _standing(
        self, customer_id: str, definition: ChurnDefinition, standing: Standing | None, denied: bool
    ) -> StandingScore:
        reason = self._reason(definition, denied)
        if reason is not None or standing is None:
            missing = reason or "INSUFFICIENT_HISTORY"
            return StandingScore(assessment=unavailable(customer_id, definition.key, missing, self.now_us()))
        return StandingScore(assessment=standing.current, change_7_days=standing.change_7_days)

    def _reason(self, definition: ChurnDefinition, denied: bool) -> UnavailableReason | None:
        if denied:
            return "CONSENT_WITHDRAWN"
        if not self.champions.restored:
            raise Unavailable("scoring has just started and loads its models")
        if not self._serves(definition):
            return "MODEL_UNAVAILABLE"
        if self.lag.is_stale():
            return "STALE_FEATURES"
        return None

    def _serves(self, definition: ChurnDefinition) -> bool:
        return self.champions.serving.champion(definition.model_name) is not None

    def score_history(self, request: ScoreHistoryRequest) -> ScoreHistoryAnswer:
        """Stored assessments, newest first; none for a customer who denies profiling."""
        with self.store.reading() as snapshot:
            if CHURN_PURPOSE in snapshot.deniers([request.customer_id])[request.customer_id]:
                return ScoreHistoryAnswer(scores=[])
            limit = min(max(request.limit, 1), LIMIT)
            found = snapshot.history(request.customer_id, request.definition, limit, request.before)
        return ScoreHistoryAnswer(
            scores=[ScoreHistoryRow(number=number, assessment=decode_score(record).current) for number, record in found]
        )

    def decisions(self, request: DecisionsRequest) -> DecisionsAnswer:
        """The standing decision of each customer, or why there is none; those just expired are left out."""
        _limited(request.customer_ids)
        channel = channels_of([request.channel])[0] if request.channel else self.channels[0]
        now_us = self.now_us()
        with self.store.reading() as snapshot:
            denied = snapshot.deniers(request.customer_ids)
            found = snapshot.decisions(request.customer_ids, now_us)
        answers = [
            self._decision(customer_id, channel, found.get((customer_id, channel)), denied[customer_id], now_us)
            for customer_id in request.customer_ids
        ]
        return DecisionsAnswer(decisions=[answer for answer in answers if answer is not None])

    def _decision(
        self, customer_id: str, channel: Channel, standing: Decision | None, denied: Sequence[str], now_us: int
    ) -> Decision | None:
        if "marketing" in denied or "profiling" in denied:
            return self._no_decision(customer_id, channel, "CONSENT_WITHDRAWN", now_us)
        if standing is None and self.champions.serving.champion(PROPENSITY_MODEL) is None:
            return self._no_decision(customer_id, channel, "MODEL_UNAVAILABLE", now_us)
        return standing

    def _no_decision(self, customer_id: str, channel: Channel, reason: OfferUnavailableReason, now_us: int) -> Decision:
        rejected: VerdictCode | None = "CONSENT" if reason == "CONSENT_WITHDRAWN" else None
        verdicts = [Verdict(offer=code, rejected_by=rejected) for code in self.catalogue.offers] if rejected else []
        return Decision(
            decision_id="",
            customer_id=customer_id,
            channel=channel,
            decided_at_us=now_us,
            expires_at_us=now_us,
            recommendations=[],
            verdicts=verdicts,
            unavailable=reason,
            explored=False,
            model_version=None,
            spec_hash=None,
            catalogue_hash=self.catalogue.hash,
            read_point=None,
            vector=[],
        )

    def offers(self) -> OffersAnswer:
        """The offer catalogue."""
        return OffersAnswer(offers=self.catalogue.file.offer)

    def work_list(self, request: WorkListRequest) -> WorkListAnswer:
        """One page of the work list; the primary definition when none is named."""
        definition = self._definition(request.definition) if request.definition else self.definitions[0]
        if not 1 <= request.limit <= LIMIT:
            raise InvalidInput(f"limit must be between 1 and {LIMIT}, not {request.limit}")
        if not definition.primary and not self._serves(definition):
            raise Unavailable(
                f"no model of {definition.key!r} is served: `vigie train churn --definition {definition.key}` trains"
                f" one, and `vigie promote {definition.model_name}` lets the gate judge it"
            )
        with self.store.reading() as snapshot:
            return snapshot.work_list(request, definition.key, self.now_us())

    def segment_rows(self) -> SegmentsAnswer:
        """The segments that need scores, with their sizes."""
        with self.store.reading() as snapshot:
            sizes = snapshot.sizes()
        return SegmentsAnswer(segments=self.segments.rows(sizes))

    def memberships(self, request: MembershipsRequest) -> MembershipsAnswer:
        """Score segments of these customers; none for who denies profiling."""
        _limited(request.customer_ids)
        with self.store.reading() as snapshot:
            allowed = _allowed(snapshot, request.customer_ids)
            return MembershipsAnswer(memberships=snapshot.memberships(allowed, "scoring"))

    def segment_members(self, request: SegmentMembersRequest) -> MembershipsAnswer:
        """Customers of one score segment by id, strictly after `after`."""
        with self.store.reading() as snapshot:
            rows = snapshot.members_of(request.key, request.after, min(max(request.limit, 1), LIMIT))
            allowed = set(_allowed(snapshot, [row.customer_id for row in rows]))
        return MembershipsAnswer(memberships=[row for row in rows if row.customer_id in allowed])

    def models(self) -> ModelsAnswer:
        """What is loaded, and why not when it is not."""
        return ModelsAnswer(models=self.champions.rows())

    def holdings(self, subject: Subject) -> Holdings:
        """How much of a person lies in each place, and whether the log was consumed up to a position."""
        with self.store.reading() as snapshot:
            reached = snapshot.offset("events").get(LANE, 0) >= subject.number
            return Holdings(reached=reached, places=erasure_store.places(snapshot.connection, subject.member_ids))

    def subject(self, subject: Subject) -> SubjectData:
        """Everything about a person."""
        with self.store.reading() as snapshot:
            return SubjectData(sections=erasure_store.sections(snapshot.connection, subject.member_ids))

    def refresh(self, request: RefreshRequest) -> RefreshAnswer:
        """Ask for a score of one customer soon; the same idempotency key asks once."""
        with self.store.transaction() as tx:
            fresh = tx.request(request.idempotency_key, request.customer_id, self.now_us())
            if fresh:
                tx.enqueue([request.customer_id])
        self.wake()
        return RefreshAnswer(accepted=True, repeated=not fresh)

    def _definition(self, key: str) -> ChurnDefinition:
        for definition in self.definitions:
            if definition.key == key:
                return definition
        known = ", ".join(definition.key for definition in self.definitions)
        raise InvalidInput(f"no churn definition {key!r}; there are {known}")


def _limited(customer_ids: Sequence[str]) -> None:
    if len(customer_ids) > LIMIT:
        raise InvalidInput(f"at most {LIMIT} customers at once, not {len(customer_ids)}")


def _allowed(snapshot: Snapshot, customer_ids: Sequence[str]) -> list[str]:
    return [c for c, denied in snapshot.deniers(customer_ids).items() if CHURN_PURPOSE not in denied]
