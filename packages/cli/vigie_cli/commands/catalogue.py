"""`vigie catalogue`: what arrived, what it probably means, and whether events fit the tracking plan."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from vigie_contracts.errors import InvalidInput

from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo

if TYPE_CHECKING:
    from vigie_contracts.arrivals import ArrivalRow, PropertyShape
    from vigie_contracts.catalogue import Catalogue

    from vigie_cli.cataloguing.suggesting import Suggestion

ROWS = 1_000


@click.group("catalogue", invoke_without_command=True)
@click.option("--uncatalogued", is_flag=True, help="Only names that the catalogue does not have.")
@click.option("--json", "as_json", is_flag=True, help="What arrived and the suggestions as one JSON object.")
@data_option
@click.pass_context
def catalogue(context: click.Context, uncatalogued: bool, as_json: bool, data: Path) -> None:
    """What arrived under which names, and what to add to the catalogue.

    Properties are shown by their types and by one value with its letters and digits hidden.
    """
    if context.invoked_subcommand is None:
        _arrived(uncatalogued, as_json, data)


@catalogue.command("suggest")
@click.argument("names", nargs=-1, required=True)
@feature_repo_option
def suggest(names: tuple[str, ...], feature_repo: Path | None) -> None:
    """Which micro-conversion each of NAMES probably is, and the TOML lines that say so. Needs nothing that runs."""
    from vigie_contracts.catalogue import Catalogue

    known = Catalogue.load(resolve_feature_repo(feature_repo))
    _suggest(known, {name: {} for name in names})


@catalogue.command("check")
@click.argument("plan", type=click.Path(exists=True, path_type=Path))
@click.argument("events", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@feature_repo_option
def check(plan: Path, events: Path | None, feature_repo: Path | None) -> None:
    """Check the tracking plan PLAN and, with it, EVENTS: a file of tracking calls or batches, one a line.

    Exit code 1 when the plan is wrong or an event would be warned of or quarantined.
    """
    from vigie_cli.cataloguing import checking
    from vigie_cli.screen import Screen

    repo, screen = resolve_feature_repo(feature_repo), Screen()
    loaded = checking.load_plan(plan, repo)
    screen.say(f"The plan has {len(loaded)} events; every schema is valid.")
    if events is None:
        return
    done = checking.check(loaded, repo, events, time.time_ns() // 1_000)
    rows = [
        (found.action, found.event, f"{found.count:,}", str(found.first_line), found.reason) for found in done.found
    ]
    if rows:
        screen.table(("ingest would", "event", "times", "first line", "because"), rows)
    screen.say(f"{done.events.total():,} events of {len(done.events)} names were checked.")
    if rows:
        raise InvalidInput(f"{events} has events that do not pass")


def _arrived(uncatalogued: bool, as_json: bool, data: Path) -> None:
    from vigie_contracts.arrivals import ArrivalsAnswer
    from vigie_contracts.catalogue import Catalogue

    from vigie_cli.connection import connect

    connection = connect(data)
    client = connection.client("ingest")
    try:
        answer = client.get(f"/internal/arrivals?limit={ROWS}", ArrivalsAnswer)
    finally:
        client.close()
    known = Catalogue.load(connection.feature_repo)
    unknown = _unknown(known, answer.rows)
    rows = [row for row in answer.rows if not uncatalogued or row.name in unknown]
    if as_json:
        _print_json(known, rows, unknown)
        return
    _table(known, rows, answer.more)
    if unknown:
        click.echo()
        _suggest(known, unknown)


def _unknown(known: "Catalogue", rows: "list[ArrivalRow]") -> "dict[str, dict[str, PropertyShape]]":
    """Names of track calls that the catalogue does not have now, with the properties of all their sources."""
    found: dict[str, dict[str, PropertyShape]] = {}
    for row in rows:
        if row.kind == "track" and not row.catalogued and known.resolve(row.name) is None:
            found.setdefault(row.name, {}).update(row.properties)
    return found


def _table(known: "Catalogue", rows: "list[ArrivalRow]", more: int) -> None:
    from vigie_contracts.instants import format_instant

    from vigie_cli.screen import Screen

    screen = Screen()
    shown = [
        (
            row.name,
            _state(known, row),
            row.source_id,
            f"{row.count:,}",
            f"{row.warned:,}",
            format_instant(row.first_at_us)[:16],
            format_instant(row.last_at_us)[:16],
            ", ".join(f"{name} {'|'.join(shape.types)} {shape.example}" for name, shape in row.properties.items()),
        )
        for row in rows
    ]
    screen.table(("name", "catalogue", "source", "events", "warned", "first seen", "last seen", "properties"), shown)
    if more:
        screen.say(f"{more:,} rarer names are not shown.")


def _state(known: "Catalogue", row: "ArrivalRow") -> str:
    """Where a name stands; one that was catalogued later keeps its earlier events as they were stored."""
    if row.kind in ("identify", "group", "alias"):
        return "call"
    if row.catalogued:
        return "yes"
    name = known.resolve(row.name)
    return "NO" if name is None else f"now {name}; these events stay uncatalogued"


def _suggest(known: "Catalogue", names: "dict[str, dict[str, PropertyShape]]") -> None:
    from vigie_cli.cataloguing.suggesting import Suggester, lines_to_add, new_row

    told = [name for name in names if known.resolve(name) is not None]
    for name in told:
        click.echo(f"{name!r} is {known.resolve(name)} already.")
    suggester = Suggester(known.micro_conversions.values())
    found = [suggester.suggest(name) for name in names if name not in told]
    sure = [one for one in found if one.strength == "sure"]
    if sure:
        click.echo("Spellings of what the catalogue has; put these lines in their places in catalogue.toml:\n")
        click.echo("\n".join(lines_to_add(known, sure)))
    likely = [one for one in found if one.strength == "likely"]
    if likely:
        click.echo("Perhaps; look before you add them:\n")
        click.echo(
            "\n".join(line if line.startswith("#") or not line else f"# {line}" for line in lines_to_add(known, likely))
        )
    new = [one for one in found if one.strength == "none"]
    if new:
        click.echo("Like nothing in the catalogue. If they tell something of customers, add rows such as:\n")
        click.echo("\n".join(line for one in new for line in new_row(one.spelling, names[one.spelling])))


def _print_json(known: "Catalogue", rows: "list[ArrivalRow]", unknown: "dict[str, dict[str, PropertyShape]]") -> None:
    import msgspec

    from vigie_cli.cataloguing.suggesting import Suggester

    suggester = Suggester(known.micro_conversions.values())
    suggestions: list[Suggestion] = [suggester.suggest(name) for name in unknown]
    body = msgspec.json.encode({"arrived": rows, "suggestions": suggestions})
    sys.stdout.write(msgspec.json.format(body, indent=2).decode() + "\n")
