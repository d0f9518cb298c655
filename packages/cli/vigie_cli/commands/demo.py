"""`vigie demo`: from nothing to customers at risk on a simulated bank."""

import os
from pathlib import Path

import click
from vigie_contracts.errors import VigieError

from vigie_cli.addresses import DEFAULT_BASE
from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo
from vigie_cli.system import Wanted, started, stopping_on_signals

CUSTOMERS = 2_500
DAYS = 150
SEED = 7


@click.command()
@data_option
@feature_repo_option
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=DEFAULT_BASE, show_default=True,
              help="First of five ports in a row.")  # fmt: skip
@click.option("--customers", type=click.IntRange(50), envvar="DEMO_CUSTOMERS",
              help=f"How many simulated customers (DEMO_CUSTOMERS); default: as before, else {CUSTOMERS}.")  # fmt: skip
@click.option("--once", is_flag=True, default=lambda: os.environ.get("DEMO_ONCE", "") not in ("", "0"),
              help="Stop everything at the end (DEMO_ONCE=1).")  # fmt: skip
def demo(data: Path, feature_repo: Path | None, port_base: int, customers: int | None, once: bool) -> None:
    """Start everything on a SIMULATED bank, train, promote, show who is at risk; stay until Ctrl-C."""
    from vigie_cli.demo import flow
    from vigie_cli.screen import Screen
    from vigie_cli.simulating import Bank, bank_of

    screen = Screen()
    default = Bank(seed=SEED, customers=CUSTOMERS, days=DAYS)
    bank = bank_of(data, seed=None, customers=customers, days=DAYS, default=default)
    wanted = Wanted(data=data.resolve(), feature_repo=resolve_feature_repo(feature_repo), port_base=port_base)
    screen.title("1. Start: four services and MLflow on this machine")
    screen.say(f"Data lie in {wanted.data}. Every customer you will see is SIMULATED.")
    shown = False
    with stopping_on_signals():
        try:
            with screen.waiting("Starting") as arrived, started(wanted, tell=screen.warn, progress=arrived) as system:
                arrived.close()
                screen.addresses(system)
                live = flow.show(system, bank, screen)
                shown = True
                flow.leave(live, screen) if once else flow.stay(system, live, screen)
        except VigieError as error:
            raise click.ClickException(flow.said(error, wanted.data)) from error
    if not shown:
        raise click.Abort
    screen.say("Everything has stopped.")
