"""The one tree of errors and the one table from code to HTTP status.

VigieError
├── InvalidInput        VALIDATION_FAILED   the caller can mend it
├── NotFound            NOT_FOUND
├── Conflict            CONFLICT            somebody else was first
├── Unauthorized        UNAUTHENTICATED
├── Forbidden           FORBIDDEN
├── LimitExceeded       LIMIT_EXCEEDED      retryable later
├── Unavailable         UNAVAILABLE         a part is down or still starting; retryable
├── PastReadPoint       PAST_READ_POINT     a tile cannot be read for an earlier instant
└── IncompatibleData    INCOMPATIBLE_DATA   written by another version, or damaged
"""

from typing import Any


class VigieError(Exception):
    """An expected failure: `code` is stable, `message` is a sentence that says what to do."""

    code = "INTERNAL"
    retryable = False

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}


class InvalidInput(VigieError):
    """The caller's input is wrong and the message says how to mend it."""

    code = "VALIDATION_FAILED"


class NotFound(VigieError):
    """What was asked for does not exist (or lies outside the caller's rows)."""

    code = "NOT_FOUND"


class Conflict(VigieError):
    """The state moved on since the caller looked."""

    code = "CONFLICT"


class Unauthorized(VigieError):
    """No valid key or token came with the call."""

    code = "UNAUTHENTICATED"


class Forbidden(VigieError):
    """The caller is known but may not do this."""

    code = "FORBIDDEN"


class LimitExceeded(VigieError):
    """Too much or too often; try again later or ask for less."""

    code = "LIMIT_EXCEEDED"
    retryable = True


class Unavailable(VigieError):
    """A part that is needed is down or still starting."""

    code = "UNAVAILABLE"
    retryable = True


class PastReadPoint(VigieError):
    """State cannot be read for an instant before what was folded into it."""

    code = "PAST_READ_POINT"


class IncompatibleData(VigieError):
    """Stored data has a version that this program does not read."""

    code = "INCOMPATIBLE_DATA"


HTTP_STATUS: dict[str, int] = {
    "VALIDATION_FAILED": 400,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "PAST_READ_POINT": 409,
    "LIMIT_EXCEEDED": 429,
    "UNAVAILABLE": 503,
    "INCOMPATIBLE_DATA": 500,
    "INTERNAL": 500,
}
