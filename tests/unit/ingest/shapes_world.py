"""Shapes against the real catalogue: bodies in, drafts and refusals out, or all the way into a log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_ingest.domain import Draft, Refusal
from vigie_ingest.identity import Rules
from vigie_ingest.messages import Normaliser
from vigie_ingest.shapes.envelope import Items, Origin, Rejected

from tests.unit.ingest.ingest_world import NOW_US, World

CATALOGUE = Catalogue.load(Path(__file__).resolve().parents[3] / "feature_repo")
NORMALISER = Normaliser(CATALOGUE, Rules())
NOW_MS = NOW_US // 1_000

Read = Callable[[bytes, Origin], Items]


def taken(read: Read, body: Any, *, source: str = "crm", now_us: int = NOW_US, **headers: str) -> list[Draft | Refusal]:
    """What a body becomes; `body` is bytes, or encoded as JSON. Headers are written with `_` for `-`."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    origin = Origin(source, now_us, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return [_verdict(item, source, now_us) for item in read(raw, origin)]


def accepted(read: Read, body: Any, **more: Any) -> list[Draft]:
    """The same when nothing of it is refused."""
    found = taken(read, body, **more)
    assert [item for item in found if isinstance(item, Refusal)] == []
    return [item for item in found if isinstance(item, Draft)]


def refused(read: Read, body: Any, **more: Any) -> Refusal:
    """The one refusal of a body that has one part."""
    (found,) = taken(read, body, **more)
    assert isinstance(found, Refusal)
    return found


def deliver(world: World, read: Read, body: Any, source: str = "crm") -> list[int]:
    """Into the log, as the route does."""
    return world.appender.append(taken(read, body, source=source, now_us=world.now_us))


def said(draft: Draft) -> tuple[str, str, str | None, str | None]:
    """What it is and whose."""
    return draft.kind, draft.name, draft.user_id, draft.anonymous_id


def _verdict(item: Any, source: str, now_us: int) -> Draft | Refusal:
    if not isinstance(item, Rejected):
        return NORMALISER.enveloped(item.message, item.body, source, now_us)
    return Refusal(
        source_id=source,
        event_id=item.event_id,
        received_at_us=now_us,
        code=item.code,
        reason=item.reason,
        body=item.body,
    )
