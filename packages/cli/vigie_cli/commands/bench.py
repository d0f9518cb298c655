"""`vigie bench`: measure a path beside its floor or a peer, in the same run."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from vigie_contracts.errors import NotFound

from vigie_cli.options import CHECKOUT


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def bench(name: str, as_json: bool) -> None:
    """Run the benchmark NAME (benchmarks/NAME.py of the checkout)."""
    run = load(name, CHECKOUT / "benchmarks")
    if as_json:
        import msgspec

        for row in run():
            click.echo(msgspec.json.encode(row).decode())
        return
    from vigie_cli.screen import Screen

    screen = Screen()
    with screen.waiting(f"Measuring {name}") as arrived:
        rows = []
        for row in run():
            rows.append(row)
            arrived(row["case"])
    screen.table(
        ("case", "value", "unit", "floor", "of the floor", "peer", "note"), [_cells(row) for row in rows], name
    )


def load(name: str, folder: Path) -> Callable[[], Iterator[dict[str, Any]]]:
    """The function `run` of a benchmark; NotFound lists what there is."""
    path = folder / f"{name}.py"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.py") if file.stem not in ("__init__", "floors")))
        raise NotFound(f"there is no benchmark {name!r} in {folder}; there are: {there or 'none'}")
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Callable[[], Iterator[dict[str, Any]]] = module.run
    return run


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    ratio = row.get("ratio_to_floor")
    peer = row.get("ratio_to_peer")
    return (
        row["case"],
        number(row["value"]),
        row["unit"],
        number(row.get("floor")),
        "" if ratio is None else f"{bar(ratio)} {ratio:.2f}",
        "" if peer is None else f"{peer:.2f} x {row.get('peer_name') or 'peer'}",
        row.get("note") or "",
    )


def bar(ratio: float, width: int = 20) -> str:
    """A bar of `width` cells for a ratio of one."""
    filled = min(round(ratio * width), width)
    return "█" * filled + "·" * (width - filled)


def number(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
