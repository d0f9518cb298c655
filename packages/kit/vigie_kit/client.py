"""Calls from one of our processes to another: struct in, struct out, the same error classes on both sides."""

from typing import TypeVar

import httpx
import msgspec
from vigie_contracts import errors

T = TypeVar("T")
_BY_CODE = {
    cls.code: cls
    for cls in (
        errors.InvalidInput,
        errors.NotFound,
        errors.Conflict,
        errors.Unauthorized,
        errors.Forbidden,
        errors.LimitExceeded,
        errors.Unavailable,
        errors.PastReadPoint,
        errors.IncompatibleData,
    )
}
TIMEOUT = httpx.Timeout(30.0, connect=2.0)


class ServiceClient:
    """Asynchronous client of one service. Unavailable when it is down or does not answer in time."""

    def __init__(self, base_url: str, token: str, timeout: httpx.Timeout = TIMEOUT) -> None:
        self._client = httpx.AsyncClient(base_url=base_url, headers=_headers(token), timeout=timeout, trust_env=False)

    async def post(self, path: str, body: object, answer: type[T]) -> T:
        """POST a struct."""
        return await self._call("POST", path, msgspec.json.encode(body), answer)

    async def get(self, path: str, answer: type[T]) -> T:
        """GET."""
        return await self._call("GET", path, None, answer)

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _call(self, method: str, path: str, content: bytes | None, answer: type[T]) -> T:
        try:
            response = await self._client.request(method, path, content=content)
        except httpx.HTTPError as error:
            raise _unreachable(self._client.base_url, error) from error
        return _read(response, answer)


class SyncServiceClient:
    """The same, blocking."""

    def __init__(self, base_url: str, token: str, timeout: httpx.Timeout = TIMEOUT) -> None:
        self._client = httpx.Client(base_url=base_url, headers=_headers(token), timeout=timeout, trust_env=False)

    def post(self, path: str, body: object, answer: type[T]) -> T:
        """POST a struct."""
        return self._call("POST", path, msgspec.json.encode(body), answer)

    def get(self, path: str, answer: type[T]) -> T:
        """GET."""
        return self._call("GET", path, None, answer)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _call(self, method: str, path: str, content: bytes | None, answer: type[T]) -> T:
        try:
            response = self._client.request(method, path, content=content)
        except httpx.HTTPError as error:
            raise _unreachable(self._client.base_url, error) from error
        return _read(response, answer)


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


def _unreachable(base_url: httpx.URL, error: httpx.HTTPError) -> errors.Unavailable:
    return errors.Unavailable(f"{base_url} does not answer ({type(error).__name__})")


def _read(response: httpx.Response, answer: type[T]) -> T:
    if response.status_code < 300:
        return _decode(response, answer)
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    unknown = errors.Unavailable if response.status_code >= 500 else errors.VigieError
    kind = _BY_CODE.get(problem.get("code", ""), unknown)
    details = problem.get("details")
    message = str(problem.get("detail") or f"{response.url} answered {response.status_code}")
    raise kind(message, details=details if isinstance(details, dict) else None)


def _decode(response: httpx.Response, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError as error:
        raise errors.IncompatibleData(f"{response.url} answered something else than expected: {error}") from error
