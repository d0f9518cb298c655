"""How a command finds the system that runs on a data directory."""

from dataclasses import dataclass
from pathlib import Path

from vigie_contracts.instants import Installation
from vigie_kit import installation
from vigie_kit.client import SyncServiceClient
from vigie_kit.clock import Clock

from vigie_cli import credentials, running
from vigie_cli.addresses import Addresses
from vigie_cli.credentials import Credentials


@dataclass(frozen=True)
class Connection:
    """A running system: where it listens, its keys, its feature repository and its clock."""

    data: Path
    feature_repo: Path
    addresses: Addresses
    credentials: Credentials
    installation: Installation

    @property
    def clock(self) -> Clock:
        """The business clock."""
        return Clock(self.installation.clock)

    def client(self, service: str) -> SyncServiceClient:
        """A client of one service's internal routes; the caller closes it."""
        return SyncServiceClient(getattr(self.addresses, service), self.credentials.service_token)


def connect(data: Path) -> Connection:
    """The system that runs on `data`; NotFound, with the command that starts it, when none does."""
    data = data.resolve()
    found = running.find(data)
    return Connection(
        data=data,
        feature_repo=Path(found.feature_repo),
        addresses=found.addresses,
        credentials=credentials.load(data),
        installation=installation.load(data),
    )
