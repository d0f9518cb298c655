"""`vigie simulate`: a simulated bank's history, or its present as a stream."""

from pathlib import Path

import click

from vigie_cli.options import data_option
from vigie_cli.system import stopping_on_signals

CUSTOMERS = 1_000
DAYS = 180
SEED = 7


@click.command()
@data_option
@click.option("--customers", type=click.IntRange(1), help=f"Default: as before, else {CUSTOMERS}.")
@click.option("--days", type=click.IntRange(1), default=DAYS, show_default=True, help="Days of history before now.")
@click.option("--seed", type=int, help=f"The same seed makes the same bank. Default: as before, else {SEED}.")
@click.option("--activity", type=click.FloatRange(0.01), default=1.0, help="How much customers of a new bank do.")
@click.option("--live", is_flag=True, help="After the history, send what happens now, as an application would.")
def simulate(data: Path, customers: int | None, days: int, seed: int | None, activity: float, live: bool) -> None:
    """Send a SIMULATED bank (no real person, no real bank): its history, and with --live its present."""
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen
    from vigie_cli.simulating import Bank, bank_of, history, stream

    connection, screen = connect(data), Screen()
    default = Bank(seed=SEED, customers=CUSTOMERS, days=days, activity=activity)
    bank = bank_of(connection.data, seed=seed, customers=customers, days=days, default=default)
    with stopping_on_signals():
        history(connection, bank, screen)
        if live:
            screen.say("Sending live events; Ctrl-C stops.")
            stream(connection, bank, screen)
