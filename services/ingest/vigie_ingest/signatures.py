"""Whether a webhook comes from its vendor: HubSpot's signatures, Marketing Cloud's, and shared tokens. Pure.

The secrets are the source's; several at a time let them be rotated. Comparisons take constant time.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from vigie_contracts.errors import Unauthorized

HUBSPOT_TOLERANCE_MS = 300_000
_DECODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def check_hubspot(
    secrets: Iterable[str], headers: Mapping[str, str], method: str, uri: str, body: bytes, now_ms: int
) -> None:
    """HubSpot's v3 signature, or v2 when there is no v3 (workflows). Unauthorized when it does not hold.

    v3: base64 HMAC-SHA256 of method + URI + body + timestamp, the URI with `:/?@!$'()*,;` decoded, at most five minutes
    old. v2: hex SHA-256 of secret + method + URI + body.
    """
    given = headers.get("x-hubspot-signature-v3")
    if given is None:
        return _check_hubspot_v2(secrets, headers, method, uri, body)
    stamp = headers.get("x-hubspot-request-timestamp", "")
    if not (stamp.isascii() and stamp.isdecimal()) or abs(now_ms - int(stamp[:18])) > HUBSPOT_TOLERANCE_MS:
        raise Unauthorized("X-HubSpot-Request-Timestamp is missing or more than five minutes away; check the clock")
    decoded = _DECODED.sub(lambda match: unquote(match.group()), uri)
    signed = f"{method}{decoded}".encode() + body + stamp.encode()
    if not _any(given, (_base64(secret, signed) for secret in secrets)):
        raise Unauthorized(
            "X-HubSpot-Signature-v3 does not hold; check the app's client secret and VIGIE_INGEST_PUBLIC_URL"
        )


def _check_hubspot_v2(secrets: Iterable[str], headers: Mapping[str, str], method: str, uri: str, body: bytes) -> None:
    given = headers.get("x-hubspot-signature", "")
    if headers.get("x-hubspot-signature-version") != "v2":
        raise Unauthorized("the request has neither X-HubSpot-Signature-v3 nor a signature of version v2")
    signed = f"{method}{uri}".encode() + body
    if not _any(given, (hashlib.sha256(secret.encode() + signed).hexdigest() for secret in secrets)):
        raise Unauthorized(
            "X-HubSpot-Signature does not hold; check the app's client secret and VIGIE_INGEST_PUBLIC_URL"
        )


def check_marketing_cloud(secrets: Iterable[str], given: str, body: bytes) -> None:
    """Marketing Cloud's `x-sfmc-ens-signature`: base64 HMAC-SHA256 of the body. Unauthorized when it does not hold."""
    if not _any(given, (_base64(secret, body) for secret in secrets)):
        raise Unauthorized("x-sfmc-ens-signature does not hold; check the callback's signature key")


def check_token(secrets: Iterable[str], given: Iterable[str | None], where: str) -> None:
    """A token that the sender was given. Unauthorized unless one of `given` is one of the secrets."""
    expected = list(secrets)
    if not any(_any(token, expected) for token in given if token):
        raise Unauthorized(f"the token is missing or wrong; give the source's secret {where}")


def _any(given: str, expected: Iterable[str]) -> bool:
    return any([hmac.compare_digest(given.encode(), one.encode()) for one in expected])


def _base64(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
