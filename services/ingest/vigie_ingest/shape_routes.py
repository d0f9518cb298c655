"""HTTP routes of the shapes that are not Segment's: key or signature, envelopes, the answer each expects."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from vigie_contracts.errors import HTTP_STATUS, Forbidden, Unauthorized, VigieError
from vigie_kit.clock import Clock
from vigie_kit.logs import get

from vigie_ingest import signatures
from vigie_ingest.admission import Admission
from vigie_ingest.answers import refused, retry_after
from vigie_ingest.appender import Item
from vigie_ingest.bodies import BodyTooLarge, KeyRing, basic_user, read_body
from vigie_ingest.domain import Refusal
from vigie_ingest.messages import Normaliser
from vigie_ingest.settings import Settings
from vigie_ingest.shapes import cloudevents, hubspot, mparticle, salesforce, tealium, zoho
from vigie_ingest.shapes.envelope import Envelope, Items, Origin, Rejected, plain

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
_TEALIUM = ("/event", "/v3/collect/event", "/v3/collect/regional/event")
_TEALIUM_BULK = ("/bulk-event", "/v3/collect/bulk-event", "/v3/collect/regional/bulk-event")
_TEALIUM_SOURCES = (
    "/integration/event/{account}/{profile}/{datasource}",
    "/v3/collect/integration/event/accounts/{account}/profiles/{profile}/datasources/{datasource}",
)
_WRITE_KEY = "writeKey"


@dataclass(frozen=True)
class Config:
    """What the routes need of the settings. `secrets`: by source; `public_url`: as HubSpot sees us, "" for as asked."""

    body_limit: int
    secrets: Mapping[str, tuple[str, ...]]
    public_url: str
    customer_fields: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> "Config":
        """From the settings; InvalidInput when the secrets are malformed."""
        return cls(
            body_limit=settings.ingest_max_body_bytes,
            secrets=settings.secrets(),
            public_url=settings.ingest_public_url,
            customer_fields=frozenset(map(plain, settings.ingest_customer_fields)),
        )


class Shapes:
    """mParticle, Tealium, CloudEvents, HubSpot, Salesforce, Zoho; answered after the synced commit."""

    def __init__(
        self, keys: KeyRing, normaliser: Normaliser, admission: Admission, clock: Clock, config: Config
    ) -> None:
        self._keys = keys
        self._normaliser = normaliser
        self._admission = admission
        self._clock = clock
        self._config = config

    def routes(self) -> list[Route]:
        """Every route below, with and without a slash at the end: vendors do not follow a redirect."""
        tealium_paths = [*_TEALIUM, *_TEALIUM_SOURCES]
        ways = [
            Route("/v2/events", self.mparticle, methods=["POST"]),
            Route("/v2/bulkevents", self.mparticle, methods=["POST"]),
            Route("/v2/bulkevents/historical", self.mparticle, methods=["POST"]),
            *(Route(path, self.tealium, methods=["POST"]) for path in tealium_paths),
            *(Route(path, self.tealium_pixel, methods=["GET"]) for path in tealium_paths),
            *(Route(path, self.tealium_bulk, methods=["POST"]) for path in _TEALIUM_BULK),
            Route("/v1/cloudevents", self.cloudevents, methods=["POST"]),
            Route("/v1/cloudevents", self.cloudevents_permission, methods=["OPTIONS"]),
            Route("/v1/hubspot/{source_id}", self.hubspot, methods=["POST"]),
            Route("/v1/salesforce/{source_id}", self.salesforce, methods=["POST"]),
            Route("/v1/zoho/{source_id}", self.zoho, methods=["POST"]),
        ]
        return [*ways, *(Route(f"{way.path}/", way.endpoint, methods=list(way.methods or ())) for way in ways)]

    async def mparticle(self, request: Request) -> Response:
        """A batch or a list of batches; 202 as mParticle answers, errors in its form."""
        try:
            body = await self._body(request)
            source_id = self._mparticle_source(basic_user(request.headers.get("authorization")))
            await self._take(request, mparticle.read(body, self._origin(source_id)), source_id)
            return Response(status_code=202)
        except VigieError as error:
            return _mparticle_error(error)

    async def tealium(self, request: Request) -> Response:
        """One event as JSON."""
        return await self._tealium(request, tealium.read)

    async def tealium_bulk(self, request: Request) -> Response:
        """Events under shared fields."""
        return await self._tealium(request, tealium.read_bulk)

    async def tealium_pixel(self, request: Request) -> Response:
        """One event as a query string; a transparent GIF of 43 bytes. A HEAD request tells nothing."""
        if request.method == "HEAD":
            return _pixel()
        try:
            fields = {name: value for name, value in request.query_params.items() if name != _WRITE_KEY}
            body = msgspec.json.encode({**request.path_params, **fields})
            source_id = self._source_of(*_keys(request), _datasource(request), fields.get("tealium_datasource"))
            await self._take(request, tealium.read(body, self._origin(source_id)), source_id)
            return _pixel()
        except VigieError as error:
            return refused(error)

    async def _tealium(self, request: Request, read: Callable[[bytes, Origin], Items]) -> Response:
        try:
            body = await self._body(request)
            source_id = self._source_of(*_keys(request), _datasource(request), tealium.datasource(body))
            await self._take(request, read(body, self._origin(source_id)), source_id)
            return _success()
        except VigieError as error:
            return refused(error)

    async def cloudevents(self, request: Request) -> Response:
        """Structured, binary or batched; 415 for another media type."""
        try:
            body = await self._body(request)
            source_id = self._source_of(*_keys(request), request.query_params.get("access_token"))
            await self._take(request, cloudevents.read(body, self._origin(source_id, request.headers)), source_id)
            return _success()
        except cloudevents.UnsupportedMedia as error:
            return JSONResponse({"code": error.code, "message": error.message}, status_code=415)
        except VigieError as error:
            return refused(error)

    async def cloudevents_permission(self, request: Request) -> Response:
        """The handshake of CloudEvents' webhooks: any origin may send here, it needs a key all the same."""
        headers = {"Allow": "POST, OPTIONS", "WebHook-Allowed-Rate": "*"}
        origin = request.headers.get("webhook-request-origin")
        return Response(headers={**headers, "WebHook-Allowed-Origin": origin} if origin else headers)

    async def hubspot(self, request: Request) -> Response:
        """Webhooks that HubSpot signed with the secret of the app."""
        try:
            body = await self._body(request)
            source_id, secrets = self._secrets(request)
            now_ms = time.time_ns() // 1_000_000
            signatures.check_hubspot(secrets, request.headers, request.method, self._uri(request), body, now_ms)
            await self._take(request, hubspot.read(body, self._origin(source_id)), source_id)
            return _success()
        except VigieError as error:
            return refused(error)

    async def salesforce(self, request: Request) -> Response:
        """Marketing Cloud's signed notifications; outbound messages and records with the source's secret."""
        try:
            body = await self._body(request)
            source_id, secrets = self._secrets(request)
            signature = request.headers.get("x-sfmc-ens-signature")
            asked = salesforce.verification(body)
            if asked is not None:
                return _verification(source_id, asked)
            if signature is not None:
                signatures.check_marketing_cloud(secrets, signature, body)
            else:
                signatures.check_token(secrets, _tokens(request), "as ?token= in the endpoint's URL or as Bearer")
            await self._take(request, salesforce.read(body, self._origin(source_id)), source_id)
            return Response(salesforce.ACKNOWLEDGED, media_type="text/xml") if salesforce.is_soap(body) else _success()
        except VigieError as error:
            return refused(error)

    async def zoho(self, request: Request) -> Response:
        """Notifications with the channel's token, which is the source's secret."""
        try:
            body = await self._body(request)
            source_id, secrets = self._secrets(request)
            given = (zoho.token(body), *_tokens(request))
            signatures.check_token(secrets, given, "as the channel's `token`, as ?token= or as Bearer")
            await self._take(request, zoho.read(body, self._origin(source_id)), source_id)
            return _success()
        except VigieError as error:
            return refused(error)

    def _mparticle_source(self, key: str | None) -> str:
        """401 without a key, 403 with a wrong one, as mParticle."""
        if key is None:
            raise Unauthorized("the API key is missing; send the write key of this source as the user of Basic")
        source_id = self._keys.source_of_key(key)
        if source_id is None:
            raise Forbidden("the API key is unknown; use the write key of this source")
        return source_id

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._config.body_limit)

    async def _take(self, request: Request, items: Items, source_id: str) -> None:
        """Drafts and refusals to the writer; returns when they are on disk."""
        received_us = self._clock.now_us()
        drafted = [self._drafted(item, source_id, received_us) for item in items]
        await self._admission.submit(request, source_id, drafted)

    def _drafted(self, item: Envelope | Rejected, source_id: str, received_us: int) -> Item:
        if isinstance(item, Rejected):
            return Refusal(
                source_id=source_id,
                event_id=item.event_id,
                received_at_us=received_us,
                code=item.code,
                reason=item.reason,
                body=item.body,
            )
        return self._normaliser.enveloped(item.message, item.body, source_id, received_us)

    def _origin(self, source_id: str, headers: Mapping[str, str] | None = None) -> Origin:
        return Origin(source_id, self._clock.now_us(), self._config.customer_fields, headers or {})

    def _source_of(self, *keys: str | None) -> str:
        for key in keys:
            source_id = self._keys.source_of_key(key)
            if source_id is not None:
                return source_id
        raise Unauthorized("the write key is missing or unknown; check the key of this source")

    def _secrets(self, request: Request) -> tuple[str, tuple[str, ...]]:
        source_id = str(request.path_params["source_id"])
        secrets = self._config.secrets.get(source_id)
        if not secrets:
            raise Unauthorized(f"the source {source_id!r} has no secret; set it in VIGIE_INGEST_SOURCE_SECRETS")
        return source_id, secrets

    def _uri(self, request: Request) -> str:
        if not self._config.public_url:
            return str(request.url)
        query = f"?{request.url.query}" if request.url.query else ""
        return f"{self._config.public_url.rstrip('/')}{request.url.path}{query}"


