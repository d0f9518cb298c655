"""Sends the simulated bank through the running system, with progress shown."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from vigie_contracts.instants import DAY_US
from vigie_simulator.stream import FILE, Sent, Simulation, begin, send_history, send_live

from vigie_cli.connection import Connection
from vigie_cli.screen import Screen


@dataclass(frozen=True)
class Bank:
    """Which simulated bank."""

    seed: int
    customers: int
    days: int
    activity: float = 1.0


def bank_of(data: Path, *, seed: int | None, customers: int | None, days: int, default: Bank) -> Bank:
    """The bank that was asked for; what was not asked for is as the data directory has it, else as in `default`."""
    path = data / FILE
    found = msgspec.json.decode(path.read_bytes(), type=Simulation) if path.exists() else default
    return Bank(
        seed=found.seed if seed is None else seed,
        customers=found.customers if customers is None else customers,
        days=days,
        activity=found.activity,
    )


def simulation(connection: Connection, bank: Bank) -> Simulation:
    """The data directory's simulation; Conflict when it holds another bank."""
    return begin(
        connection.data,
        seed=bank.seed,
        customers=bank.customers,
        days=bank.days,
        activity=bank.activity,
        now_us=connection.clock.now_us(),
    )


def history(connection: Connection, bank: Bank, screen: Screen) -> Sent:
    """Import what the bank did until now and was not sent yet. A second run continues."""
    made = simulation(connection, bank)
    until_us = connection.clock.now_us()
    client = connection.client("ingest")
    try:
        with _progress(screen) as progress:
            total = (until_us - made.start_us) / DAY_US
            task = progress.add_task(f"{made.customers} simulated customers", total=total, records=0)

            def show(records: int, reached_us: int) -> None:
                progress.update(task, completed=max((reached_us - made.start_us) / DAY_US, 0), records=records)

            sent = send_history(made, connection.data, client, until_us=until_us, progress=show)
            progress.update(task, completed=total)
    finally:
        client.close()
    screen.say(f"Sent: {sent.accepted} records accepted, {sent.duplicates} known already, {sent.refused} refused.")
    return sent


def stream(connection: Connection, bank: Bank, screen: Screen, stopping: Event | None = None) -> int:
    """Send each act when the business clock reaches it, until `stopping` is set; answers how many."""
    made = simulation(connection, bank)
    ending = stopping or Event()
    with screen.waiting("0 events sent") as arrived:
        return send_live(
            made,
            connection.data,
            ingest_url=connection.addresses.ingest,
            write_key=connection.credentials.write_key,
            clock=connection.clock,
            stopping=ending.is_set,
            progress=lambda sent: arrived.show(f"{sent} events sent"),
        )


def _progress(screen: Screen) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[records]} records"))
    return Progress(*columns, TimeRemainingColumn(), console=screen.console)
