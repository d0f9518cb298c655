"""Who may send how much now: origins and rates by source, and a fair share of a bounded queue.

The queue is shared by dynamic thresholds (Choudhury and Hahne, 1998): a source may hold `weight` times what is free, of
events and of bytes. So a lone noisy source fills half of it and no more, a quiet one always finds room, and nothing is
set aside for who sends nothing. Held is what was received and not yet answered. Everything here runs on the event loop.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vigie_contracts.errors import Forbidden, LimitExceeded
from vigie_kit.logs import get

from vigie_ingest.appender import Item
from vigie_ingest.bodies import ROOM, BodyTooLarge, KeyRing
from vigie_ingest.writer import Writer

BURST_SECONDS = 10
MOST_WAIT_SECONDS = 300
_FULL = "more waits than can be written in time; send again after the pause"


@dataclass(frozen=True)
class Policy:
    """What holds for a source. No origins: any page may send. `events_per_second` null: no limit of its own."""

    disabled: bool = False
    origins: frozenset[str] = frozenset()
    events_per_second: int | None = None
    weight: int = 1


@dataclass
class _Share:
    """What is held, of a source or in all."""

    events: int = 0
    bytes: int = 0


@dataclass
class _Bucket:
    """Events that a source may send at once; one call may take it below zero, and the next waits until it is not."""

    left: float
    at: float


@dataclass
class Room:
    """What one request holds until it is answered. Its source is null while its key is still in a body to be read."""

    admission: "Admission"
    source_id: str | None = None
    held: _Share = field(default_factory=_Share)

    def grow(self, size: int) -> None:
        """Hold more bytes; LimitExceeded when the share is used up."""
        self.admission.take(self, self.source_id, 0, size)


class Admission:
    """Before the writer: `check` and `submit` raise LimitExceeded (429) with a pause in whole seconds."""

    def __init__(
        self,
        writer: Writer,
        limits: tuple[int, int],
        batch_limit: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._limits = _Share(*limits)
        self._batch_limit = batch_limit
        self._now = now
        self._policies: Mapping[str, Policy] = {}
        self._shares: dict[str | None, _Share] = defaultdict(_Share)
        self._buckets: dict[str, _Bucket] = {}
        self._all = _Share()

    def enforce(self, policies: Mapping[str, Policy]) -> None:
        """What holds from now on."""
        self._policies = policies

    @property
    def held(self) -> tuple[int, int]:
        """Events and bytes that are held."""
        return self._all.events, self._all.bytes

    def check(self, source_id: str, origin: str | None) -> None:
        """Forbidden for a disabled source, and for a page of an origin that the source does not allow."""
        policy = self._policy(source_id)
        if policy.disabled:
            raise Forbidden(f"the source {source_id!r} is disabled; an operator can enable it")
        if origin is not None and policy.origins and origin.lower() not in policy.origins:
            raise Forbidden(
                f"pages of {origin[:200]} may not send for the source {source_id!r}; an operator can allow this origin"
            )

    async def submit(self, request: Request, source_id: str, items: Sequence[Item]) -> list[int]:
        """Outcomes as the writer gives them, once they are on disk. Forbidden, LimitExceeded, BodyTooLarge."""
        self.check(source_id, request.headers.get("origin"))
        if len(items) > self._batch_limit:
            raise BodyTooLarge(f"a call holds at most {self._batch_limit} events; send smaller batches")
        if not items:
            return []
        room: Room = request.scope[ROOM]
        self._move(room, source_id)
        self.take(room, source_id, len(items), 0)
        self._pay(source_id, len(items))
        return await self._writer.submit(items)

    def take(self, room: Room, source_id: str | None, events: int, size: int) -> None:
        """Add to what a request holds; LimitExceeded beyond its source's share."""
        weight = self._policy(source_id).weight
        share = self._shares[source_id]
        if not (
            _fits(share.events, events, self._all.events, self._limits.events, weight)
            and _fits(share.bytes, size, self._all.bytes, self._limits.bytes, weight)
        ):
            raise LimitExceeded(_FULL)
        for one in (share, self._all, room.held):
            one.events += events
            one.bytes += size

    def fits(self, source_id: str | None, size: int) -> bool:
        """Whether a body of so many bytes could be read now."""
        held, weight = self._shares[source_id].bytes, self._policy(source_id).weight
        return _fits(held, size, self._all.bytes, self._limits.bytes, weight)

    def leave(self, room: Room) -> None:
        """A request was answered."""
        self._give(room.source_id, room.held)
        self._all.events -= room.held.events
        self._all.bytes -= room.held.bytes

    def _move(self, room: Room, source_id: str) -> None:
        """Its bytes count for its source, now that this is known; LimitExceeded when they are beyond its share."""
        if room.source_id == source_id:
            return
        size, weight = room.held.bytes, self._policy(source_id).weight
        share = self._shares[source_id]
        if not _fits(share.bytes, size, self._all.bytes - size, self._limits.bytes, weight):
            raise LimitExceeded(_FULL)
        self._give(room.source_id, room.held)
        room.source_id = source_id
        share.bytes += size

    def _give(self, source_id: str | None, held: _Share) -> None:
        share = self._shares[source_id]
        share.events -= held.events
        share.bytes -= held.bytes
        if source_id is not None and not share.events and not share.bytes:
            del self._shares[source_id]

    def _pay(self, source_id: str, events: int) -> None:
        """Debit the source's rate; LimitExceeded, with when to come back, while earlier calls are not paid off."""
        rate = self._policy(source_id).events_per_second
        if rate is None:
            return
        now, size = self._now(), float(rate * BURST_SECONDS)
        bucket = self._buckets.setdefault(source_id, _Bucket(size, now))
        bucket.left = min(size, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.left <= 0:
            wait = min(MOST_WAIT_SECONDS, math.floor(-bucket.left / rate) + 1)
            raise LimitExceeded(
                f"the source {source_id!r} may send {rate} events a second; send again in {wait} s",
                details={"retry_after": wait},
            )
        bucket.left -= events

    def _policy(self, source_id: str | None) -> Policy:
        return self._policies.get(source_id or "", _DEFAULT)


_DEFAULT = Policy()


class AdmissionMiddleware:
    """Counts what requests hold from their first byte to their answer; a body that has no room is not read."""

    def __init__(self, app: ASGIApp, admission: Admission, keys: KeyRing, exempt: str = "/internal") -> None:
        self._app = app
        self._admission = admission
        self._keys = keys
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._exempt):
            await self._app(scope, receive, send)
            return
        head = HTTPConnection(scope)
        room = scope[ROOM] = Room(self._admission, self._keys.source_of_head(head.headers, head.query_params))
        declared = _declared(head.headers.get("content-length", ""))

        async def counted() -> Message:
            nonlocal declared
            if declared and not self._admission.fits(room.source_id, declared):
                raise LimitExceeded(_FULL)
            declared = 0
            message = await receive()
            room.grow(len(message.get("body", b"")))
            return message

        try:
            await self._app(scope, counted, send)
        except ClientDisconnect:
            get(__name__).info("a sender hung up before its body was whole; nothing of it was taken")
        finally:
            self._admission.leave(room)


def _fits(held: int, more: int, total: int, limit: int, weight: int) -> bool:
    """Whether a share may grow; what is alone may always begin, however large."""
    return more == 0 or total == 0 or (total + more <= limit and held + more <= weight * (limit - total))


def _declared(length: str) -> int:
    return int(length) if length.isascii() and length.isdigit() else 0
