"""`installation.json`: what is fixed once for a data directory, and the refusal of a newer format."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from vigie_contracts.errors import IncompatibleData, InvalidInput, NotFound
from vigie_contracts.instants import ClockSetting, Installation

from vigie_kit.files import replace_file

FORMAT = 1
FILE = "installation.json"


def load(data: Path) -> Installation:
    """Read the installation; NotFound when there is none, IncompatibleData when a newer Vigie wrote it."""
    path = data / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Installation)
    except FileNotFoundError as error:
        raise NotFound(f"{data} holds no Vigie installation; `vigie up --data {data}` makes one") from error
    except msgspec.DecodeError as error:
        raise IncompatibleData(f"{path} is damaged: {error}") from error
    if found.format > FORMAT:
        raise IncompatibleData(f"{path} has format {found.format}; this Vigie reads up to {FORMAT}. Upgrade Vigie.")
    return found


def create(data: Path, *, time_zone: str = "UTC", clock: ClockSetting | None = None) -> Installation:
    """Write a new installation; InvalidInput for an unknown time zone."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput(f"{time_zone!r} is no time zone; use a name such as Europe/Paris") from error
    made = Installation(
        format=FORMAT, time_zone=time_zone, clock=clock or ClockSetting(), created_at=datetime.now(UTC).isoformat()
    )
    data.mkdir(parents=True, exist_ok=True)
    replace_file(data / FILE, msgspec.json.format(msgspec.json.encode(made)))
    return made
