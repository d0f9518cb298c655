"""`vigie segments`: who is in which segment and since when; previewing, defining and retiring one; migrations."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from vigie_cli.options import data_option, feature_repo_option, resolve_feature_repo

if TYPE_CHECKING:
    from vigie_contracts.reads import SegmentRow
    from vigie_contracts.segmentation import MigrationAnswer, PreviewAnswer

    from vigie_cli.screen import Screen
    from vigie_cli.segmenting import Segmenting

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
_limit = click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
NONE = "(none)"


@click.group()
def segments() -> None:
    """Segments: rules that customers enter and leave. The language is described in docs/segments.md."""


@segments.command("list")
@data_option
@as_json
def list_(data: Path, as_json: bool) -> None:
    """Show all segments with their sizes."""
    screen, found = _screen(), _segmenting(data).all()
    if as_json:
        _print(found)
        return
    rows = [
        (row.key, row.family, str(row.version), f"{row.size:,}{' …' if row.evaluating else ''}", row.definition)
        for row in found
    ]
    screen.table(("segment", "family", "version", "size", "definition"), rows, f"{len(rows)} segments")
    if any(row.evaluating for row in found):
        screen.say("…: everybody is being looked at, the size still moves")


@segments.command()
@data_option
@click.argument("key")
@click.option("--after", help="Members after this customer id.")
@_limit
@as_json
def show(data: Path, key: str, after: str | None, limit: int, as_json: bool) -> None:
    """Show a segment: its versions, and its members with since when."""
    system = _segmenting(data)
    row = system.one(key)
    members = system.members(row, after, limit)
    if as_json:
        _print({"segment": row, "members": members})
        return
    _show(_screen(), row)
    names = system.names([member.customer_id for member in members])
    _screen().table(
        ("customer", "known as", "since", "version"),
        [
            (one.customer_id, names.get(one.customer_id, ""), _when(one.since_us), str(one.version or ""))
            for one in members
        ],
        f"{row.size:,} members",
    )


@segments.command()
@feature_repo_option
@click.argument("definition")
@as_json
def check(feature_repo: Path | None, definition: str, as_json: bool) -> None:
    """Check a DEFINITION against the declared features and print it in canonical text (--json: as a tree)."""
    from vigie_contracts.features import FeatureTable
    from vigie_contracts.scores import ChurnDefinition
    from vigie_contracts.segments import (
        Vocabulary,
        compile_predicate,
        encode_tree,
        format_predicate,
        parse,
        read_definition,
    )

    where, text = resolve_feature_repo(feature_repo), read_definition(definition)
    churn = [one.key for one in ChurnDefinition.load_all(where)]
    compile_predicate(text, Vocabulary(FeatureTable.load(where), churn))
    click.echo(encode_tree(parse(text)) if as_json else format_predicate(parse(text)))


@segments.command()
@data_option
@click.argument("definition")
@click.option("--after", help="Customers after this id.")
@_limit
@as_json
def preview(data: Path, definition: str, after: str | None, limit: int, as_json: bool) -> None:
    """Show whom a DEFINITION would hold for now: how many, who, and which segments they are in. Saves nothing."""
    from vigie_contracts.segmentation import PreviewRequest

    system = _segmenting(data)
    found = system.preview(PreviewRequest(definition=definition, after=after, limit=limit))
    if as_json:
        _print(found)
    else:
        _show_preview(_screen(), found, system.names(found.customer_ids))


@segments.command()
@data_option
@click.argument("key")
@click.argument("definition")
@click.option("--name", required=True, help="Its name, in English.")
@click.option("--name-fr", help="Its name in French.")
@click.option("--family", help="As it is; a new segment is behavioural by default.")
@click.option("--because", help="Why one is in it, in words; by default the definition itself.")
@click.option("--expected-version", type=click.IntRange(0), help="Refuse when another version stands; 0: none.")
@as_json
def define(
    data: Path,
    key: str,
    definition: str,
    name: str,
    name_fr: str | None,
    family: str | None,
    because: str | None,
    expected_version: int | None,
    as_json: bool,
) -> None:
    """Make the segment KEY, or change it: another DEFINITION is a new version. Safe to repeat."""
    from vigie_contracts.segmentation import DefineRequest
    from vigie_contracts.segments import checked_family

    found = _segmenting(data).define(
        DefineRequest(
            key=key,
            name={"en": name, **({"fr": name_fr} if name_fr else {})},
            definition=definition,
            family=checked_family(family) if family else None,
            because={"en": because} if because else None,
            expected_version=expected_version,
        )
    )
    if as_json:
        _print(found)
    elif found.changed:
        click.echo(
            f"{key} stands at version {found.segment.version}; it holds for about {found.estimated_size:,} customers,"
            " who enter it now."
        )
    else:
        click.echo(f"{key} stood so already, at version {found.segment.version}.")


@segments.command()
@data_option
@click.argument("key")
def retire(data: Path, key: str) -> None:
    """Let everybody leave the segment KEY that was defined on the running system. Its history stays."""
    changed = _segmenting(data).retire(key).changed
    click.echo(f"{key} is retired; everybody leaves it." if changed else f"{key} was retired before.")


@segments.command()
@data_option
@click.argument("customer")
@click.option("--before", type=click.IntRange(1), help="Only records of a lower number.")
@_limit
@as_json
def history(data: Path, customer: str, before: int | None, limit: int, as_json: bool) -> None:
    """Show what a CUSTOMER (user id or customer id) entered and left, newest first."""
    row, moves = _segmenting(data).history(customer, before, limit)
    if as_json:
        _print(moves)
        return
    _screen().table(
        ("number", "at", "what", "segment", "version"),
        [
            (str(one.number), _when(one.at_us), "entered" if one.entered else "left", one.key, str(one.version))
            for one in moves
        ],
        f"Customer {row.customer_id}",
    )


@segments.command()
@data_option
@click.argument("family")
@click.option("--from", "since", required=True, metavar="INSTANT", help="2026-01-01T00:00:00Z")
@click.option("--to", "until", metavar="INSTANT", help="Default: now, by the business clock.")
@as_json
def migration(data: Path, family: str, since: str, until: str | None, as_json: bool) -> None:
    """Show how many went from which segment of FAMILY (rows) to which (columns) between two instants."""
    found = _segmenting(data).migration(family, since, until)
    if as_json:
        _print(found)
    else:
        _show_migration(_screen(), found)


def _show(screen: "Screen", row: "SegmentRow") -> None:
    screen.say(f"{row.key} ({row.family}): {row.name.get('en', row.key)}. {row.because.get('en', '')}")
    versions = [
        (str(one.version), _when(one.from_us), one.made_by, one.family, one.definition) for one in row.versions
    ] or [(str(row.version), "", "file", row.family, row.definition)]
    screen.table(("version", "since", "made by", "family", "definition"), versions)


def _show_preview(screen: "Screen", found: "PreviewAnswer", names: dict[str, str]) -> None:
    screen.say(found.definition or "(everybody)")
    screen.say(f"{found.size:,} of {found.examined:,} customers at {_when(found.t_us)}.")
    if not found.complete:
        screen.warn(
            f"Time was up: {found.population - found.examined:,} customers were not looked at. In proportion about"
            f" {found.estimated_size:,} of {found.population:,} are inside."
        )
    screen.table(("customer", "known as"), [(one, names.get(one, "")) for one in found.customer_ids], "Who")
    if found.has_next:
        screen.say(f"More: --after {found.customer_ids[-1]}")
    rows = [
        (row.key, f"{row.both:,}", f"{row.size:,}", f"{100 * row.both / found.size:.0f} %")
        for row in sorted(found.overlaps, key=lambda row: (-row.both, row.key))
        if row.both
    ]
    screen.table(("segment", "in both", "its size", "of these"), rows, "Overlap")


def _show_migration(screen: "Screen", found: "MigrationAnswer") -> None:
    keys: list[str | None] = [*found.keys, None]
    counts = {(cell.from_key, cell.to_key): cell.customers for cell in found.cells}
    rows = [
        (start or NONE, *(f"{counts[start, end]:,}" if (start, end) in counts else "" for end in keys))
        for start in keys
        if any((start, end) in counts for end in keys)
    ]
    screen.table(
        ("from \\ to", *(key or NONE for key in keys)),
        rows,
        f"{found.family}: {_when(found.from_us)} to {_when(found.to_us)}",
    )


def _segmenting(data: Path) -> "Segmenting":
    from vigie_cli.connection import connect
    from vigie_cli.segmenting import Segmenting

    return Segmenting(connect(data))


def _screen() -> "Screen":
    from vigie_cli.screen import Screen

    return Screen()


def _when(micros: int) -> str:
    from vigie_contracts.instants import format_instant

    return format_instant(micros)


def _print(found: Any) -> None:
    click.echo(msgspec.json.encode(found))
