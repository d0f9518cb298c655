"""Waiting until a service has done what it has been given, with how far it is shown."""

import time
from collections.abc import Callable
from typing import Any

from vigie_contracts.errors import Unavailable

from vigie_cli.connection import Connection
from vigie_cli.screen import Screen

POLL_SECONDS = 0.3
STALLED_SECONDS = 300.0

Status = dict[str, Any]


def await_status(
    connection: Connection, screen: Screen, service: str, what: str, done: Callable[[Status], bool]
) -> None:
    """Poll a service's status until `done`; Unavailable with its problems when it stands still for STALLED_SECONDS."""
    client = connection.client(service)
    began = moved = time.monotonic()
    before: object = None
    try:
        with screen.waiting(what) as arrived:
            while not done(status := client.get("/internal/status", Status)):
                arrived.show(f"{what}: {_lag(status)}")
                if (now := (status["offsets"], status["counts"])) != before:
                    before, moved = now, time.monotonic()
                elif time.monotonic() > moved + STALLED_SECONDS:
                    raise Unavailable(f"{service} has not moved for {STALLED_SECONDS:.0f} s: {_lag(status)}")
                time.sleep(POLL_SECONDS)
    finally:
        client.close()
    screen.say(f"{what}: done in {time.monotonic() - began:.1f} s.")


def await_archive(connection: Connection, screen: Screen) -> None:
    """Until the archive holds all that the log held when this began, so that training misses nothing of it."""
    client = connection.client("features")
    try:
        end = client.get("/internal/status", Status)["offsets"]["log_end"]
    finally:
        client.close()
    await_status(connection, screen, "features", "Archiving what has arrived", lambda status: is_archived(status, end))


def is_archived(status: Status, end: dict[str, int]) -> bool:
    """Whether the archive of a features status reaches a log's end, by lane."""
    return all(status["offsets"]["archive"].get(lane, 0) >= number for lane, number in end.items())


def _lag(status: Status) -> str:
    behind = ", ".join(f"{name} {value:g}" for name, value in status["lag"].items() if value)
    return "; ".join([behind or "nothing behind", *map(str, status.get("problems", []))])
