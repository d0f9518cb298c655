"""Cursors: opaque, bound to their list and signed: a client can neither read a meaning into one nor make one."""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
from vigie_contracts.errors import InvalidInput

MAC_BYTES = 12


class Cursors:
    """Signs and reads cursors with a key derived from a secret that all gateways of an installation share."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"vigie cursor " + secret.encode()).digest()

    def write(self, kind: str, value: Any) -> str:
        """A cursor of `kind` that holds a JSON value."""
        body = msgspec.json.encode([kind, value])
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def read(self, kind: str, cursor: str) -> Any:
        """The value of a cursor; InvalidInput for one that was made elsewhere or for something else."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError as error:
            raise InvalidInput("this is no cursor of this graph") from error
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise InvalidInput("this cursor was not made by this installation")
        found, value = msgspec.json.decode(body)
        if found != kind:
            raise InvalidInput(f"this cursor belongs to another list ({found})")
        return value

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:MAC_BYTES]
