"""`vigie down`: stop what `vigie up` started."""

from pathlib import Path

import click
from vigie_contracts.errors import NotFound

from vigie_cli import running
from vigie_cli.options import data_option


@click.command()
@data_option
@click.option("--quiet", is_flag=True, help="Say nothing, also when nothing runs.")
def down(data: Path, quiet: bool) -> None:
    """Stop the Vigie that runs on a data directory, and wait until it has ended."""
    try:
        running.stop(data.resolve())
    except NotFound:
        if quiet:
            return
        raise
    if not quiet:
        click.echo("Vigie has stopped.")
