"""How much a client may ask: tokens, depth and aliases by rules made once at import; cost by a bucket, with variables.

Rules made per request would defeat the validation cache, and a cost rule would be cached without its variables.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, SchemaExtension, ValidationCache
from strawberry.extensions.max_aliases import create_validator as aliases_rule
from strawberry.extensions.query_depth_limiter import create_validator as depth_rule
from vigie_contracts.errors import LimitExceeded

MOST_TOKENS = 2_000
MOST_DEPTH = 12
MOST_ALIASES = 30
MOST_COST = 20_000
DEFAULT_FIRST = 20
_LISTS = frozenset(
    {"customers", "segments", "timeline", "scoreHistory", "members", "segmentHistory", "segmentPreview"}
    | {"merges", "refused"}
)
"""Fields that count as lists of `DEFAULT_FIRST` when no `first` is given."""
BUCKET_SIZE = 200_000
REFILL_PER_SECOND = 20_000
CACHED_DOCUMENTS = 128

RULES: list[Any] = [
    depth_rule(max_depth=MOST_DEPTH, should_ignore=None, callback=None),
    aliases_rule(max_alias_count=MOST_ALIASES),
]


class Bucket:
    """A token bucket in system time; `take` answers what is left or raises LimitExceeded."""

    def __init__(self, size: int = BUCKET_SIZE, refill_per_second: int = REFILL_PER_SECOND) -> None:
        self.size = size
        self._refill = refill_per_second
        self._left = float(size)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, cost: int) -> int:
        """Debit a cost."""
        with self._lock:
            now = time.monotonic()
            self._left = min(float(self.size), self._left + (now - self._at) * self._refill)
            self._at = now
            if cost > self._left:
                wait = int((cost - self._left) / self._refill) + 1
                raise LimitExceeded(f"too many queries at once; try again in {wait} s", details={"retry_after": wait})
            self._left -= cost
            return int(self._left)

    @property
    def seconds_to_full(self) -> float:
        """Seconds until the bucket is full again."""
        return (self.size - self._left) / self._refill


class Cost(SchemaExtension):
    """Debits each operation's cost before it runs and reports it in `extensions.cost`."""

    def on_execute(self) -> Iterator[None]:
        """Price the document with its variables; LimitExceeded when it is too dear or the bucket is empty."""
        execution = self.execution_context
        document = execution.graphql_document
        if document is not None:
            cost = price(document, execution.operation_name, execution.variables or {})
            if cost > MOST_COST:
                raise LimitExceeded(f"this query costs {cost}; at most {MOST_COST} is allowed. Ask for shorter lists")
            left = execution.context.shared.bucket.take(cost)
            execution.context.cost = {"requested": cost, "limit": MOST_COST, "left": left}
        yield

    def get_results(self) -> dict[str, Any]:
        """`extensions.cost` of the answer."""
        cost = getattr(self.execution_context.context, "cost", None)
        return {"cost": cost} if cost else {}


def price(document: DocumentNode, operation: str | None, variables: Mapping[str, Any]) -> int:
    """One for every field, times `first` of each list around it. Fragments count where they are spread."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    chosen = [node for node in operations if operation is None or (node.name and node.name.value == operation)]
    return sum(_selection(node.selection_set, fragments, variables) for node in chosen[:1])


def _selection(
    selections: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode], variables: Mapping[str, Any]
) -> int:
    total = 0
    for node in selections.selections if selections else ():
        if isinstance(node, FieldNode):
            total += 1 + _first(node, variables) * _selection(node.selection_set, fragments, variables)
        elif isinstance(node, InlineFragmentNode):
            total += _selection(node.selection_set, fragments, variables)
        elif isinstance(node, FragmentSpreadNode) and node.name.value in fragments:
            total += _selection(fragments[node.name.value].selection_set, fragments, variables)
    return total


def _first(node: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in node.arguments:
        if argument.name.value == "first":
            value = argument.value
            if isinstance(value, IntValueNode):
                return max(1, int(value.value))
            if isinstance(value, VariableNode):
                given = variables.get(value.name.value, DEFAULT_FIRST)
                return max(1, given) if isinstance(given, int) else DEFAULT_FIRST
    return DEFAULT_FIRST if node.name.value in _LISTS else 1


EXTENSIONS: list[Any] = [
    lambda: MaxTokensLimiter(max_token_count=MOST_TOKENS),
    lambda: ParserCache(maxsize=CACHED_DOCUMENTS),
    lambda: AddValidationRules(RULES),
    lambda: ValidationCache(maxsize=CACHED_DOCUMENTS),
    Cost,
]
