"""Errors that leave the house: ours with their code, everything else masked with a trace id that the log knows."""

import secrets
from collections.abc import Iterator

import graphql
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from vigie_contracts.errors import VigieError
from vigie_kit.logs import get


class Masking(SchemaExtension):
    """Gives each error of an answer its code, or masks it."""

    def on_operation(self) -> Iterator[None]:
        """Rewrite the errors of the result."""
        yield
        result = self.execution_context.result
        errors = getattr(result, "errors", None)
        if errors:
            result.errors = [shown(error) for error in errors]  # type: ignore[union-attr]


def shown(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        return error
    if isinstance(cause, VigieError):
        extensions = {"code": cause.code, "retryable": cause.retryable, **cause.details}
        return _copy(error, cause.message, extensions)
    trace = secrets.token_hex(8)
    get(__name__).error("a resolver failed", trace_id=trace, exc_info=cause)
    return _copy(error, f"an unexpected error (trace id {trace})", {"code": "INTERNAL", "traceId": trace})


def _copy(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLError:
    return graphql.GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
