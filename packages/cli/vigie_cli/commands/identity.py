"""`vigie identity`: why identities are one customer, and undoing a merge."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_contracts.reads import IdentityExplanation, MergeRow

    from vigie_cli.screen import Screen


@click.group()
def identity() -> None:
    """Who is whom: explain a customer's identities, undo a merge."""


@identity.command()
@data_option
@click.option("--customer", required=True, help="A user id, an anonymous id or a customer id.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def explain(data: Path, customer: str, as_json: bool) -> None:
    """Show a customer's identities, which event joined them by which rule, and what was refused and why."""
    from vigie_cli.connection import connect
    from vigie_cli.identity import explanation
    from vigie_cli.screen import Screen

    found = explanation(connect(data), customer)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _show(Screen(), found)


@identity.command()
@data_option
@click.argument("number", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why, without personal data: the log keeps it.")
def undo(data: Path, number: int, reason: str) -> None:
    """Take back the merge with this NUMBER (see explain), or an undo: then the merge stands again."""
    from vigie_cli.connection import connect
    from vigie_cli.identity import undone

    answer = undone(connect(data), number, reason)
    moved = f"{len(answer.moves)} members changed their customer" if answer.moves else (
        "no member changed its customer, because other merges join the same members"
    )  # fmt: skip
    click.echo(f"Record {answer.undoes} was undone by record {answer.number}: {moved}.")


def _show(screen: "Screen", found: "IdentityExplanation") -> None:
    from vigie_contracts.instants import format_instant

    names = [
        (
            member.member_id,
            row.namespace,
            f"{row.value} (shared)" if row.shared else row.value,
            format_instant(row.linked_at_us),
        )
        for member in found.members
        for row in member.identities
    ]
    screen.table(("member", "namespace", "value", "since"), names, title=f"Customer {found.customer_id}")
    if found.merges:
        heads = ("number", "rule", "members", "known at", "by event", "state")
        rows = [
            (str(m.number), m.rule, " + ".join(m.members), format_instant(m.known_at_us), _event(m), _state(m))
            for m in found.merges
        ]
        screen.table(heads, rows, title="Merges")
    if found.refused:
        refused = [
            (row.rule, " + ".join(row.members), str(row.times), format_instant(row.last_us), row.reason)
            for row in found.refused
        ]
        title = "Refused, the latest" if found.refused_more else "Refused"
        screen.table(("rule", "members", "times", "last", "why"), refused, title=title)


def _event(merge: "MergeRow") -> str:
    return f"{merge.event.source_id} {merge.event.event_id}" if merge.event is not None else "erased"


def _state(merge: "MergeRow") -> str:
    return "stands" if merge.undone_number is None else f"undone by {merge.undone_number}: {merge.reason}"
