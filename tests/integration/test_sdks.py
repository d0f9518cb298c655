"""The official SDKs, unmodified, deliver to ingest: Node, the browser's in a real browser, RudderStack's.

The Python SDK is in test_ingest_service.py, mParticle's and CloudEvents' in test_ingest_shapes.py. Kotlin, Swift
and Java need machines that we do not have: what they put on the wire is replayed byte by byte.
"""

import gzip
import http.server
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from vigie_contracts.events import Event

from tests.browser import Tab, browser_tab
from tests.integration.ingest_process import KEY, IngestProcess, running
from tests.servers import until

SDKS = Path(__file__).parents[1] / "sdks"
PAGE = "<!doctype html><title>a page of a bank</title><script src='/index.js'></script>"
CALLS = {
    "identify": "identify", "track": "app.logged_in", "page": "page.viewed", "screen": "screen.viewed",
    "group": "group", "alias": "alias",
}  # fmt: skip


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestProcess]:
    with running(tmp_path_factory.mktemp("sdks")) as process:
        yield process


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder of the SDKs' packages; skips where they are not installed."""
    found = SDKS / "node_modules"
    if not found.is_dir():
        pytest.skip("the npm SDKs are not installed; run `make sdks` (needs Node 20 and npm)")
    return found


def by_id(ingest: IngestProcess, prefix: str) -> dict[str, Event]:
    return {event.event_id: event for event in ingest.events() if event.event_id.startswith(prefix)}


# ---- servers' SDKs --------------------


