"""Who may come in: one API token for servers, refused from web pages of other origins."""

import hmac

from starlette.requests import HTTPConnection
from vigie_contracts.errors import Forbidden, Unauthorized


class Access:
    """Checks the token and the origin of a connection.

    A browser always names the page's origin. The gateway's own pages (Origin equals Host) and configured origins may
    call; any other page may not, even with the right token: API tokens are for servers.
    """

    def __init__(self, token: str, allowed_origins: tuple[str, ...]) -> None:
        self._token = token.encode()
        self._allowed = allowed_origins

    def check_origin(self, connection: HTTPConnection) -> None:
        """Forbidden for a page of another origin."""
        origin = connection.headers.get("origin")
        if origin is None or origin in self._allowed:
            return
        if origin.split("://", 1)[-1] != connection.headers.get("host"):
            raise Forbidden(
                "an API token may not be used by a web page of another origin; ask the operator to allow it"
            )

    def check_token(self, authorization: str | None) -> None:
        """Unauthorized unless `Bearer TOKEN` holds the token; compared in constant time."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise Unauthorized("send the API token as `Authorization: Bearer …` (`vigie up` prints it)")
