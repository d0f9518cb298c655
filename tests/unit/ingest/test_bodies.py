"""Keys, sizes and compression of request bodies; settings."""

import asyncio
import base64
import gzip
from typing import Any

import pytest
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from vigie_contracts.errors import InvalidInput, Unauthorized
from vigie_ingest.bodies import BodyTooLarge, KeyRing, basic_user, read_body
from vigie_ingest.settings import Settings


def read(body: bytes, limit: int = 1_000, **headers: str) -> bytes:
    parts = [body[:10], body[10:]]

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    scope = {
        "type": "http",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    return asyncio.run(read_body(Request(scope, receive), limit))


def test_a_body_is_read_in_parts_and_decompressed() -> None:
    assert read(b'{"batch":[]}') == b'{"batch":[]}'
    assert read(gzip.compress(b"x" * 900), content_encoding="gzip") == b"x" * 900


def test_a_gzip_body_may_have_several_members_within_the_limit_of_all() -> None:
    halves = gzip.compress(b"x" * 400) + gzip.compress(b"y" * 500)
    assert read(halves, content_encoding="gzip") == b"x" * 400 + b"y" * 500
    assert read(halves + bytes(7), content_encoding="gzip") == b"x" * 400 + b"y" * 500
    with pytest.raises(BodyTooLarge):
        read(halves + gzip.compress(b"z" * 101), content_encoding="gzip")
    with pytest.raises(InvalidInput, match="more than 64 members"):
        read(gzip.compress(b"x") * 65, 2_000, content_encoding="gzip")


@pytest.mark.parametrize("encoding", ["", "identity", "Identity, identity"])
def test_an_encoding_that_changes_nothing_is_none(encoding: str) -> None:
    assert read(b"x", content_encoding=encoding) == b"x"
    assert read(gzip.compress(b"x"), content_encoding=f"GZIP, {encoding}") == b"x"


@pytest.mark.parametrize(
    "body",
    [b"x" * 1_001, gzip.compress(b"x" * 1_001), gzip.compress(b"x" * 100_000_000)],
    ids=["plain", "packed", "bomb"],
)
def test_a_body_over_the_limit_is_refused_before_and_after_decompression(body: bytes) -> None:
    encoding = {} if body.startswith(b"x") else {"content_encoding": "gzip"}
    with pytest.raises(BodyTooLarge):
        read(body, **encoding)


@pytest.mark.parametrize(
    "body",
    [b"", b"no gzip", gzip.compress(b"x" * 500)[:-4], gzip.compress(b"x") + b"more"],
    ids=["empty", "no gzip", "cut short", "more behind it"],
)
def test_broken_gzip_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(body, content_encoding="gzip")


def test_an_unknown_encoding_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="'br'"):
        read(b"x", content_encoding="br")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def source(keys: KeyRing, header: str | None, stated: str | None = None, query: str = "", **headers: str) -> str:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return keys.source_of(Headers(given | ({"authorization": header} if header else {})), QueryParams(query), stated)


def test_the_write_key_comes_from_basic_a_header_the_query_or_the_body() -> None:
    keys = KeyRing({"k1": "app", "k2": "web"})
    assert source(keys, basic("k1:")) == "app"
    assert source(keys, basic("k1")) == "app"
    assert source(keys, None, x_write_key="k1") == "app"
    assert source(keys, None, None, "writekey=k1") == source(keys, None, None, "a=b&writeKey=k1") == "app"
    assert source(keys, None, "k2") == "web"
    assert source(keys, "Bearer something", "k2") == "web"
    assert source(keys, basic("unknown:"), "k2", "writekey=nobodys", x_write_key="old") == "web"


@pytest.mark.parametrize(("header", "stated"), [(None, None), (basic("nobody:"), None), (None, "nobody")])
def test_an_unknown_key_is_refused(header: str | None, stated: str | None) -> None:
    with pytest.raises(Unauthorized):
        source(KeyRing({"k1": "app"}), header, stated, "writekey=nobody", x_write_key="nobody")


def test_broken_basic_headers_name_nobody() -> None:
    assert [basic_user(header) for header in (None, "Basic", "Basic !!!", "Bearer x", basic("k:v"))] == [None] * 4 + [
        "k"
    ]


def test_write_keys_are_key_and_source() -> None:
    settings = Settings(service_token="t", ingest_write_keys=("a=app", "b=web"))
    assert settings.sources() == {"a": "app", "b": "web"}
    with pytest.raises(InvalidInput, match="KEY=SOURCE_ID"):
        Settings(service_token="t", ingest_write_keys=("a",)).sources()
