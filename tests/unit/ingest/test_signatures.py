"""Signatures as the vendors specify them; HubSpot's v2 against the examples of its documentation."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from vigie_contracts.errors import InvalidInput, Unauthorized
from vigie_ingest.settings import Settings
from vigie_ingest.signatures import check_hubspot, check_marketing_cloud, check_token

NOW_MS = 1_700_000_000_000
URI = "https://bank.example/v1/hubspot/crm?a=b%3Ac%20d"
BODY = b'[{"eventId":1}]'


def signed(secret: str, stamp: str = str(NOW_MS), uri: str = "https://bank.example/v1/hubspot/crm?a=b:c%20d") -> Any:
    text = b"POST" + uri.encode() + BODY + stamp.encode()
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": stamp}


@pytest.mark.parametrize("shift", [0, 300_000, -300_000])
@pytest.mark.parametrize("secret", ["new", "old"])
def test_hubspots_third_version_holds_for_five_minutes_with_any_secret_of_the_source(secret: str, shift: int) -> None:
    check_hubspot(("new", "old"), signed(secret), "POST", URI, BODY, NOW_MS + shift)


@pytest.mark.parametrize(
    ("headers", "method", "uri", "body", "now_ms"),
    [
        (signed("wrong"), "POST", URI, BODY, NOW_MS),
        (signed("new"), "PUT", URI, BODY, NOW_MS),
        (signed("new"), "POST", URI + "1", BODY, NOW_MS),
        (signed("new"), "POST", URI, BODY + b" ", NOW_MS),
        (signed("new"), "POST", URI, BODY, NOW_MS + 300_001),
        (signed("new"), "POST", URI, BODY, NOW_MS - 300_001),
        (signed("new", "soon"), "POST", URI, BODY, NOW_MS),
        ({**signed("new"), "x-hubspot-request-timestamp": ""}, "POST", URI, BODY, NOW_MS),
        ({**signed("new"), "x-hubspot-signature-v3": "é"}, "POST", URI, BODY, NOW_MS),
        ({}, "POST", URI, BODY, NOW_MS),
        ({"x-hubspot-signature": "x", "x-hubspot-signature-version": "v1"}, "POST", URI, BODY, NOW_MS),
    ],
)
def test_anything_else_is_refused(headers: Any, method: str, uri: str, body: bytes, now_ms: int) -> None:
    with pytest.raises(Unauthorized):
        check_hubspot(("new", "old"), headers, method, uri, body, now_ms)


@pytest.mark.parametrize(
    ("method", "body", "signature"),
    [
        ("GET", b"", "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"),
        (
            "POST",
            b'{"example_field":"example_value"}',
            "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
        ),
    ],
)
def test_hubspots_second_version_is_that_of_its_documentation(method: str, body: bytes, signature: str) -> None:
    secrets = ("yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",)
    headers = {"x-hubspot-signature": signature, "x-hubspot-signature-version": "v2"}
    check_hubspot(secrets, headers, method, "https://www.example.com/webhook_uri", body, NOW_MS)
    with pytest.raises(Unauthorized):
        check_hubspot(("other",), headers, method, "https://www.example.com/webhook_uri", body, NOW_MS)


def test_a_third_version_that_does_not_hold_is_not_saved_by_a_second_that_does() -> None:
    second = hashlib.sha256(b"newPOST" + URI.encode() + BODY).hexdigest()
    headers = {"x-hubspot-signature": second, "x-hubspot-signature-version": "v2"}
    check_hubspot(("new",), headers, "POST", URI, BODY, NOW_MS)
    with pytest.raises(Unauthorized):
        check_hubspot(("new",), {**headers, **signed("wrong")}, "POST", URI, BODY, NOW_MS)


def test_marketing_cloud_signs_the_body() -> None:
    signature = base64.b64encode(hmac.new(b"key", BODY, hashlib.sha256).digest()).decode()
    check_marketing_cloud(("other", "key"), signature, BODY)
    for given, body in ((signature, BODY + b" "), ("", BODY), ("x", BODY)):
        with pytest.raises(Unauthorized):
            check_marketing_cloud(("other", "key"), given, body)


def test_a_token_is_one_of_the_sources_secrets() -> None:
    check_token(("a", "b"), (None, "b"), "somewhere")
    for given in ((None,), ("",), ("c",), ("é",)):
        with pytest.raises(Unauthorized, match="somewhere"):
            check_token(("a", "b"), given, "somewhere")


def test_secrets_are_source_and_secret_and_a_source_may_have_several() -> None:
    settings = Settings(service_token="t", ingest_write_keys=(), ingest_source_secrets=("crm=a=b", "crm=c", "zoho=d"))
    assert settings.secrets() == {"crm": ("a=b", "c"), "zoho": ("d",)}
    with pytest.raises(InvalidInput, match="SOURCE_ID=SECRET"):
        Settings(service_token="t", ingest_write_keys=(), ingest_source_secrets=("crm",)).secrets()
