"""`vigie features`: the declared features, their registration in Feast, and the proof that all engines agree."""

from pathlib import Path

import click

from vigie_cli.options import data_option, feature_repo_option, repository_of, resolve_feature_repo


@click.group()
def features() -> None:
    """The feature table: list it, register it, compare its engines."""


@features.command("list")
@feature_repo_option
@click.option("--markdown", is_flag=True, help="Print the catalogue page (docs/feature-catalogue.md).")
def list_(feature_repo: Path | None, markdown: bool) -> None:
    """Show every declared feature."""
    from vigie_contracts.features import FeatureTable

    from vigie_cli.screen import Screen

    where = resolve_feature_repo(feature_repo)
    if markdown:
        from vigie_cli.feature_page import page

        click.echo(page(where), nl=False)
        return
    table = FeatureTable.load(where)
    rows = [
        (row.key, row.measure, "" if row.window_days is None else f"{row.window_days} d", row.owner, row.description)
        for row in table.features
    ]
    Screen().table(("feature", "measure", "window", "owner", "description"), rows, f"{len(rows)} features")


@features.command()
@data_option
@feature_repo_option
@click.option("--no-wait", is_flag=True, help="Do not wait until what is new is live.")
def apply(data: Path, feature_repo: Path | None, no_wait: bool) -> None:
    """Register the feature table in Feast, and fold the log for what is new while the system serves.

    Until a new feature is live it is null, and a model that reads it is not promoted.
    """
    from vigie_tiles import registration

    from vigie_cli import running
    from vigie_cli.applying import Applying
    from vigie_cli.connection import connect
    from vigie_cli.screen import Screen

    where, screen = repository_of(data.resolve(), feature_repo), Screen()
    applying = Applying(connect(data)) if running.is_running(data.resolve()) else None
    if applying is not None:
        applying.check(where)
    with screen.waiting("Registering in Feast"):
        store = registration.apply(data.resolve(), where)
    view = store.get_feature_view(registration.VIEW)
    screen.say(f"Feast knows {len(view.features)} features in the view {view.name} of {data / 'registry.db'}.")
    if applying is None:
        screen.say("No Vigie runs on this data; what is new is folded when it starts, while it serves.")
        return
    told = applying.begin()
    if told.awaited and no_wait:
        screen.say(f"Being folded, null until it is live: {', '.join(told.awaited)}.")
        return
    with screen.waiting("Folding the log for what is new") as arrivals:
        applying.wait(told.until, arrivals.show)
    screen.say(f"All {told.features} features are live.")


@features.command()
@data_option
@feature_repo_option
@click.option("--customers", type=click.IntRange(1), default=200, show_default=True)
@click.option(
    "--scores", type=click.IntRange(0), default=10_000, show_default=True, help="How many stored scores; 0: leave out."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def parity(data: Path, feature_repo: Path | None, customers: int, scores: int, as_json: bool) -> None:
    """Compare stream, batch and online values. Exit code 1 unless every comparison has rows and no difference."""
    from vigie_cli.parity import Parity
    from vigie_cli.screen import Screen

    screen = Screen()
    comparing = Parity(data.resolve(), repository_of(data.resolve(), feature_repo))
    stored = [comparing.stored_scores(scores)] if scores else []
    found = [*stored, comparing.tiles_now(customers), comparing.feast_now(customers)]
    comparing.report(found)
    if as_json:
        import msgspec

        for one in found:
            click.echo(msgspec.json.encode(one).decode())
    else:
        rows = [(one.what, f"{one.rows:,}", f"{one.values:,}", str(one.differences), one.note) for one in found]
        screen.table(("comparison", "rows", "values", "differences", "note"), rows)
        for one in found:
            for example in one.examples:
                screen.warn(f"{one.what}: {example}")
        for one in found:
            if not one.rows:
                screen.warn(f"{one.what}: nothing was compared ({one.note or 'nobody is there'})")
    if any(one.differences or not one.rows for one in found):
        raise click.exceptions.Exit(1)
