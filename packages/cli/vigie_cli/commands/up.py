"""`vigie up`: start everything and stay."""

from pathlib import Path

import click
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import parse_instant

from vigie_cli.addresses import DEFAULT_BASE
from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo
from vigie_cli.system import Wanted, ready_line, started, stopping_on_signals


@click.command()
@data_option
@feature_repo_option
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=DEFAULT_BASE, show_default=True,
              help="First of five ports in a row.")  # fmt: skip
@click.option("--clock", metavar="INSTANT", help="Where the business clock of a new installation begins (RFC 3339).")
@click.option("--rate", type=float, help="How fast the business clock of a new installation runs (1 is real time).")
@click.option("--time-zone", metavar="NAME", help="The institution's business time zone, for a new installation.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when all is ready.")
def up(
    data: Path,
    feature_repo: Path | None,
    port_base: int,
    clock: str | None,
    rate: float | None,
    time_zone: str | None,
    as_json: bool,
) -> None:
    """Start every service and MLflow on this machine, and stay until Ctrl-C."""
    wanted = Wanted(
        data=data.resolve(),
        feature_repo=resolve_feature_repo(feature_repo),
        port_base=port_base,
        time_zone=time_zone,
        clock_us=None if clock is None else _instant(clock),
        rate=rate,
    )
    with stopping_on_signals():
        if as_json:
            _up_json(wanted)
        else:
            _up_for_people(wanted)


def _up_json(wanted: Wanted) -> None:
    with started(wanted, tell=lambda sentence: click.echo(sentence, err=True)) as system:
        click.echo(ready_line(system))
        system.supervisor.wait()


def _up_for_people(wanted: Wanted) -> None:
    from vigie_cli.screen import Screen

    screen = Screen()
    with (
        screen.waiting("Starting the services and MLflow") as arrived,
        started(wanted, tell=screen.warn, progress=arrived) as system,
    ):
        arrived.close()
        screen.addresses(system)
        screen.say("Ctrl-C stops everything.")
        try:
            system.supervisor.wait()
        finally:
            screen.say("Stopping ...")


def _instant(text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise InvalidInput(f"--clock {text!r} is no instant with an offset; write it as 2014-11-03T00:00Z") from error
