"""The internal routes: each decodes its request, answers in a thread, and encodes the answer."""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.reads import (
    EngagementRequest,
    FeaturesRequest,
    FeaturesStatus,
    MembershipsRequest,
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

from vigie_features.defining import Defining
from vigie_features.previewing import Previewing
from vigie_features.reading import Reading

T = TypeVar("T")


def internal_routes(
    reading: Reading, previewing: Previewing, defining: Defining, status: Callable[[], FeaturesStatus]
) -> list[Route]:
    """Everything below /internal."""
    return [
        _posted("/internal/read", FeaturesRequest, reading.features),
        _posted("/internal/engagement", EngagementRequest, reading.engagement),
        _got("/internal/segments", reading.segments),
        _posted("/internal/memberships", MembershipsRequest, reading.memberships),
        _posted("/internal/segment-members", SegmentMembersRequest, reading.segment_members),
        _posted("/internal/segment-history", HistoryRequest, reading.segment_history),
        _posted("/internal/segment-migration", MigrationRequest, reading.migration),
        _posted("/internal/segment-preview", PreviewRequest, previewing.preview),
        _posted("/internal/segment-define", DefineRequest, defining.define),
        _posted("/internal/segment-retire", RetireRequest, defining.retire),
        _posted("/internal/holdings", Subject, reading.holdings),
        _posted("/internal/subject", Subject, reading.subject),
        _got("/internal/catalogue", reading.catalogue),
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
