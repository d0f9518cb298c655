"""`vigie train`, `models`, `promote`, `rollback`: a model's way through the gate."""

from pathlib import Path

import click

from vigie_cli.options import data_option


@click.command()
@click.argument("kind", type=click.Choice(("churn", "next-best-offer")))
@data_option
def train(kind: str, data: Path) -> None:
    """Train a challenger from the running system's history, through Feast, and register it in MLflow."""
    from vigie_cli import modelling
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    modelling.register_features(connection, screen)
    made = modelling.train(connection, kind, screen)
    screen.say(f"`vigie promote {made.name}` lets the gate judge it.")


@click.command()
@data_option
def models(data: Path) -> None:
    """Show the registered models, and which version is champion and which challenger."""
    from vigie_cli import modelling
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    rows = [
        (model.name, model.newest, model.champion or "none", model.challenger or "none")
        for model in modelling.registered(connection)
    ]
    if not rows:
        screen.say("No model is registered yet; `vigie train churn` trains the first.")
        return
    screen.table(("model", "newest version", "champion", "challenger"), rows, title=connection.addresses.mlflow)


@click.command()
@click.argument("name", required=False)
@data_option
@click.option("--override", metavar="REASON", help="Promote against the gate; the reason stands in the ledger.")
def promote(name: str | None, data: Path, override: str | None) -> None:
    """Let the gate judge a challenger (NAME, default: all that wait) and promote it. Exit code 1 when refused."""
    from vigie_cli import modelling
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    for model in [name] if name is not None else modelling.awaiting(connection):
        modelling.promote(connection, model, screen, override)


@click.command()
@click.argument("name")
@data_option
def rollback(name: str, data: Path) -> None:
    """Make the version before the champion of NAME again."""
    from vigie_cli import modelling
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    modelling.rollback(connection, name, screen)
