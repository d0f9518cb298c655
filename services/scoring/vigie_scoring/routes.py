"""HTTP routes of the scoring service; each decodes a struct, asks a use case in a thread, encodes its answer."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.reads import (
    DecisionsRequest,
    MembershipsRequest,
    ScoreHistoryRequest,
    ScoresRequest,
    SegmentMembersRequest,
    WorkListRequest,
)
from vigie_contracts.subjects import Subject
from vigie_kit import failpoints
from vigie_kit.http import StructResponse, decode

from vigie_scoring.requests import RefreshRequest, Status
from vigie_scoring.usecases import Scoring

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


def internal_routes(scoring: Scoring, status: Callable[[], Status]) -> list[Route]:
    """Everything below /internal; the service token is checked by middleware."""
    return [
        _posted("/internal/scores", ScoresRequest, scoring.scores),
        _posted("/internal/score-history", ScoreHistoryRequest, scoring.score_history),
        _posted("/internal/decisions", DecisionsRequest, scoring.decisions),
        _posted("/internal/work-list", WorkListRequest, scoring.work_list),
        _posted("/internal/memberships", MembershipsRequest, scoring.memberships),
        _posted("/internal/segment-members", SegmentMembersRequest, scoring.segment_members),
        _posted("/internal/holdings", Subject, scoring.holdings),
        _posted("/internal/subject", Subject, scoring.subject),
        _posted("/internal/refresh", RefreshRequest, _acknowledged(scoring.refresh)),
        _got("/internal/offers", scoring.offers),
        _got("/internal/segments", scoring.segment_rows),
        _got("/internal/models", scoring.models),
        _got("/internal/status", status),
    ]


def _posted(path: str, request_type: type[T], use_case: Callable[[T], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        asked = decode(await request.body(), request_type)
        return StructResponse(await run_in_threadpool(use_case, asked))

    return Route(path, endpoint, methods=["POST"])


def _got(path: str, use_case: Callable[[], Any]) -> Route:
    async def endpoint(_request: Request) -> Response:
        return StructResponse(await run_in_threadpool(use_case))

    return Route(path, endpoint, methods=["GET"])


def _acknowledged(use_case: Callable[[T], Any]) -> Callable[[T], Any]:
    def acknowledged(request: T) -> Any:
        failpoints.hit("scoring.before_ack")
        answer = use_case(request)
        failpoints.hit("scoring.after_ack")
        return answer

    return acknowledged
