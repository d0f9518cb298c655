"""`vigie erase` and `vigie subject`: the rights of the people whose data these are."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_cli.privacy import Proof
    from vigie_cli.screen import Screen

_OUT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@data_option
@click.option("--customer", help="The person: a user id, an anonymous id or a customer id.")
@click.option("--dry-run", is_flag=True, help="List what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--resume", is_flag=True, help="Finish erasures that were interrupted.")
@click.option("--proof", type=_OUT, help="Write the proof also to this file.")
def erase(data: Path, customer: str | None, dry_run: bool, yes: bool, resume: bool, proof: Path | None) -> None:
    """Erase a person everywhere, for ever, with a proof that lists every place."""
    from vigie_cli import privacy
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    if (customer is None) == (not resume):
        raise click.UsageError("name the person by --customer, or finish what was interrupted by --resume")
    system, screen, written = connect(data), Screen(), []
    if customer is None:
        for unfinished in privacy.begun(system.data):
            screen.say(f"Erasure {unfinished.erasure_id}, begun at {unfinished.begun_at}")
            written.append(privacy.finish(system, unfinished, screen.say))
        if not written:
            screen.say("No erasure is unfinished.")
    else:
        person = privacy.find(system, customer)
        planned = privacy.plan(person)
        _show(screen, planned)
        if dry_run:
            screen.say("Nothing was changed (--dry-run).")
            return
        if not yes:
            click.confirm(f"Erase {customer!r} for ever?", abort=True)
        written.append(privacy.erase(person, planned, screen.say))
    for path in written:
        screen.say(f"Erased and looked through again: the proof is {path}.")
    if proof is not None and written:
        proof.write_bytes(written[-1].read_bytes())


@click.group()
def subject() -> None:
    """A person's own data."""


@subject.command("export")
@data_option
@click.option("--customer", required=True, help="The person: a user id, an anonymous id or a customer id.")
@click.option("--out", type=_OUT, required=True, help="The JSON file to write (readable by you only).")
def export(data: Path, customer: str, out: Path) -> None:
    """Write everything about a person, from every place, as JSON."""
    from vigie_kit.files import replace_file

    from vigie_cli import privacy
    from vigie_cli.connection import connect

    found = privacy.export(privacy.find(connect(data), customer))
    replace_file(out, msgspec.json.format(msgspec.json.encode(found)), mode=0o600)
    rows = sum(len(place["rows"]) for part, places in found.items() if part != "about" for place in places.values())
    click.echo(f"{rows:,} rows about {customer} are in {out}.")


def _show(screen: "Screen", proof: "Proof") -> None:
    cells = [(one.part, one.place, str(one.found_before), one.erased_by) for one in proof.places]
    screen.table(("part", "place", "found", "what an erasure does"), cells, title=f"Customer {proof.customer_id}")
    for model in proof.models:
        if model.may_have_learned_from_the_person:
            screen.say(f"{model.model} version {model.version} may have learned from this person's history.")
