"""`vigie import`: files into events and profiles."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from vigie_contracts.errors import InvalidInput

from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo
from vigie_cli.system import stopping_on_signals

if TYPE_CHECKING:
    from vigie_cli.import_report import ImportScreen
    from vigie_cli.importing import ImportReport

FOLDER = "imports"


@click.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--mapping", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="The file that says whose each row is, when it happened and what it means.")  # fmt: skip
@click.option("--set", "variables", metavar="NAME=VALUE[,VALUE]", multiple=True, help="A variable of the mapping.")
@click.option("--dry-run", is_flag=True, help="Check every row by the mapping and ingest's rules; write nothing.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on where an earlier run was interrupted.")
@click.option("--mended", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Import only the mended rows of this folder of refused rows.")  # fmt: skip
@click.option("--refused", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the rows that are not accepted; default: DATA/imports/refused/MAPPING.")  # fmt: skip
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@data_option
@feature_repo_option
def import_(
    path: Path,
    mapping: Path,
    variables: tuple[str, ...],
    dry_run: bool,
    restart: bool,
    mended: Path | None,
    refused: Path | None,
    report: Path | None,
    data: Path,
    feature_repo: Path | None,
) -> None:
    """Import CSV, JSONL or Parquet files at PATH through the same validation as HTTP.

    An interrupted import goes on where it was when the same command is run again. Rows that are not accepted are
    written to files that can be mended and imported with --mended. docs/importing.md has the mapping's format.
    """
    from vigie_cli.connection import connect
    from vigie_cli.import_report import ImportScreen
    from vigie_cli.importing import run

    screen, chosen = ImportScreen(), _variables(variables)
    with stopping_on_signals():
        if dry_run:
            done = _rehearse(screen, path, mapping, chosen, mended, feature_repo)
        else:
            connection = connect(data)
            client, state = connection.client("ingest"), connection.data / FOLDER
            folder = refused or (mended / "again" if mended else state / "refused" / mapping.stem)
            try:
                with screen.progress() as progress:
                    done = run(
                        path, mapping, client, progress=progress, state=state, restart=restart, mended=mended,
                        refused=folder, variables=chosen,
                    )  # fmt: skip
            finally:
                client.close()
        _tell(screen, done, report)
        return
    raise InvalidInput("the import was interrupted; run the same command again and it goes on where it stopped")


def _rehearse(
    screen: "ImportScreen",
    path: Path,
    mapping: Path,
    variables: dict[str, list[str]],
    mended: Path | None,
    feature_repo: Path | None,
) -> "ImportReport":
    import time

    from vigie_contracts.catalogue import Catalogue
    from vigie_ingest.identity import Rules
    from vigie_ingest.messages import Normaliser
    from vigie_ingest.plan import Plan

    from vigie_cli.importing import run
    from vigie_cli.importing.rehearsal import Rehearsal

    repo = resolve_feature_repo(feature_repo)
    known = Catalogue.load(repo)
    normaliser = Normaliser(known, Rules.load(repo), Plan.load(repo, known))
    rehearsal = Rehearsal(normaliser, time.time_ns() // 1_000)
    with screen.progress() as progress:
        done = run(path, mapping, rehearsal, progress=progress, mended=mended, variables=variables)
    done.dry_run = True
    if rehearsal.uncatalogued:
        names = ", ".join(f"{name!r} ({count:,})" for name, count in rehearsal.uncatalogued.most_common(10))
        unknown = f"names that {repo / 'catalogue.toml'} does not have: {names}"
        done.notes.append(f"{unknown}; `vigie catalogue suggest` helps")
    return done


def _tell(screen: "ImportScreen", done: "ImportReport", report: Path | None) -> None:
    screen.show(done)
    if report is not None:
        report.write_bytes(done.as_json())
        click.echo(f"The report is in {report}.")
    if done.dry_run:
        click.echo("This was a dry run: nothing was written. Whether a row is known already is not asked.")
    elif done.refused_files:
        click.echo("Mend the rows there and import them with --mended FOLDER; then delete the folder.")
    if done.problems:
        raise InvalidInput("the import is not whole: " + "; ".join(done.problems))


def _variables(given: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, separator, values = text.partition("=")
        if not (name and separator):
            raise click.UsageError(f"--set {text!r}: write NAME=VALUE or NAME=VALUE,VALUE")
        found[name] = values.split(",")
    return found