@pytest.mark.parametrize("script", ["segment_node.mjs", "rudderstack_node.mjs"])
def test_every_call_of_a_node_sdk_arrives_once(ingest: IngestProcess, packages: Path, script: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    command = [node, script, ingest.url, KEY]
    done = subprocess.run(command, cwd=SDKS, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
    prefix = script.split("_")[0].replace("segment", "node").replace("rudderstack", "rudder")
    found = by_id(ingest, f"{prefix}-")
    assert {event.kind: event.name for event in found.values()} == CALLS
    assert {event.user_id for event in found.values()} == {f"{prefix}-user"}
    assert all(event.sent_at_us and event.original_timestamp_us for event in found.values())
    assert [ingest.receipt(name)["verdict"] for name in found] == ["accepted"] * 6


# ---- the browser's SDK --------------------


class Site(http.server.SimpleHTTPRequestHandler):
    """A page of another origin than ingest's, with the SDK as its package ships it."""

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *_args: Any) -> None:
        """Nothing."""


@pytest.fixture
def tab(packages: Path, tmp_path: Path) -> Iterator[Tab]:
    """A browser on a page that has loaded the SDK."""
    handler = partial(Site, directory=str(packages / "@segment/analytics-next/dist/umd"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            with browser_tab(tmp_path) as found:
                found.send("Page.navigate", url=f"http://127.0.0.1:{site.server_port}/")
                found.wait_for("window.AnalyticsNext")
                yield found
        finally:
            site.shutdown()


def load(tab: Tab, ingest: IngestProcess, **strategy: Any) -> None:
    """Start the SDK as its documentation says, with nothing but a key and the address of ingest."""
    settings = {"writeKey": KEY, "cdnURL": ingest.url}
    options = {"integrations": {"Segment.io": {"deliveryStrategy": strategy}}} if strategy else {}
    tab.evaluate(
        f"window.sdk = AnalyticsNext.AnalyticsBrowser.load({json.dumps(settings)}, {json.dumps(options)});"
        " sdk.ready().then(() => true)"
    )


def test_the_browsers_sdk_delivers_one_by_one(ingest: IngestProcess, tab: Tab) -> None:
    load(tab, ingest)
    calls = {
        "track": "sdk.track('Logged In', {screen: 'home'})",
        "identify": "sdk.identify('browser-user', {age_band: '25-34'})",
        "page": "sdk.page('Home')",
        "screen": "sdk.screen('Home')",
        "group": "sdk.group('acme')",
        "alias": "sdk.alias('browser-new', 'browser-user')",
    }
    ids = {kind: tab.evaluate(f"{call}.then((context) => context.event.messageId)") for kind, call in calls.items()}
    until("all calls are stored", lambda: set(ids.values()) <= by_id(ingest, "ajs-next-").keys())
    found = by_id(ingest, "ajs-next-")
    assert {kind: found[name].name for kind, name in ids.items()} == {**CALLS}
    assert all(found[name].context["page"]["title"] == "a page of a bank" for name in ids.values())
    paths = [event["request"]["url"].removeprefix(ingest.url) for event in tab.told("Network.requestWillBeSent")]
    assert {f"/v1/{letter}" for letter in "tipsga"} <= set(paths)
    assert f"/v1/projects/{KEY}/settings" in paths
    assert [told for told in tab.told("Log.entryAdded") if ingest.url in told["entry"].get("url", "")] == []


def test_the_browsers_sdk_delivers_in_batches_and_when_the_page_is_left(ingest: IngestProcess, tab: Tab) -> None:
    load(tab, ingest, strategy="batching", config={"size": 3, "timeout": 120_000})
    names = [
        tab.evaluate(f"sdk.track('Logged In', {{number: {number}}}).then((context) => context.event.messageId)")
        for number in range(4)
    ]
    until("a full batch is stored", lambda: set(names[:3]) <= by_id(ingest, "ajs-next-").keys())
    assert names[3] not in by_id(ingest, "ajs-next-")
    tab.send("Page.navigate", url="about:blank")
    until("the rest came as the page was left", lambda: names[3] in by_id(ingest, "ajs-next-"))
    assert [ingest.receipt(name)["verdict"] for name in names] == ["accepted"] * 4


# ---- what mobile SDKs and Java put on the wire --------------------


def event(name: str, library: str) -> dict[str, Any]:
    return {
        "type": "track", "event": "Logged In", "messageId": name, "anonymousId": f"device-{library}", "userId": "phone",
        "timestamp": "2026-03-01T09:00:00.000Z", "integrations": {}, "properties": {"screen": "home"},
        "context": {"library": {"name": library, "version": "1"}, "device": {"type": "android"}, "locale": "fr-FR"},
        "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []},
    }  # fmt: skip


def exchange(ingest: IngestProcess, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to raw bytes."""
    with socket.create_connection(("127.0.0.1", ingest.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_a_kotlin_phones_gzipped_chunked_file_is_taken(ingest: IngestProcess) -> None:
    """`/b` in text/plain, gzip, without a length and without an Authorization; the key is the body's last field."""
    settings = httpx.get(f"{ingest.url}/projects/{KEY}/settings", trust_env=False).json()
    assert settings["integrations"]["Segment.io"]["apiHost"] == f"127.0.0.1:{ingest.port}/v1"
    body = {"batch": [event("kotlin-1", "analytics-kotlin")], "sentAt": "2026-03-01T09:00:10.000Z", "writeKey": KEY}
    packed = gzip.compress(json.dumps(body).encode())
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (packed[:40], packed[40:]))
    head = (
        "POST /v1/b HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n"
        "User-Agent: analytics-kotlin/1.25.0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    assert exchange(ingest, head.encode() + chunks + b"0\r\n\r\n") == (200, b'{"success":true}')
    stored = by_id(ingest, "kotlin-")["kotlin-1"]
    assert (stored.name, stored.user_id, stored.context["device"]["type"]) == ("app.logged_in", "phone", "android")
    assert stored.received_at_us - stored.timestamp_us == 10_000_000


def test_swift_and_java_bodies_are_taken_on_their_paths(ingest: IngestProcess) -> None:
    swift = {"batch": [event("swift-1", "analytics-swift")], "sentAt": "2026-03-01T09:00:10.000Z", "writeKey": KEY}
    java = {
        "batch": [{**event("java-1", "analytics-java"), "originalTimestamp": "2026-03-01T09:00:00.000Z"}],
        "sentAt": "2026-03-01T09:00:10.000Z", "context": {"app": {"name": "bank"}}, "sequence": 1, "writeKey": KEY,
    }  # fmt: skip
    for path, body, headers in (
        ("/v1/b", swift, {"Content-Type": "application/json; charset=utf-8"}),
        ("/v1/import/", java, {"Content-Type": "application/json"}),
    ):
        auth = None if path == "/v1/b" else (KEY, "")
        sent = httpx.post(
            f"{ingest.url}{path}", content=json.dumps(body), headers=headers, auth=auth, trust_env=False, timeout=30
        )
        assert (sent.status_code, sent.text) == (200, '{"success":true}')
    assert by_id(ingest, "java-")["java-1"].context["app"] == {"name": "bank"}
    assert by_id(ingest, "swift-")["swift-1"].anonymous_id == "device-analytics-swift"


# ---- paths, keys and pages of other origins --------------------


@pytest.mark.parametrize("prefix", ["", "/v1"])
@pytest.mark.parametrize(("letter", "kind"), [(name[0], name) for name in CALLS])
def test_long_and_short_paths_with_and_without_a_version(
    ingest: IngestProcess, prefix: str, letter: str, kind: str
) -> None:
    body = {"userId": "paths", "event": "Logged In", "name": "Home", "groupId": "acme", "previousId": "paths-device"}
    for number, path in enumerate((f"{prefix}/{kind}", f"{prefix}/{letter}", f"{prefix}/{letter}/")):
        name = f"path{prefix}-{kind}-{number}"
        answer = ingest.post(path, {**body, "messageId": name}, headers={"X-Write-Key": KEY})
        assert (answer.status_code, answer.text) == (200, '{"success":true}')
        assert by_id(ingest, name)[name].kind == kind


def test_a_page_of_another_origin_may_send(ingest: IngestProcess) -> None:
    asked = {
        "Origin": "https://bank.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-retry-count",
    }
    for path in ("/v1/t", "/b", "/v1/batch", f"/v1/projects/{KEY}/settings"):
        answer = httpx.options(f"{ingest.url}{path}", headers=asked, trust_env=False)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert answer.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
    sent = ingest.post("/v1/t?writekey=nobodys", {"userId": "u"}, headers={"Origin": "https://bank.example"})
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (401, "*")
    assert sent.json().keys() == {"code", "message"}


def test_settings_of_an_unknown_key_are_not_told(ingest: IngestProcess) -> None:
    answer = httpx.get(f"{ingest.url}/v1/projects/nobodys/settings", trust_env=False)
    assert (answer.status_code, answer.json().keys()) == (404, {"code", "message"})
