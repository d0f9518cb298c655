"""Errors that are part of an answer: a caller can act on them."""

from enum import Enum

import strawberry
from vigie_contracts.errors import VigieError


@strawberry.enum(description="What went wrong; stable.")
class ErrorCode(Enum):
    VALIDATION_FAILED = "VALIDATION_FAILED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    FORBIDDEN = "FORBIDDEN"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"


@strawberry.interface(description="Something that the caller can act on.")
class UserError:
    code: ErrorCode = strawberry.field(description="What went wrong.")
    message: str = strawberry.field(description="A sentence that says what to do.")
    path: list[str] | None = strawberry.field(description="Which input.")


@strawberry.type(description="An input is wrong or cannot be served.")
class FieldError(UserError):
    pass


def errors_of(error: VigieError, path: str) -> list[UserError]:
    """An error as the `errors` of a payload; UNAVAILABLE for one that callers cannot mend."""
    code = ErrorCode(error.code) if error.code in ErrorCode.__members__ else ErrorCode.UNAVAILABLE
    return [FieldError(code=code, message=error.message, path=[path])]
