"""Any body to every route of a running ingest: never 5xx, never a hang, memory bounded, a verdict for every event.

`make fuzz` sends more than 100,000; `make test` a fast share of them.
"""

import base64
import gzip
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.ingest_process import KEY, IngestProcess, running
from tests.unit.ingest.shapes_strategies import SHAPES, json, least, segment_message

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
HANG_SECONDS = 20
MOST_GROWTH_MB = 150
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
PUBLIC = "https://events.bank.example"
SEGMENT = ("track", "identify", "page", "screen", "group", "alias", "t", "i", "p", "s", "g", "a")


@dataclass
class Target:
    """The process, and how many verdicts its answers promised at least."""

    process: IngestProcess
    client: httpx.Client
    promised: int = 0
    answers: dict[int, int] = field(default_factory=dict)

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        """Whether it was taken."""
        answer = self.client.post(path, content=body, headers=headers)
        self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (path, answer.status_code, answer.text)
        if answer.is_success:
            return True
        told = answer.json()
        (error,) = told.get("errors", [told])  # a list in mParticle's form
        assert error["code"], answer.text
        assert error["message"], answer.text
        return False

    def sent(self) -> int:
        """How many bodies were answered."""
        return sum(self.answers.values())

    def verdicts(self) -> int:
        """How many events have one."""
        counts: dict[str, int] = self.process.client().get("/internal/status", dict[str, Any])["counts"]
        return sum(counts.values())

    def resident_mb(self) -> float:
        assert self.process.process is not None
        return float(psutil.Process(self.process.process.pid).memory_info().rss / 2**20)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    secrets = {"VIGIE_INGEST_SOURCE_SECRETS": "hubspot=h-1,salesforce=s-1,zoho=z-1", "VIGIE_INGEST_PUBLIC_URL": PUBLIC}
    with (
        running(tmp_path_factory.mktemp("fuzz"), settings=secrets) as process,
        httpx.Client(base_url=process.url, timeout=HANG_SECONDS, trust_env=False) as client,
    ):
        yield Target(process, client)


def _hubspot(body: bytes) -> dict[str, str]:
    stamp = str(time.time_ns() // 1_000_000)
    text = f"POST{PUBLIC}/v1/hubspot/hubspot".encode() + body + stamp.encode()
    signature = base64.b64encode(hmac.new(b"h-1", text, hashlib.sha256).digest()).decode()
    return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}


def _keyed(**more: str) -> Callable[[bytes], dict[str, str]]:
    return lambda _body: {**BASIC, **more}


