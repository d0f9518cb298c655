"""What lies in quarantine, and asking for its release: the requests and answers of ingest's `/internal/quarantine`."""

from typing import Any, Literal

import msgspec


class QuarantinedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was sent, whole (`body`), and the `message` that a release reads and a person mends.

    The message of a batch or of a call to `/v1/track` has what the batch or the path said; that of another vendor's
    shape is a call of the tracking API. `released_at`: since when a good copy of it counts, at `number` of the log.
    """

    id: int
    source_id: str
    event_id: str
    received_at: str
    code: str
    reason: str
    body: str
    message: str
    released_at: str | None = None
    number: int | None = None


class QuarantineCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many events of a source wait for one reason, and how many were released."""

    source_id: str
    code: str
    waiting: int
    released: int


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Release one event: as it lies there (the catalogue, the plan or the rules have changed), or mended.

    `event` is then the whole event: a message of Segment's tracking API with its `type`.
    """

    id: int
    event: dict[str, Any] | None = None


class ReleaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`accepted`: it counts at `number` of the log. `quarantined`: nothing changed; `reason` says why.

    `already`: a good copy counted before, by an earlier release or from the sender.
    """

    id: int
    source_id: str
    event_id: str
    verdict: Literal["accepted", "quarantined"]
    number: int | None = None
    already: bool = False
    code: str | None = None
    reason: str | None = None
