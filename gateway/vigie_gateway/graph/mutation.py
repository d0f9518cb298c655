"""What can be changed. Nothing is sent, priced or ended by a query."""

import uuid

import msgspec
import strawberry
from vigie_contracts import reads
from vigie_contracts.errors import NotFound, VigieError

from vigie_gateway.graph import churn
from vigie_gateway.graph.churn import ChurnAssessment
from vigie_gateway.graph.errors import UserError, errors_of
from vigie_gateway.graph.identities import IdentityMutation
from vigie_gateway.graph.quarantine import QuarantineMutation
from vigie_gateway.graph.scalars import Info
from vigie_gateway.graph.segments import SegmentMutation
from vigie_gateway.graph.sources import SourceMutation
from vigie_gateway.identifiers import local_id


class _RefreshRequest(msgspec.Struct, kw_only=True):
    customer_id: str
    idempotency_key: str


class _RefreshAnswer(msgspec.Struct, kw_only=True):
    accepted: bool
    repeated: bool = False


@strawberry.type(description="The outcome of asking for a fresh score.")
class CustomerScoreRefreshPayload:
    assessment: ChurnAssessment | None = strawberry.field(
        description="The standing assessment; the fresh one follows as a score update."
    )
    errors: list[UserError] = strawberry.field(description="Empty when it was accepted.")


@strawberry.type(description="Writes.")
class Mutation(IdentityMutation, QuarantineMutation, SegmentMutation, SourceMutation):
    @strawberry.mutation(description="Have a customer scored again soon. The same key asks once.")
    async def customer_score_refresh(
        self, info: Info, id: strawberry.ID, idempotency_key: str | None = None
    ) -> CustomerScoreRefreshPayload:
        try:
            customer_id = local_id(id, "Customer")
            known = await info.context.loaders.customers.load(customer_id)
            if known is None:
                raise NotFound("there is no such customer")
            request = _RefreshRequest(
                customer_id=known.customer_id, idempotency_key=idempotency_key or uuid.uuid4().hex
            )
            await info.context.services.post("scoring", "/internal/refresh", request, _RefreshAnswer)
            found = await info.context.services.post(
                "scoring", "/internal/scores", reads.ScoresRequest(customer_ids=[known.customer_id]), reads.ScoresAnswer
            )
        except VigieError as error:
            return CustomerScoreRefreshPayload(assessment=None, errors=errors_of(error, "id"))
        key = churn.primary(info)
        standing = [row for row in found.scores if row.assessment.definition == key]
        shown = [churn.assessment(row.assessment, info.context.texts, row.change_7_days) for row in standing]
        return CustomerScoreRefreshPayload(assessment=shown[0] if shown else None, errors=[])
