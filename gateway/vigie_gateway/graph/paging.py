"""Relay connections by keyset: made from rows that were already cut to one page."""

from typing import Generic, TypeVar

import strawberry
from vigie_contracts.errors import InvalidInput

from vigie_gateway.graph.scalars import Cursor

T = TypeVar("T")
MOST_FIRST = 100


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follows `endCursor`.")
    has_previous_page: bool = strawberry.field(description="Whether something precedes this page.")
    start_cursor: Cursor | None = strawberry.field(description="The first item's place.")
    end_cursor: Cursor | None = strawberry.field(description="The last item's place; send it as `after`.")


@strawberry.type(description="An item and its place.")
class Edge(Generic[T]):
    cursor: Cursor = strawberry.field(description="The item's place.")
    node: T = strawberry.field(description="The item.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    edges: list[Edge[T]] = strawberry.field(description="The items of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


def checked_first(first: int) -> int:
    """`first`, or InvalidInput outside 1…100."""
    if not 1 <= first <= MOST_FIRST:
        raise InvalidInput(f"first must lie between 1 and {MOST_FIRST}, not {first}")
    return first


def page_info(cursors: list[str], *, has_next: bool, has_previous: bool) -> PageInfo:
    """PageInfo of the cursors of a page."""
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=has_previous,
        start_cursor=Cursor(cursors[0]) if cursors else None,
        end_cursor=Cursor(cursors[-1]) if cursors else None,
    )


def connection(pairs: list[tuple[str, T]], *, has_next: bool, has_previous: bool) -> Connection[T]:
    """A connection of (cursor, node) pairs."""
    edges = [Edge(cursor=Cursor(cursor), node=node) for cursor, node in pairs]
    info = page_info([cursor for cursor, _ in pairs], has_next=has_next, has_previous=has_previous)
    return Connection(edges=edges, page_info=info)