def _keys(request: Request) -> tuple[str | None, ...]:
    """Write keys of a request: Basic's user, Bearer, `X-Write-Key`, `?writeKey=`."""
    authorization = request.headers.get("authorization")
    header = request.headers.get("x-write-key")
    return basic_user(authorization), _bearer(authorization), header, request.query_params.get(_WRITE_KEY)


def _tokens(request: Request) -> tuple[str | None, ...]:
    return request.query_params.get("token"), _bearer(request.headers.get("authorization"))


def _bearer(authorization: str | None) -> str | None:
    return authorization[7:].strip() if authorization and authorization[:7].lower() == "bearer " else None


def _datasource(request: Request) -> str | None:
    found: str | None = request.path_params.get("datasource")
    return found


def _pixel() -> Response:
    return Response(PIXEL, media_type="image/gif", headers={"Cache-Control": "no-store"})


def _success() -> Response:
    return Response(b'{"success":true}', media_type="application/json")


def _verification(source_id: str, asked: salesforce.Verification) -> Response:
    """Marketing Cloud sends nothing until somebody gives it the key back; its documentation says to log it."""
    get(__name__).warning(
        "Marketing Cloud asks to verify a callback: POST these to /platform/v1/ens-verify of its REST API",
        source_id=source_id,
        callbackId=asked.callback_id[:100],
        verificationKey=asked.verification_key[:200],
    )
    return _success()


def _mparticle_error(error: VigieError) -> Response:
    """`{"errors": [{"code", "message"}]}`, as mParticle answers."""
    status = 413 if isinstance(error, BodyTooLarge) else HTTP_STATUS.get(error.code, 500)
    code = {
        400: "BAD_REQUEST",
        401: "UNAUTHORIZED",
        403: "FORBIDDEN",
        413: "REQUEST_TOO_LARGE",
        429: "TOO_MANY_REQUESTS",
    }.get(status)
    headers = {"Retry-After": retry_after(error)} if error.retryable else None
    body = {"errors": [{"code": code or error.code, "message": error.message}]}
    return JSONResponse(body, status_code=status, headers=headers)
