"""Which process listens where: five ports in a row from a base."""

import socket

import msgspec
from vigie_contracts.errors import Conflict

HOST = "127.0.0.1"
DEFAULT_BASE = 8700
NAMES = ("gateway", "ingest", "features", "scoring", "mlflow")


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs."""

    gateway: str
    ingest: str
    features: str
    scoring: str
    mlflow: str


def ports(base: int) -> dict[str, int]:
    """Name -> port."""
    return {name: base + offset for offset, name in enumerate(NAMES)}


def addresses(base: int) -> Addresses:
    """The URLs of a port base."""
    return Addresses(**{name: f"http://{HOST}:{port}" for name, port in ports(base).items()})


def is_free(port: int) -> bool:
    """Whether we could listen on a port of this machine now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def busy_ports(base: int) -> list[str]:
    """A phrase for each port that somebody else has, such as `8701 (ingest)`."""
    return [f"{port} ({name})" for name, port in ports(base).items() if not is_free(port)]


def require_free(base: int) -> None:
    """Conflict, naming the busy ports and the flag that changes them."""
    busy = busy_ports(base)
    if busy:
        plural = "s are" if len(busy) > 1 else " is"
        raise Conflict(
            f"port{plural} in use by another program: {', '.join(busy)}. Choose another base with --port-base N "
            f"(Vigie takes the {len(NAMES)} ports from N on)."
        )
