"""`vigie quarantine`: what could not be accepted, why, and its release."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_cli.connection import Connection


@click.group()
def quarantine() -> None:
    """What could not be accepted, and why: list it, show it, mend and release it."""


@quarantine.command("list")
@data_option
@click.option("--source", help="Of this source only.")
@click.option("--code", help="For this reason only.")
@click.option("--state", type=click.Choice(("waiting", "released")), help="Only those that wait, or were released.")
@click.option("--before", type=int, metavar="ID", help="Older than this one: the next page.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object an event.")
def list_(
    data: Path,
    source: str | None,
    code: str | None,
    state: str | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Newest first, after the counts by source and reason."""
    from vigie_cli.connection import connect
    from vigie_cli.quarantine import counts, events
    from vigie_cli.screen import Screen

    system = connect(data)
    found = events(system, source=source, code=code, state=state, before=before, limit=limit)
    if as_json:
        for event in found:
            click.echo(msgspec.json.encode(event))
        return
    screen = Screen()
    totals = [(row.source_id, row.code, f"{row.waiting:,}", f"{row.released:,}") for row in counts(system)]
    if not totals:
        screen.say("Nothing was quarantined.")
        return
    screen.table(("source", "reason", "waiting", "released"), totals, title="Quarantine")
    rows = [(str(e.id), e.source_id, e.received_at, e.code, e.released_at or "waits", e.reason) for e in found]
    screen.table(("id", "source", "received", "reason", "released", "why"), rows)


@quarantine.command()
@data_option
@click.argument("number", type=click.IntRange(min=1), metavar="ID")
@click.option("--sent", is_flag=True, help="As it was sent, byte for byte.")
def show(data: Path, number: int, sent: bool) -> None:
    """Print the event: what a release reads, to be mended; --sent prints what was sent."""
    from vigie_cli.connection import connect
    from vigie_cli.quarantine import event

    found = event(connect(data), number)
    click.echo(
        f"{found.source_id} {found.event_id}, received {found.received_at}: {found.code}. {found.reason}", err=True
    )
    click.echo(found.body if sent else found.message)


@quarantine.command()
@data_option
@click.argument("numbers", type=click.IntRange(min=1), nargs=-1, metavar="[ID...]")
@click.option("--source", help="Instead of IDs: all that wait of this source.")
@click.option("--code", help="Instead of IDs: all that wait for this reason.")
@click.option(
    "--mended",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the whole mended event as JSON, with its `type`; for one ID.",
)
def release(data: Path, numbers: tuple[int, ...], source: str | None, code: str | None, mended: Path | None) -> None:
    """Check events again by today's catalogue, plan and rules, and take those that hold. Exit code 1 unless all do."""
    from vigie_cli.connection import connect

    if bool(numbers) == bool(source or code):
        raise click.UsageError("give the IDs to release, or with --source and --code which of those that wait")
    if mended is not None and len(numbers) != 1:
        raise click.UsageError("--mended is the text of one event; give one ID")
    system, body = connect(data), None if mended is None else mended.read_bytes()
    refused = _release_each(system, numbers, body) if numbers else _release_all(system, source, code)
    sys.exit(1 if refused else 0)


def _release_each(system: "Connection", numbers: tuple[int, ...], body: bytes | None) -> int:
    from vigie_cli.quarantine import released

    refused = 0
    for number in numbers:
        answer = released(system, number, body)
        if answer.verdict == "accepted":
            when = "was accepted before" if answer.already else "accepted"
            click.echo(f"{number}: {when}, number {answer.number} of the log of events.")
        else:
            refused += 1
            click.echo(f"{number}: still in quarantine ({answer.code}): {answer.reason}")
    return refused


def _release_all(system: "Connection", source: str | None, code: str | None) -> int:
    """By reason what stays, with its newest as an example; how many stay."""
    from vigie_cli.quarantine import released_again, waiting

    accepted, stay = 0, Counter[str]()
    examples: dict[str, str] = {}
    for answer in released_again(system, waiting(system, source, code)):
        if answer.verdict == "accepted":
            accepted += 1
        else:
            stay[answer.code or ""] += 1
            examples.setdefault(answer.code or "", f"{answer.id}: {answer.reason}")
    click.echo(f"{accepted:,} accepted.")
    for reason, count in stay.most_common():
        click.echo(f"{count:,} still in quarantine ({reason}), such as {examples[reason]}")
    return stay.total()
