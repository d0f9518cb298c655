"""`vigie train`, `models`, `promote`, `rollback`: a model's way through the gate."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_cli.modelling import Kind


@click.command()
@click.argument("kind", type=click.Choice(("churn", "next-best-offer")))
@data_option
@click.option("--definition", metavar="KEY", help="The churn definition; default: the primary one.")
def train(kind: str, data: Path, definition: str | None) -> None:
    """Train a challenger from the running system's history, through Feast, and register it in MLflow."""
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    from vigie_cli import modelling
    from vigie_cli.catching_up import await_archive

    await_archive(connection, screen)
    modelling.register_features(connection, screen)
    made = modelling.train(connection, cast("Kind", kind), screen, definition)
    screen.say(f"`vigie promote {made.model_name}` lets the gate judge it.")


@click.command()
@data_option
def models(data: Path) -> None:
    """Show the registered models, which version is champion and which challenger, and what the gate said."""
    from vigie_cli.connection import connect
    from vigie_cli.registered import versions
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    rows = [
        (row.name, row.version, ", ".join(row.aliases), row.gate or "not asked", row.created_at)
        for row in versions(connection.addresses.mlflow)
    ]
    if not rows:
        screen.say("No model is registered yet; `vigie train churn` trains the first.")
        return
    screen.table(("model", "version", "aliases", "gate", "made"), rows, title=connection.addresses.mlflow)


@click.command()
@click.argument("name", required=False)
@data_option
@click.option("--version", metavar="N", help="A version of NAME; default: its challenger.")
@click.option("--override", metavar="REASON", help="Promote against the gate; the reason stands in the ledger.")
def promote(name: str | None, data: Path, version: str | None, override: str | None) -> None:
    """Let the gate judge a challenger (NAME, default: all that wait) and promote it. Exit code 1 when refused."""
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    if version is not None and name is None:
        raise click.UsageError("--version needs the NAME of a model")
    from vigie_cli.registered import awaiting, versions

    connection, screen = connect(data), Screen()
    names = [name] if name is not None else awaiting(versions(connection.addresses.mlflow))
    from vigie_cli import modelling

    for model in names:
        modelling.promote(connection, model, screen, version=version, override=override)


@click.command()
@click.argument("name")
@data_option
def rollback(name: str, data: Path) -> None:
    """Make the version before the champion of NAME champion again."""
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection, screen = connect(data), Screen()
    from vigie_cli import modelling

    modelling.rollback(connection, name, screen)
