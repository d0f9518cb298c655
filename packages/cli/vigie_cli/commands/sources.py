"""`vigie sources`: who may send events, with which keys, from which pages, and how much."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from vigie_cli.options import data_option

if TYPE_CHECKING:
    from vigie_contracts.sources import NewKey, SourceRow

_json = click.option("--json", "as_json", is_flag=True, help="JSON.")
_origins = click.option("--origin", "origins", multiple=True, help="A page's origin that may send; repeat for more.")
_rate = click.option("--rate", type=click.IntRange(min=1), help="Events a second; bursts of ten seconds' worth.")
_source = click.argument("source")


@click.group()
def sources() -> None:
    """Sources of events and their write keys."""


@sources.command("list")
@data_option
@_json
def list_(data: Path, as_json: bool) -> None:
    """List sources with their limits and the ends of their keys."""
    from vigie_cli import connection
    from vigie_cli.screen import Screen
    from vigie_cli.sources import rows

    found = rows(connection.connect(data))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    heads = ("source", "state", "origins", "events/s", "weight", "keys")
    Screen().table(heads, [_row(row) for row in found], title="Sources")


@sources.command()
@data_option
@_source
@_origins
@_rate
@click.option("--weight", type=click.IntRange(1, 100), default=1, show_default=True, help="Share of the queue.")
@_json
def create(data: Path, source: str, origins: tuple[str, ...], rate: int | None, weight: int, as_json: bool) -> None:
    """Create a SOURCE and show its write key, this once."""
    from vigie_contracts.sources import SourceCreate

    from vigie_cli import connection
    from vigie_cli.sources import created

    asked = SourceCreate(source_id=source, origins=list(origins), events_per_second=rate, weight=weight)
    _tell(created(connection.connect(data), asked), as_json)


@sources.command()
@data_option
@_source
@_origins
@click.option("--any-origin", is_flag=True, help="Pages of any origin may send.")
@_rate
@click.option("--no-rate", is_flag=True, help="No rate of its own.")
@click.option("--weight", type=click.IntRange(1, 100), help="Share of the queue.")
def update(
    data: Path,
    source: str,
    origins: tuple[str, ...],
    any_origin: bool,
    rate: int | None,
    no_rate: bool,
    weight: int | None,
) -> None:
    """Change the origins and limits of a SOURCE; what is not named stays."""
    from vigie_contracts.sources import SourceUpdate

    from vigie_cli import connection
    from vigie_cli.sources import updated

    if (any_origin and origins) or (no_rate and rate):
        raise click.UsageError("--any-origin and --origin, --no-rate and --rate exclude each other.")
    asked = SourceUpdate(
        source_id=source,
        origins=list(origins) if origins or any_origin else msgspec.UNSET,
        events_per_second=rate if rate or no_rate else msgspec.UNSET,
        weight=msgspec.UNSET if weight is None else weight,
    )
    click.echo("  ".join(_row(updated(connection.connect(data), asked))))


@sources.command()
@data_option
@_source
@click.option("--overlap", default="24h", show_default=True, help="How long the old keys still count: 0, 30m, 24h, 7d.")
@_json
def rotate(data: Path, source: str, overlap: str, as_json: bool) -> None:
    """Give a SOURCE a new write key, shown this once; those before it end after the overlap."""
    from vigie_cli import connection
    from vigie_cli.sources import rotated, seconds_of

    seconds = seconds_of(overlap)
    _tell(rotated(connection.connect(data), source, seconds), as_json)
    if not as_json:
        click.echo(f"Keys that it had before count for {_duration(seconds)} more, then not at all.")


@sources.command()
@data_option
@_source
def disable(data: Path, source: str) -> None:
    """Let a SOURCE send nothing any more (403), whatever its key."""
    from vigie_cli import connection
    from vigie_cli.sources import switched

    switched(connection.connect(data), source, disabled=True)
    click.echo(f"{source} is disabled. `vigie sources enable {source}` takes it back.")


@sources.command()
@data_option
@_source
def enable(data: Path, source: str) -> None:
    """Let a disabled SOURCE send again."""
    from vigie_cli import connection
    from vigie_cli.sources import switched

    switched(connection.connect(data), source, disabled=False)
    click.echo(f"{source} is enabled.")


def _tell(made: "NewKey", as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(made))
    else:
        click.echo(f"{made.source.source_id}: {made.write_key}\nKeep it now: Vigie has only its hash.")


def _row(row: "SourceRow") -> tuple[str, ...]:
    keys = [f"{key.hint} {_end(key.expires_at, key.expired)}" for key in row.keys]
    return (
        row.source_id,
        f"disabled {row.disabled_at}" if row.disabled_at else "enabled",
        ", ".join(row.origins) or "any",
        "no limit" if row.events_per_second is None else str(row.events_per_second),
        str(row.weight),
        "\n".join(keys) or "none",
    )


def _end(expires_at: str | None, expired: bool) -> str:
    if expires_at is None:
        return "counts"
    return "ended" if expired else f"counts until {expires_at}"


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
