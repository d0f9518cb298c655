"""Requests and answers that only scoring knows."""

import msgspec


class RefreshRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/refresh`: score this customer soon; the same key asks once."""

    customer_id: str
    idempotency_key: str


class RefreshAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`repeated` when the key had been used before."""

    accepted: bool
    repeated: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/status`: offsets by log and lane, lag in records, re-scoring progress, problems in sentences."""

    service: str
    offsets: dict[str, dict[str, int]]
    lag: dict[str, int]
    state_lag_seconds: float
    counts: dict[str, int]
    rescoring: dict[str, dict[str, str | None]]
    problems: list[str]
