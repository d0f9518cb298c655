"""`vigie doctor`: what is wrong with this machine or these settings, in sentences."""

from pathlib import Path

import click

from vigie_cli.addresses import DEFAULT_BASE
from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo


@click.command()
@data_option
@feature_repo_option
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=DEFAULT_BASE, show_default=True)
def doctor(data: Path, feature_repo: Path | None, port_base: int) -> None:
    """Check Python, disk, ports, durability, permissions and the feature repository. Exit code 1 on a failure."""
    from vigie_cli.diagnosis import diagnose

    findings = diagnose(data.resolve(), resolve_feature_repo(feature_repo), port_base)
    for finding in findings:
        click.echo(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.sentence}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)
