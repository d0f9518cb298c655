"""Sources: created, changed, disabled; write keys rotated with an overlap. What counts is in force when it is answered.

Keys and limits go by system time: the business clock may be a simulated one.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import UNSET
from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.instants import SECOND_US, format_instant
from vigie_contracts.sources import KeyRotate, KeyRow, NewKey, SourceCreate, SourceRow, SourceSwitch, SourceUpdate
from vigie_kit.database import reading, transaction

from vigie_ingest import source_store
from vigie_ingest.admission import Admission, Policy
from vigie_ingest.bodies import KeyRing, hashed
from vigie_ingest.source_store import Key, Source
from vigie_ingest.store import Connection, Engine

MOST_OVERLAP_SECONDS = 90 * 86_400
MOST_ORIGINS = 100
MOST_WEIGHT = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ORIGIN = re.compile(r"https?://[^/\s?#@]+")
_HINT = 4


def system_us() -> int:
    """Microseconds since 1970, system time."""
    return time.time_ns() // 1_000


class Sources:
    """Only the writer's thread changes; the key ring and the admission follow before the change is answered."""

    def __init__(
        self, engine: Engine, keys: KeyRing, admission: Admission, now_us: Callable[[], int] = system_us
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._admission = admission
        self._now_us = now_us

    def bootstrap(self, given: Mapping[str, str], others: Iterable[str] = ()) -> None:
        """Take the write keys of the settings (key -> source id) and sources without, and put everything into force."""
        now_us = self._now_us()
        made = [Key(hashed(key), source_id, key[-_HINT:], True, now_us) for key, source_id in given.items()]
        with transaction(self._engine) as connection:
            source_store.bootstrap(connection, {key.hash: key for key in made})
            for source_id in set(others) - set(source_store.sources(connection)):
                source_store.put_source(connection, Source(source_id, now_us))
        self._enforce()

    def rows(self) -> list[SourceRow]:
        """All sources with their keys, by id."""
        with reading(self._engine) as connection:
            return self._rows(connection)

    def create(self, asked: SourceCreate) -> NewKey:
        """A source and its first key. Conflict when the id is taken, InvalidInput."""
        if not _ID.fullmatch(asked.source_id):
            raise InvalidInput("a source id is 1 to 64 letters, digits, dots, dashes or underscores")
        now_us = self._now_us()
        source = _checked(
            Source(asked.source_id, now_us, None, tuple(asked.origins), asked.events_per_second, asked.weight)
        )
        with transaction(self._engine) as connection:
            if asked.source_id in source_store.sources(connection):
                raise Conflict(f"there is a source {asked.source_id!r} already")
            source_store.put_source(connection, source)
            key = _new_key(connection, asked.source_id, now_us)
        return NewKey(write_key=key, source=self._enforced(asked.source_id))

    def update(self, asked: SourceUpdate) -> SourceRow:
        """Change origins and limits; what is unset stays. NotFound, InvalidInput."""
        with transaction(self._engine) as connection:
            source = _known(connection, asked.source_id)
            if asked.origins is not UNSET:
                source = source._replace(origins=tuple(asked.origins))
            if asked.events_per_second is not UNSET:
                source = source._replace(events_per_second=asked.events_per_second)
            if asked.weight is not UNSET:
                source = source._replace(weight=asked.weight)
            source_store.put_source(connection, _checked(source))
        return self._enforced(asked.source_id)

    def rotate(self, asked: KeyRotate) -> NewKey:
        """A new key; the others end after the overlap, or sooner if they did before. NotFound, InvalidInput."""
        if not 0 <= asked.overlap_seconds <= MOST_OVERLAP_SECONDS:
            raise InvalidInput(f"the overlap must lie between 0 and {MOST_OVERLAP_SECONDS} seconds (90 days)")
        now_us = self._now_us()
        with transaction(self._engine) as connection:
            _known(connection, asked.source_id)
            source_store.expire(connection, asked.source_id, now_us + asked.overlap_seconds * SECOND_US)
            key = _new_key(connection, asked.source_id, now_us)
        return NewKey(write_key=key, source=self._enforced(asked.source_id))

    def switch(self, asked: SourceSwitch) -> SourceRow:
        """Disable or enable; repeating it changes nothing. NotFound."""
        with transaction(self._engine) as connection:
            source = _known(connection, asked.source_id)
            if asked.disabled != (source.disabled_at_us is not None):
                at_us = self._now_us() if asked.disabled else None
                source_store.put_source(connection, source._replace(disabled_at_us=at_us))
        return self._enforced(asked.source_id)

    def _enforced(self, source_id: str) -> SourceRow:
        return next(row for row in self._enforce() if row.source_id == source_id)

    def _enforce(self) -> list[SourceRow]:
        with reading(self._engine) as connection:
            sources, keys = source_store.sources(connection), source_store.keys(connection)
            rows = self._rows(connection)
        self._keys.replace({key.hash: (key.source_id, key.expires_at_us) for key in keys})
        self._admission.enforce({source.source_id: _policy(source) for source in sources.values()})
        return rows

    def _rows(self, connection: Connection) -> list[SourceRow]:
        keys = source_store.keys(connection)
        return [
            self._row(source, [key for key in keys if key.source_id == source.source_id])
            for source in source_store.sources(connection).values()
        ]

    def _row(self, source: Source, keys: Sequence[Key]) -> SourceRow:
        now_us = self._now_us()
        return SourceRow(
            source_id=source.source_id,
            created_at=format_instant(source.created_at_us),
            disabled_at=None if source.disabled_at_us is None else format_instant(source.disabled_at_us),
            origins=list(source.origins),
            events_per_second=source.events_per_second,
            weight=source.weight,
            keys=[
                KeyRow(
                    hint=f"…{key.hint}",
                    bootstrap=key.bootstrap,
                    created_at=format_instant(key.created_at_us),
                    expires_at=None if key.expires_at_us is None else format_instant(key.expires_at_us),
                    expired=key.expires_at_us is not None and key.expires_at_us <= now_us,
                )
                for key in keys
            ],
        )


def _policy(source: Source) -> Policy:
    return Policy(
        disabled=source.disabled_at_us is not None,
        origins=frozenset(source.origins),
        events_per_second=source.events_per_second,
        weight=source.weight,
    )


def _known(connection: Connection, source_id: str) -> Source:
    source = source_store.sources(connection).get(source_id)
    if source is None:
        raise NotFound(f"there is no source {source_id!r}")
    return source


def _new_key(connection: Connection, source_id: str, now_us: int) -> str:
    key = f"wk_{secrets.token_hex(20)}"
    source_store.put_key(connection, Key(hashed(key), source_id, key[-_HINT:], False, now_us))
    return key


def _checked(source: Source) -> Source:
    """The source with each origin once; InvalidInput when something of it is out of bounds."""
    for origin in source.origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidInput(f"{origin!r} is no origin; write it as https://app.example.com, without a path")
    if len(source.origins) > MOST_ORIGINS:
        raise InvalidInput(f"a source has at most {MOST_ORIGINS} origins")
    if source.events_per_second is not None and source.events_per_second < 1:
        raise InvalidInput("events per second must be at least 1; to let nothing in, disable the source")
    if not 1 <= source.weight <= MOST_WEIGHT:
        raise InvalidInput(f"the weight must lie between 1 and {MOST_WEIGHT}")
    return source._replace(origins=tuple(dict.fromkeys(origin.lower() for origin in source.origins)))
