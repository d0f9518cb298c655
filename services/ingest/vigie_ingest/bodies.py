"""Request bodies and write keys: size-limited, decompressed, whatever content type the sender claims."""

import base64
import binascii
import zlib
from collections.abc import Mapping

from starlette.requests import Request
from vigie_contracts.errors import InvalidInput, Unauthorized, VigieError

from vigie_ingest.messages import write_key_of


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
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding in ("gzip", "x-gzip"):
        return _gunzip(body, limit)
    if encoding != "identity":
        raise InvalidInput(f"the content encoding {encoding!r} is not understood; use gzip or none")
    return body


class KeyRing:
    """Write keys and the sources that they belong to."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)

    def source_of(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str:
        """Source of a call by its key; Unauthorized without a known one.

        From Basic, the header `X-Write-Key`, the query's `writekey`, else the body's `writeKey` (Bearer or not).
        """
        for key in (
            basic_user(headers.get("authorization")),
            headers.get("x-write-key"),
            query.get("writekey"),
            query.get("writeKey"),
        ):
            source = self._sources.get(key) if key else None
            if source is not None:
                return source
        source = self._sources.get(write_key_of(body) or "")
        if source is None:
            raise Unauthorized("the write key is missing or unknown; check the key of this source")
        return source

    def source_of_key(self, key: str | None) -> str | None:
        """Source of a bare key."""
        return self._sources.get(key) if key else None


def basic_user(authorization: str | None) -> str | None:
    """The user of a Basic header (Segment's SDKs send `KEY:`), or None."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return None
    try:
        text = base64.b64decode(authorization[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text.partition(":")[0]


def _gunzip(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput("the body is no valid gzip") from error
    if len(found) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes when decompressed; send smaller batches")
    if not inflater.eof:
        raise InvalidInput("the gzip body ends too early")
    return found
