"""`vigie import`: files into events and profiles."""

from pathlib import Path

import click
from vigie_contracts.errors import InvalidInput

from vigie_cli.options import data_option
from vigie_cli.system import stopping_on_signals


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--mapping", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="The file that says whose each row is, when it happened and what it means.")  # fmt: skip
@click.option("--set", "variables", metavar="NAME=VALUE[,VALUE]", multiple=True, help="A variable of the mapping.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write every kept refusal to this file."
)
@data_option
def import_(path: Path, mapping: Path, variables: tuple[str, ...], report: Path | None, data: Path) -> None:
    """Import CSV, JSONL or Parquet files at PATH through the same validation as HTTP. Resumes when interrupted."""
    from vigie_cli.connection import connect
    from vigie_cli.import_report import ImportScreen
    from vigie_cli.importing import run

    connection, screen = connect(data), ImportScreen()
    client = connection.client("ingest")
    resume = connection.data / "run" / f"import-{mapping.stem}.json"
    with stopping_on_signals():
        try:
            with screen.progress() as progress:
                done = run(
                    path, mapping, client, progress=progress, resume_file=resume, variables=_variables(variables)
                )
        finally:
            client.close()
        screen.show(done)
        if report is not None:
            report.write_text("".join(f"{refusal}\n" for refusal in done.refusals))
            click.echo(f"The refused rows are listed in {report}.")
        return
    raise InvalidInput("the import was interrupted; run the same command again and it goes on where it stopped")


def _variables(given: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, separator, values = text.partition("=")
        if not (name and separator):
            raise click.UsageError(f"--set {text!r}: write NAME=VALUE or NAME=VALUE,VALUE")
        found[name] = values.split(",")
    return found
