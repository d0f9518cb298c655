"""`vigie status`: what runs, how far each log was read, and what is wrong."""

from pathlib import Path
from typing import Any

import click
import msgspec
from vigie_contracts.errors import VigieError

from vigie_cli import credentials, running
from vigie_cli.addresses import Addresses, ports
from vigie_cli.child import problem
from vigie_cli.options import data_option
from vigie_cli.programs import SERVICES, Program
from vigie_cli.running import Running


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(data: Path, as_json: bool) -> None:
    """Show each process with its offsets and lag. Exit code 1 when a part is not ready."""
    found = running.find(data.resolve())
    rows = collect(found, credentials.load(data).service_token)
    if as_json:
        click.echo(msgspec.json.encode({"pid": found.pid, "started_at": found.started_at, "services": rows}).decode())
    else:
        _show(found, rows)
    if not all(row["ready"] for row in rows):
        raise click.exceptions.Exit(1)


def collect(found: Running, token: str) -> list[dict[str, Any]]:
    """One row a process: name, address, ready, and what its status route says."""
    rows = [_row(name, found.addresses, found.port_base, token) for name in SERVICES]
    return [*rows, _mlflow(found)]


def _row(name: str, where: Addresses, base: int, token: str) -> dict[str, Any]:
    from vigie_kit.client import SyncServiceClient

    url: str = getattr(where, name)
    unready = problem(Program(name, (), ports(base)[name], {}))
    row: dict[str, Any] = {"name": name, "address": url, "ready": unready is None}
    client = SyncServiceClient(url, token)
    try:
        told = client.get("/internal/status", dict[str, Any])
    except VigieError as error:
        told = {"offsets": {}, "lag": {}, "problems": [error.message]}
    finally:
        client.close()
    problems = [*([] if unready is None else [unready]), *told.get("problems", [])]
    return {**{key: value for key, value in told.items() if key != "service"}, **row, "problems": problems}


def _mlflow(found: Running) -> dict[str, Any]:
    unready = problem(Program("mlflow", (), ports(found.port_base)["mlflow"], {}, ready_path="/health"))
    problems = [] if unready is None else [unready]
    return {"name": "mlflow", "address": found.addresses.mlflow, "ready": unready is None, "problems": problems}


def _show(found: Running, rows: list[dict[str, Any]]) -> None:
    from vigie_cli.screen import Screen

    cells = [
        (
            row["name"],
            row["address"],
            "ready" if row["ready"] else "not ready",
            _pairs(row.get("offsets", {})),
            _pairs(row.get("lag", {})),
            "; ".join(map(str, row.get("problems", []))) or "none",
        )
        for row in rows
    ]
    title = f"Vigie, process {found.pid}, since {found.started_at}"
    Screen().table(("part", "address", "state", "offsets", "lag", "problems"), cells, title=title)


def _pairs(value: Any) -> str:
    """`events 120, changes 7`: a mapping of names to numbers or to lanes, in words."""
    if isinstance(value, dict):
        if set(value) == {"0"}:
            return str(value["0"])
        return ", ".join(f"{key} {_pairs(inner)}" for key, inner in value.items())
    return f"{value:.1f}" if isinstance(value, float) else str(value)
