"""Sources, their write keys and their limits (JSON over HTTP, service token). Instants here are system time."""

import msgspec


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A write key, known by its last characters only. `bootstrap`: from the setting VIGIE_INGEST_WRITE_KEYS."""

    hint: str
    bootstrap: bool
    created_at: str
    expires_at: str | None
    expired: bool


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A source. No `origins`: a page of any origin may send. `events_per_second` null: no limit but the queue's.

    `weight`: its share of the queue when others wait too, beside theirs.
    """

    source_id: str
    created_at: str
    disabled_at: str | None
    origins: list[str]
    events_per_second: int | None
    weight: int
    keys: list[KeyRow]


class SourceCreate(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/sources/create`."""

    source_id: str
    origins: list[str] = []
    events_per_second: int | None = None
    weight: int = 1


class SourceUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /internal/sources/update`: what is absent stays; `events_per_second` null takes the limit away."""

    source_id: str
    origins: list[str] | msgspec.UnsetType = msgspec.UNSET
    events_per_second: int | msgspec.UnsetType | None = msgspec.UNSET
    weight: int | msgspec.UnsetType = msgspec.UNSET


class KeyRotate(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/sources/rotate`: a new key; those before it are valid for `overlap_seconds` more."""

    source_id: str
    overlap_seconds: int


class SourceSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/sources/switch`: disable a source, or enable it again."""

    source_id: str
    disabled: bool


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """The only time that a key is told: it is kept as a hash."""

    write_key: str
    source: SourceRow
