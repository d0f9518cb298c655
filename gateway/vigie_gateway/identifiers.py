"""Global ids of the graph: `Type:local id` in base64, as Relay has it. An id's content never authorises anything."""

import base64
import binascii

from strawberry import ID
from vigie_contracts.errors import InvalidInput


def to_global(type_name: str, local: str) -> ID:
    """The global id of an object."""
    return ID(base64.urlsafe_b64encode(f"{type_name}:{local}".encode()).decode())


def from_global(identifier: str) -> tuple[str, str]:
    """(type, local id) of a global id; InvalidInput when it is none."""
    try:
        type_name, found, local = base64.urlsafe_b64decode(identifier.encode()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{identifier!r} is no id of this graph") from error
    if not found or not local:
        raise InvalidInput(f"{identifier!r} is no id of this graph")
    return type_name, local


def local_id(identifier: str, type_name: str) -> str:
    """The local id of an id that must be of `type_name`; InvalidInput otherwise."""
    found, local = from_global(identifier)
    if found != type_name:
        raise InvalidInput(f"an id of {type_name} is needed, not of {found}")
    return local
