"""`vigie replay`: what is made from the log is made again."""

from pathlib import Path

import click

from vigie_cli.options import data_option


@click.command()
@click.argument("projection", type=click.Choice(("tiles",)))
@data_option
def replay(projection: str, data: Path) -> None:
    """Make a projection of the running system anew from the log. `tiles`: what features are computed from.

    What is there is served until then; nothing is appended to a log or sent.
    """
    from vigie_cli.applying import Applying
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    applying, screen = Applying(connect(data)), Screen()
    told = applying.replay()
    with screen.waiting("Folding the log") as arrivals:
        applying.wait(told.until, arrivals.show)
    screen.say(f"The {projection} are made anew from {told.until:,} records.")
