"""Segments that name scores: who is in them after an assessment, as enter and leave records."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vigie_contracts.events import SegmentMoved
from vigie_contracts.reads import MembershipRow, SegmentRow
from vigie_contracts.scores import Assessment, ChurnScore
from vigie_contracts.segments import SegmentTable, Value, evaluate, features_used

from vigie_scoring.assessing import Assessed, Batch


def score_values(assessments: Iterable[Assessment]) -> dict[str, Value]:
    """Probability and band by the names that predicates use; without a score both are null (absent)."""
    found: dict[str, Value] = {}
    for assessment in assessments:
        if isinstance(assessment, ChurnScore):
            found[f"churn.{assessment.definition}.probability"] = assessment.probability
            found[f"churn.{assessment.definition}.band"] = assessment.band
    return found


class ScoreSegments:
    """The segments of `segments.toml` that need scores. A customer without any score is in none of them."""

    def __init__(self, table: SegmentTable) -> None:
        self._segments = table.with_scores
        self._versions = {segment.spec.key: segment.spec.version for segment in self._segments}
        self.features = tuple(dict.fromkeys(key for segment in self._segments for key in features_used(segment.tree)))

    def moves(
        self,
        batch: Batch,
        assessed: Mapping[str, Sequence[Assessed]],
        standing: Sequence[MembershipRow],
    ) -> list[SegmentMoved]:
        """Who enters and leaves in this pass, given the memberships that stand for the batch."""
        before: dict[str, set[str]] = defaultdict(set)
        for row in standing:
            before[row.customer_id].add(row.key)
        by_customer: dict[str, list[Assessment]] = defaultdict(list)
        for one in (one for found in assessed.values() for one in found):
            by_customer[one.customer_id].append(one.assessment)
        moves: list[SegmentMoved] = []
        for customer_id, assessments in by_customer.items():
            after = self._inside(batch, customer_id, assessments)
            moves.extend(self._moved(customer_id, before[customer_id], after, batch.now_us))
        return moves

    def leaving(self, standing: Sequence[MembershipRow], now_us: int) -> list[SegmentMoved]:
        """Leave records for all these memberships."""
        return [move for row in standing for move in self._moved(row.customer_id, {row.key}, set(), now_us)]

    def rows(self, sizes: Mapping[str, int]) -> list[SegmentRow]:
        """The segments with their number of customers."""
        return [
            SegmentRow(
                key=segment.spec.key,
                name=segment.spec.name,
                family=segment.spec.family,
                definition=segment.definition,
                version=segment.spec.version,
                size=sizes.get(segment.spec.key, 0),
                because=segment.spec.because,
            )
            for segment in self._segments
        ]

    def _inside(self, batch: Batch, customer_id: str, assessments: Sequence[Assessment]) -> set[str]:
        scores = score_values(assessments)
        if not scores:
            return set()
        values = {**batch.block.named(customer_id, self.features), **scores}
        return {segment.spec.key for segment in self._segments if evaluate(segment.tree, values)}

    def _moved(self, customer_id: str, before: set[str], after: set[str], now_us: int) -> list[SegmentMoved]:
        return [
            SegmentMoved(
                customer_id=customer_id,
                key=key,
                version=self._versions.get(key, 1),
                entered=key in after,
                at_us=now_us,
            )
            for key in sorted(before ^ after)
        ]
