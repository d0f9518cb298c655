"""Asks ingest why identities are one customer, and to take merges back."""

from vigie_contracts.errors import NotFound
from vigie_contracts.reads import (
    CustomersRequest,
    ExplainAnswer,
    IdentityExplanation,
    Lookup,
    UndoAnswer,
    UndoRequest,
)

from vigie_cli.connection import Connection

PATH = "/internal/identity"
NAMESPACES = ("user_id", "anonymous_id")


def explanation(system: Connection, customer: str) -> IdentityExplanation:
    """By user id, anonymous id or customer id, in this order; NotFound when it is none of them."""
    lookups = [Lookup(namespace=namespace, value=customer) for namespace in NAMESPACES]
    client = system.client("ingest")
    try:
        for asked in (CustomersRequest(lookups=lookups), CustomersRequest(customer_ids=[customer])):
            for found in client.post(f"{PATH}/explain", asked, ExplainAnswer).customers:
                if found is not None:
                    return found
    finally:
        client.close()
    raise NotFound(f"nobody is known under {customer!r}")


def undone(system: Connection, number: int, reason: str) -> UndoAnswer:
    """Undo the merge (or the undo) at a number of the log; the errors are ingest's."""
    client = system.client("ingest")
    try:
        return client.post(f"{PATH}/undo", UndoRequest(number=number, reason=reason), UndoAnswer)
    finally:
        client.close()
