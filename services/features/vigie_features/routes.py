"""The internal routes: each decodes its request, answers in a thread, and encodes the answer."""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.reads import (
    ApplyRequest,
    EngagementRequest,
    FeaturesRequest,
    FeaturesStatus,
    MembershipsRequest,
    ParityFigure,
    ReplayRequest,
    SegmentMembersRequest,
)
from vigie_contracts.segmentation import (
    DefineRequest,
    HistoryRequest,
    MigrationRequest,
    PreviewRequest,
    RetireRequest,
)
from vigie_contracts.subjects import Subject
from vigie_kit.http import StructResponse, decode

from vigie_features.applying import Applying
from vigie_features.generation import Generations

T = TypeVar("T")


def internal_routes(
    generations: Generations,
    applying: Applying,
    status: Callable[[], FeaturesStatus],
    compared: Callable[[ParityFigure], ParityFigure],
) -> list[Route]:
    """Everything below /internal."""
    now = generations.answer
    return [
        _posted("/internal/read", FeaturesRequest, now(lambda parts: parts.reading.features)),
        _posted("/internal/engagement", EngagementRequest, now(lambda parts: parts.reading.engagement)),
        _got("/internal/segments", lambda: generations.current.reading.segments()),
        _posted("/internal/memberships", MembershipsRequest, now(lambda parts: parts.reading.memberships)),
        _posted("/internal/segment-members", SegmentMembersRequest, now(lambda parts: parts.reading.segment_members)),
        _posted("/internal/segment-history", HistoryRequest, now(lambda parts: parts.reading.segment_history)),
        _posted("/internal/segment-migration", MigrationRequest, now(lambda parts: parts.reading.migration)),
        _posted("/internal/segment-preview", PreviewRequest, now(lambda parts: parts.previewing.preview)),
        _posted("/internal/segment-define", DefineRequest, now(lambda parts: parts.defining.define)),
        _posted("/internal/segment-retire", RetireRequest, now(lambda parts: parts.defining.retire)),
        _posted("/internal/holdings", Subject, now(lambda parts: parts.reading.holdings)),
        _posted("/internal/subject", Subject, now(lambda parts: parts.reading.subject)),
        _posted("/internal/apply", ApplyRequest, lambda _: applying.apply()),
        _posted("/internal/replay", ReplayRequest, lambda _: applying.replay()),
        _posted("/internal/parity", ParityFigure, compared),
        _got("/internal/catalogue", lambda: generations.current.reading.catalogue()),
        _got("/internal/status", status),
    ]


def _posted(path: str, type_: type[T], answer: Callable[[T], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        asked = decode(await request.body(), type_)
        return StructResponse(await run_in_threadpool(answer, asked))

    return Route(path, endpoint, methods=["POST"])


def _got(path: str, answer: Callable[[], Any]) -> Route:
    async def endpoint(_request: Request) -> Response:
        return StructResponse(await run_in_threadpool(answer))

    return Route(path, endpoint, methods=["GET"])
