"""Asks ingest what lies in quarantine, and to release it."""

from collections.abc import Iterator
from urllib.parse import urlencode

import msgspec
from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.quarantine import QuarantineCount, QuarantinedEvent, ReleaseAnswer, ReleaseRequest

from vigie_cli.connection import Connection

PATH = "/internal/quarantine"
PAGE = 500


def events(
    system: Connection,
    *,
    source: str | None = None,
    code: str | None = None,
    state: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[QuarantinedEvent]:
    """Newest first."""
    asked = {"source": source, "code": code, "state": state, "before": before, "limit": limit}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    client = system.client("ingest")
    try:
        return client.get(f"{PATH}?{query}", list[QuarantinedEvent])
    finally:
        client.close()


def event(system: Connection, number: int) -> QuarantinedEvent:
    """One by its id; NotFound."""
    found = events(system, before=number + 1, limit=1)
    if not found or found[0].id != number:
        raise NotFound(f"there is no event {number} in quarantine; `vigie quarantine list` shows what is")
    return found[0]


def waiting(system: Connection, source: str | None, code: str | None) -> Iterator[QuarantinedEvent]:
    """All that wait of a source, for a reason, newest first."""
    before: int | None = None
    while page := events(system, source=source, code=code, state="waiting", before=before, limit=PAGE):
        yield from page
        before = page[-1].id


def counts(system: Connection) -> list[QuarantineCount]:
    """By source and reason."""
    client = system.client("ingest")
    try:
        return client.get(f"{PATH}/counts", list[QuarantineCount])
    finally:
        client.close()


def released(system: Connection, number: int, mended: bytes | None) -> ReleaseAnswer:
    """Release one, as it lies there or mended; the errors are ingest's. InvalidInput for a text that is no object."""
    try:
        whole = None if mended is None else msgspec.json.decode(mended, type=dict)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the mended event is no JSON object: {error}") from error
    client = system.client("ingest")
    try:
        return client.post(f"{PATH}/release", ReleaseRequest(id=number, event=whole), ReleaseAnswer)
    finally:
        client.close()


def released_again(system: Connection, rows: Iterator[QuarantinedEvent]) -> Iterator[ReleaseAnswer]:
    """Release many as they lie there; a copy of an erased event is answered as still in quarantine."""
    client = system.client("ingest")
    try:
        for row in rows:
            try:
                yield client.post(f"{PATH}/release", ReleaseRequest(id=row.id), ReleaseAnswer)
            except Conflict as error:
                yield ReleaseAnswer(
                    id=row.id,
                    source_id=row.source_id,
                    event_id=row.event_id,
                    verdict="quarantined",
                    code=error.code,
                    reason=error.message,
                )
    finally:
        client.close()
