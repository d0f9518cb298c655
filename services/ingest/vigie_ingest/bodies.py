"""Request bodies and write keys: size-limited, decompressed, whatever content type the sender claims."""

import base64
import binascii
import hashlib
import time
import zlib
from collections.abc import Callable, Mapping

from starlette.requests import Request
from vigie_contracts.errors import InvalidInput, Unauthorized, VigieError

MOST_GZIP_MEMBERS = 64
ROOM = "vigie.room"
"""Where a request's scope has what it holds of the queue (`admission.Room`)."""


class BodyTooLarge(VigieError):
    """A body over the limit, before or after decompression; sending it again will not help."""

    code = "BODY_TOO_LARGE"


async def read_body(request: Request, limit: int) -> bytes:
    """The body, decompressed when it is gzip. BodyTooLarge over `limit` bytes, InvalidInput for broken gzip."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes; send smaller batches")
        chunks.append(chunk)
    body = b"".join(chunks)
    encodings = _encodings(request.headers.get("content-encoding", ""))
    if not encodings:
        return body
    if encodings not in (["gzip"], ["x-gzip"]):
        raise InvalidInput(f"the content encoding {', '.join(encodings)!r} is not understood; use gzip or none")
    unpacked = _gunzip(body, limit)
    if ROOM in request.scope:
        request.scope[ROOM].grow(len(unpacked))
    return unpacked


def _system_us() -> int:
    return time.time_ns() // 1_000


class KeyRing:
    """Hashes of write keys and the sources that they belong to."""

    def __init__(self, sources: Mapping[str, str], now_us: Callable[[], int] = _system_us) -> None:
        self._now_us = now_us
        self.replace({hashed(key): (source_id, None) for key, source_id in sources.items()})

    def replace(self, keys: Mapping[bytes, tuple[str, int | None]]) -> None:
        """Hash of a key -> (source id, until when it counts in microseconds of system time, null for ever)."""
        self._keys = dict(keys)

    def source_of(self, headers: Mapping[str, str], query: Mapping[str, str], stated: str | None) -> str:
        """Source of a call by its key; Unauthorized without a known one.

        From its head (see `source_of_head`), else the one stated in the body (Bearer or not).
        """
        source = self.source_of_head(headers, query) or self.source_of_key(stated)
        if source is None:
            raise Unauthorized("the write key is missing or unknown; check the key of this source")
        return source

    def source_of_head(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """What is known before the body is read: from Basic, the header `X-Write-Key`, the query's `writekey`."""
        for key in (
            basic_user(headers.get("authorization")),
            headers.get("x-write-key"),
            query.get("writekey"),
            query.get("writeKey"),
        ):
            source = self.source_of_key(key)
            if source is not None:
                return source
        return None

    def source_of_key(self, key: str | None) -> str | None:
        """Source of a bare key; None when it is unknown or has expired."""
        found = self._keys.get(hashed(key)) if key else None
        if found is None or (found[1] is not None and found[1] <= self._now_us()):
            return None
        return found[0]


def hashed(key: str) -> bytes:
    """As what a write key is kept."""
    return hashlib.sha256(key.encode()).digest()


def basic_user(authorization: str | None) -> str | None:
    """The user of a Basic header (Segment's SDKs send `KEY:`), or None."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return None
    try:
        text = base64.b64decode(authorization[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text.partition(":")[0]


def _encodings(header: str) -> list[str]:
    """What a body was packed by, first to last."""
    found = (name.strip().lower() for name in header.split(","))
    return [name for name in found if name not in ("", "identity")]


def _gunzip(body: bytes, limit: int) -> bytes:
    """The members of a gzip stream (RFC 1952), one after the other; zeros may follow the last, as padding."""
    found: list[bytes] = []
    room, rest = limit, body
    while rest or not found:
        if len(found) == MOST_GZIP_MEMBERS:
            raise InvalidInput(f"the gzip body has more than {MOST_GZIP_MEMBERS} members; pack it as one")
        inflater = zlib.decompressobj(wbits=31)
        try:
            found.append(inflater.decompress(rest, room + 1))
        except zlib.error as error:
            raise InvalidInput("the body is no valid gzip") from error
        room -= len(found[-1])
        if room < 0:
            raise BodyTooLarge(f"the body is larger than {limit} bytes when decompressed; send smaller batches")
        if not inflater.eof:
            raise InvalidInput("the gzip body ends too early")
        rest = inflater.unused_data.lstrip(b"\0")
    return b"".join(found)
