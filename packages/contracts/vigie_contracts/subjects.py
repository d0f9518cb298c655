"""A person's data across the parts: where they lie, their erasure, their export (JSON over HTTP, service token)."""

from typing import Any

import msgspec


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/holdings` and `/internal/subject`: a customer by its ids, which stay valid after an erasure.

    With `number` (of the record `Erased` in the log "events") a part also says whether it has come that far.
    """

    customer_id: str
    member_ids: list[str]
    number: int = 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows, records or files of the person lie in a place now; `erased_by` says what an erasure does there."""

    name: str
    found: int
    erased_by: str


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """Every place of a part. `reached`: whether the part has applied the log up to the number asked for."""

    reached: bool
    places: list[Place]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What a part holds of a person in one place: `what` is a sentence, rows have names that a person can read."""

    what: str
    rows: list[dict[str, Any]]


class SubjectData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a part holds of a person, by place."""

    sections: dict[str, Section]


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/erasures` of ingest; the same `erasure_id` erases once."""

    erasure_id: str
    customer_id: str


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure that ingest has committed: `number` is that of its record in the log "events"."""

    erasure_id: str
    customer_id: str
    member_ids: list[str]
    number: int
    at_us: int
