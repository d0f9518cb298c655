"""Segment's tracking API: its calls on every path that an official SDK uses, and the settings that SDKs ask for.

A call is answered `200 {"success":true}` after the synced commit, an unreadable body or a wrong key with
`{"code","message"}`: Segment's SDKs send again on anything else. One bad event never spoils its batch.
"""

from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from vigie_contracts.errors import NotFound, VigieError
from vigie_kit.clock import Clock
from vigie_kit.logs import get

from vigie_ingest.admission import Admission
from vigie_ingest.answers import Acknowledged, refused
from vigie_ingest.bodies import KeyRing, read_body
from vigie_ingest.messages import Normaliser, read

CALLS = {
    "track": "track", "t": "track", "identify": "identify", "i": "identify", "page": "page", "p": "page",
    "screen": "screen", "s": "screen", "group": "group", "g": "group", "alias": "alias", "a": "alias",
}  # fmt: skip
BATCHES = ("batch", "b", "import")
"""`import` is where analytics-java sends."""
BROWSERS = Middleware(
    CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "POST"], allow_headers=["*"], max_age=86_400
)
"""Any page may send, as it may to Segment: the write key says for which source. No cookie is ever looked at."""

_NO_QUERY: dict[str, str] = {}
_DEFAULT_PLAN = {"__default": {"enabled": True, "integrations": {}}}


class Tracking:
    """The calls. `public_url`: the address that SDKs are told to send to, "" for the one under which they asked."""

    def __init__(
        self,
        keys: KeyRing,
        normaliser: Normaliser,
        admission: Admission,
        clock: Clock,
        body_limit: int,
        public_url: str,
    ) -> None:
        self._keys = keys
        self._normaliser = normaliser
        self._admission = admission
        self._clock = clock
        self._body_limit = body_limit
        self._public_url = public_url

    def routes(self) -> list[Route]:
        """With and without `/v1`, with and without a slash at the end (a redirected POST is a lost one)."""
        ends = {**dict.fromkeys(BATCHES, self.batch), **dict.fromkeys(CALLS, self.call), "m": self.own_metrics}
        calls = [
            Route(f"{prefix}/{name}{slash}", endpoint, methods=["POST", "OPTIONS"], middleware=[BROWSERS])
            for slash in ("", "/")
            for prefix in ("/v1", "")
            for name, endpoint in ends.items()
        ]
        settings = [
            Route(
                path,
                self.settings,
                methods=["GET", "OPTIONS"],
                middleware=[BROWSERS],
            )
            for path in ("/v1/projects/{write_key}/settings", "/projects/{write_key}/settings")
        ]
        return [*calls, *settings]

    async def batch(self, request: Request) -> Response:
        """Many messages in one transaction."""
        return await self._accept(request, None)

    async def call(self, request: Request) -> Response:
        """One message; the path says which."""
        return await self._accept(request, CALLS[request.scope["path"].rstrip("/").rpartition("/")[2]])

    async def own_metrics(self, request: Request) -> Response:
        """What a browser SDK tells of itself, no event of anybody: not kept. Our settings switch it off."""
        await read_body(request, self._body_limit)
        return Acknowledged()

    async def settings(self, request: Request) -> Response:
        """What browser and mobile SDKs ask for before they send: one destination, ourselves, and no plan."""
        key = request.path_params["write_key"]
        if self._keys.source_of_key(key) is None:
            return refused(NotFound("no source has this write key"))
        address = self._public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
        return JSONResponse(settings_of(key, address))

    async def _accept(self, request: Request, kind: str | None) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "POST, OPTIONS"})
        try:
            body = await read_body(request, self._body_limit)
            call = read(body, kind)
            query = request.query_params if request.scope["query_string"] else _NO_QUERY
            source_id = self._keys.source_of(request.headers, query, call.write_key)
            items = self._normaliser.items(call, source_id, self._clock.now_us())
            await self._admission.submit(request, source_id, items)
            return Acknowledged()
        except VigieError as error:
            return refused(error)
        except ClientDisconnect:
            raise
        except Exception:  # the edge: logged, and answered in the shape that the SDKs understand
            get(__name__).exception("a tracking call failed")
            return refused(VigieError("an unexpected error; the log of the service tells more"))


def settings_of(write_key: str, address: str) -> dict[str, Any]:
    """The settings document: `apiHost` without scheme, as SDKs expect it, and `protocol` for those that ask."""
    scheme, _, host = address.partition("://")
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": f"{host}/v1",
                "protocol": scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "maybeBundledConfigIds": {},
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
            }
        },
        "plan": {"track": _DEFAULT_PLAN, "identify": _DEFAULT_PLAN, "group": _DEFAULT_PLAN},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
