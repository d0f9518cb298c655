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


@strawberry.type(description="A definition is wrong at a place.")
class DefinitionError(UserError):
    position: int = strawberry.field(description="The character it begins at, from 0.")
    suggestions: list[str] = strawberry.field(description="Near names, best first.")


def errors_of(error: VigieError, path: str) -> list[UserError]:
    """An error as the `errors` of a payload; UNAVAILABLE for one that callers cannot mend."""
    code = ErrorCode(error.code) if error.code in ErrorCode.__members__ else ErrorCode.UNAVAILABLE
    position = error.details.get("position")
    if position is not None:
        near = list(error.details.get("suggestions", []))
        return [DefinitionError(code=code, message=error.message, path=[path], position=position, suggestions=near)]
    return [FieldError(code=code, message=error.message, path=[path])]
