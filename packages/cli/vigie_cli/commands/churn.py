"""`vigie churn`: what the churn definitions of the feature repository mean on the running system's history."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_training.preview import HorizonLine, Preview

    from vigie_cli.screen import Screen

HEADINGS = (
    "horizon",
    "as-of rows",
    "from",
    "to",
    "eligible",
    "active",
    "lost",
    "lost %",
    "resurrected",
    "return later",
)


@click.group()
def churn() -> None:
    """Churn definitions, files in feature_repo/churn. What they mean is described in docs/models.md."""


@churn.command()
@click.argument("definition", required=False)
@data_option
@click.option("--horizons", metavar="DAYS,…", default="14,30,60,90", show_default=True,
              help="Horizons beside the definition's own and the suggested one.")  # fmt: skip
@click.option("--at-most", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1, show_default=True,
              help="Share of silences that may end after the suggested horizon.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def preview(definition: str | None, data: Path, horizons: str, at_most: float, as_json: bool) -> None:
    """Show whom DEFINITION (default: the primary one) covers and calls lost, by horizon, before any training."""
    days = _days(horizons)
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    connection = connect(data)
    from rich.console import Console
    from vigie_training.preview import preview as previewed

    from vigie_cli import modelling
    from vigie_cli.catching_up import await_archive

    screen = Screen(Console(stderr=True) if as_json else None)
    await_archive(connection, screen)
    key = definition or modelling.primary(connection)
    found = previewed(connection.data, connection.feature_repo, key, connection.clock.now_us(), days, at_most)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _show(screen, found)


def _days(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(days < 1 for days in found):
        raise click.UsageError(f"--horizons are whole days from 1 on with commas between, as 14,30,60; not {text!r}")
    return found


def _show(screen: "Screen", found: "Preview") -> None:
    from vigie_training.churn import meaning

    definition = found.definition
    screen.say(f"{definition.key}: {definition.name.get('en', definition.key)}. Lost: {meaning(definition)}.")
    screen.say(
        f"The label interval begins {definition.gap_days} days after the as-of instant. {found.customers:,} customers"
        f" with data from {_day(found.observed_from_us)} to {_day(found.observed_until_us)};"
        f" {found.denied:,} more deny analytics."
    )
    screen.table(
        HEADINGS, [_row(line) for line in found.horizons if line.rows], "By horizon, weekly (customer, as-of) rows"
    )
    for line in found.horizons:
        if line.problem is not None:
            screen.say(
                f"{line.horizon_days} days: {'no training yet' if line.rows else 'nothing yet'}, {line.problem}."
            )
    screen.say(
        "* the definition's own horizon. eligible = active + lost. resurrected: of the lost rows whose next horizon is"
        " over, those who came back within it. return later: of silences that lasted the horizon, the share that ended"
        " all the same."
    )
    screen.say(_suggested(found))


def _row(line: "HorizonLine") -> tuple[str, ...]:
    return (
        f"{line.horizon_days} d{' *' if line.configured else ''}",
        _day(line.from_us or 0),
        _day(line.to_us or 0),
        f"{line.rows:,}",
        f"{line.eligible:,}",
        f"{line.active:,}",
        f"{line.lost:,}",
        f"{line.lost / line.eligible:.2%}" if line.eligible else "",
        f"{line.lost_customers:,} of {line.eligible_customers:,}",
        f"{line.resurrected:,} of {line.watched:,}",
        "" if line.returning is None else f"{line.returning:.1%}",
    )


def _suggested(found: "Preview") -> str:
    suggestion = found.suggestion
    counted = "acts of a customer" if found.definition.attrition is None else ", ".join(found.counted)
    seen = (
        f"By {suggestion.silences:,} silences between {counted} ({suggestion.open:,} still open), watched up to"
        f" {suggestion.seen_days} days"
    )
    if suggestion.days is None:
        return (
            f"{seen}: no horizon up to {suggestion.seen_days // 2} days lets at most {suggestion.at_most:.0%} return"
            " later. More history, or a larger --at-most, may."
        )
    return (
        f"{seen}: a horizon of {suggestion.days} days is the shortest after which at most {suggestion.at_most:.0%}"
        f" return ({suggestion.returning:.1%} do)."
    )


def _day(micros: int) -> str:
    from vigie_contracts.instants import from_micros

    return f"{from_micros(micros):%Y-%m-%d}"