ROUTES: dict[str, tuple[str, Callable[[bytes], dict[str, str]]]] = {
    "tealium": ("/bulk-event", _keyed()),
    "cloudevents": ("/v1/cloudevents", _keyed(**{"Content-Type": "application/cloudevents-batch+json"})),
    "hubspot": ("/v1/hubspot/hubspot", _hubspot),
    "salesforce": ("/v1/salesforce/salesforce?token=s-1", _keyed()),
    "zoho": ("/v1/zoho/zoho?token=z-1", _keyed()),
    "mparticle": ("/v2/bulkevents", _keyed()),
}


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """The body with a few bytes changed, cut or doubled."""
    found = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        found[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(found)


@dataclass(frozen=True)
class Call:
    """A body as it travels, and how many verdicts it needs when it is taken."""

    path: str
    body: bytes
    headers: dict[str, str]
    verdicts: int


def _cut(body: bytes, place: int) -> bytes:
    """The body with half an emoji at the beginning of one of its texts."""
    starts = [match.end() for match in re.finditer(rb'[:,\[]"', body)]
    at = starts[place % len(starts)] if starts else 0
    return body[:at] + rb"\ud83d" + body[at:] if at else body


@st.composite
def calls(draw: st.DrawFn, path: str, value: Any, verdicts: int) -> Call:
    """A value on its way: as it is, damaged, packed, or said to be packed."""
    body = msgspec.json.encode(value)
    way = draw(st.sampled_from(["plain", "plain", "cut", "packed", "damaged", "damaged packed", "not packed"]))
    if way == "plain":
        return Call(path, body, {}, verdicts)
    if way == "cut":
        return Call(path, _cut(body, draw(st.integers(0, 9))), {}, verdicts)
    if way == "damaged":
        return Call(path, draw(damaged(body)), {}, 0)
    packed = {"Content-Encoding": "gzip"}
    if way == "packed":
        return Call(path, gzip.compress(body, 1), packed, verdicts)
    return Call(path, draw(damaged(gzip.compress(body, 1))) if way == "damaged packed" else body, packed, 0)


@st.composite
def tracking_calls(draw: st.DrawFn) -> Call:
    """A batch, or a call of its own path."""
    if draw(st.booleans()):
        messages = draw(st.lists(segment_message | json, max_size=4))
        more = draw(st.fixed_dictionaries({}, optional={"sentAt": json, "context": json}))
        return draw(calls("/v1/batch", {**more, "batch": messages}, len(messages)))
    return draw(calls(f"/v1/{draw(st.sampled_from(SEGMENT))}", draw(segment_message), 1))


@st.composite
def shaped_calls(draw: st.DrawFn, name: str) -> Call:
    """A list of a vendor's parts."""
    parts = draw(st.lists(SHAPES[name][1] | json, max_size=4))
    value = {"events": parts} if name == "tealium" else parts
    return draw(calls(ROUTES[name][0], value, sum(least(name, part) for part in parts)))


def assert_all_have_a_verdict(target: Target, before: int, resident_mb: float, sent: int) -> None:
    assert target.sent() - sent >= 0.9 * EXAMPLES, "the search ended early"
    assert target.verdicts() - before >= target.promised
    assert target.resident_mb() - resident_mb < MOST_GROWTH_MB
    assert set(target.answers) <= {200, 202, 400, 401, 413, 415}, target.answers
    assert target.promised > 0


@pytest.mark.timeout(3600)
def test_any_call_of_the_tracking_api(target: Target) -> None:
    before, resident_mb, target.promised = target.verdicts(), target.resident_mb(), 0
    sent = target.sent()

    @settings(max_examples=2 * EXAMPLES, database=None)
    @given(call=tracking_calls())
    def one(call: Call) -> None:
        if target.send(call.path, call.body, {**BASIC, **call.headers}):
            target.promised += call.verdicts

    one()
    assert_all_have_a_verdict(target, before, resident_mb, sent)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SHAPES)
def test_any_body_of_another_vendors_shape(target: Target, name: str) -> None:
    before, resident_mb, target.promised = target.verdicts(), target.resident_mb(), 0
    sent = target.sent()

    @settings(max_examples=EXAMPLES, database=None)
    @given(call=shaped_calls(name))
    def one(call: Call) -> None:
        if target.send(call.path, call.body, {**ROUTES[name][1](call.body), **call.headers}):
            target.promised += call.verdicts

    one()
    assert_all_have_a_verdict(target, before, resident_mb, sent)


SOAP = '<E xmlns="http://schemas.xmlsoap.org/soap/envelope/"><notifications><Notification>{}</Notification></notifications></E>'
OTHERS = ("/event", "/v1/cloudevents", "/v2/events", "/v1/salesforce/salesforce?token=s-1", "/v1/hubspot/nobody", "/v9")


@pytest.mark.timeout(3600)
def test_any_other_way_in(target: Target) -> None:
    @settings(max_examples=EXAMPLES, database=None)
    @given(data=st.data())
    def one(data: st.DataObject) -> None:
        text = data.draw(st.text(max_size=40))
        way = data.draw(st.sampled_from(["pixel", "receipt", "soap", "post"]))
        if way == "pixel":
            fields = data.draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4))
            answer = target.client.get("/event", params={**fields, "writeKey": KEY})
        elif way == "receipt":
            answer = target.client.get(f"/v1/receipts/{quote(text, safe='')}", headers=BASIC)
        elif way == "soap":
            answer = target.client.post(OTHERS[3], content=data.draw(damaged(SOAP.format(text).encode())))
        else:
            names = {
                "Content-Type": data.draw(st.sampled_from(["application/json", "application/cloudevents+json", "x"]))
            }
            fields = data.draw(
                st.dictionaries(
                    st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-time"]), st.sampled_from(["", "a", "1"])
                )
            )
            body = data.draw(json.map(msgspec.json.encode) | st.binary(max_size=64))
            answer = target.client.post(
                data.draw(st.sampled_from(OTHERS)), content=body, headers={**BASIC, **names, **fields}
            )
        assert answer.status_code < 500, (way, answer.status_code, answer.text)

    one()
