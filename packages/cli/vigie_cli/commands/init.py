"""`vigie init`: make a data directory without starting anything (containers start the processes themselves)."""

from pathlib import Path

import click
from vigie_contracts.errors import NotFound
from vigie_kit import installation

from vigie_cli.options import data_option


@click.command()
@data_option
@click.option("--time-zone", metavar="NAME", default="UTC", show_default=True, help="The institution's time zone.")
def init(data: Path, time_zone: str) -> None:
    """Set up a data directory, unless it is one already."""
    try:
        found = installation.load(data)
        click.echo(f"{data} is set up already (format {found.format}, time zone {found.time_zone}).")
    except NotFound:
        made = installation.create(data, time_zone=time_zone)
        click.echo(f"{data} is set up (format {made.format}, time zone {made.time_zone}).")
