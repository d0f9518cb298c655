"""The schema, and `python -m vigie_gateway.schema [--check] FILE`, which prints it or checks a printed one."""

import argparse
import sys
from pathlib import Path

import strawberry
from graphql import build_schema
from graphql.utilities import find_breaking_changes, find_dangerous_changes
from strawberry.extensions import DisableIntrospection
from strawberry.schema.config import StrawberryConfig

from vigie_gateway.graph.customer import Customer, Segment
from vigie_gateway.graph.errors import DefinitionError, FieldError
from vigie_gateway.graph.mutation import Mutation
from vigie_gateway.graph.query import Query
from vigie_gateway.graph.scalars import SCALARS
from vigie_gateway.graph.subscription import Subscription
from vigie_gateway.graph.timeline import (
    MicroConversionEvent,
    OfferEvent,
    ScoreEvent,
    ServiceContactEvent,
    TransactionEvent,
)
from vigie_gateway.limits import EXTENSIONS
from vigie_gateway.masking import Masking


def make_schema(*, introspection: bool = True) -> strawberry.Schema:
    """The executable schema with its limits and masking."""
    extensions = [*EXTENSIONS, Masking, *([] if introspection else [DisableIntrospection])]
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[
            Customer,
            Segment,
            MicroConversionEvent,
            TransactionEvent,
            ServiceContactEvent,
            OfferEvent,
            ScoreEvent,
            FieldError,
            DefinitionError,
        ],
        extensions=extensions,
        config=StrawberryConfig(scalar_map=SCALARS),
    )


def printed() -> str:
    """The schema in SDL, ending with a line break."""
    return make_schema().as_str().rstrip() + "\n"


def compare(path: Path) -> list[str]:
    """Sentences on how the schema differs from a printed one; empty when it does not."""
    before, after = path.read_text() if path.exists() else "", printed()
    if before == after:
        return []
    if not before:
        return [f"{path} does not exist; print it with: python -m vigie_gateway.schema {path}"]
    old, new = build_schema(before), build_schema(after)
    found = [f"breaking: {change.description}" for change in find_breaking_changes(old, new)]
    found += [f"dangerous: {change.description}" for change in find_dangerous_changes(old, new)]
    return found or ["safe: descriptions or additions changed; print it again"]


def main() -> None:
    """Print the schema to a file, or check one."""
    parser = argparse.ArgumentParser(prog="python -m vigie_gateway.schema", description=main.__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path("docs/schema.graphql"), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs from what is served")
    asked = parser.parse_args()
    if not asked.check:
        asked.path.write_text(printed())
    elif problems := compare(asked.path):
        sys.exit("\n".join([f"{asked.path} is not what the gateway serves:", *problems]))


if __name__ == "__main__":
    main()
