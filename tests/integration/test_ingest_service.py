"""The running service over HTTP: Segment's shapes and answers, the official SDK, kills, internal reads."""

import base64
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from segment.analytics.client import Client
from vigie_contracts.errors import InvalidInput, Unauthorized
from vigie_contracts.events import Cursor
from vigie_contracts.imports import ImportAnswer, ImportRecord, ImportRequest
from vigie_contracts.instants import ClockSetting, parse_instant
from vigie_contracts.reads import CustomersAnswer, CustomersRequest, Lookup, TimelineAnswer, TimelineRequest
from vigie_ingest.failpoints import FAILPOINTS
from vigie_kit.client import SyncServiceClient
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_kit.wakeup import Listener

from tests.integration.ingest_process import KEY, TOKEN, IngestProcess, running
from tests.servers import until

BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
SUCCESS = (200, '{"success":true}')
NOON_US = parse_instant("2014-11-03T12:00:00Z")


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestProcess]:
    clock = ClockSetting(base_virtual_us=NOON_US, rate=0.0)
    with running(tmp_path_factory.mktemp("ingest"), clock=clock) as process:
        yield process


def track(message_id: str, user: str = "u", **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Logged In", "messageId": message_id, "userId": user, **more}


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


def test_a_batch_is_answered_exactly_as_the_sdks_need_it(ingest: IngestProcess) -> None:
    body = {"batch": [track("answer-1")], "sentAt": "2014-11-03T12:00:00Z"}
    assert said(ingest.post("/v1/batch", body, headers=BASIC)) == SUCCESS
    assert said(ingest.post("/v1/batch", {**body, "writeKey": KEY})) == SUCCESS
    assert said(ingest.post("/v1/batch", {**body, "writeKey": KEY}, headers={"Authorization": "Bearer x"})) == SUCCESS
    assert said(ingest.post("/v1/batch", {"batch": [], "writeKey": KEY})) == SUCCESS
    receipt = ingest.receipt("answer-1")
    assert (receipt["verdict"], receipt["duplicates"]) == ("accepted", 2)
    assert receipt["receivedAt"] == "2014-11-03T12:00:00.000000Z"


def test_plain_text_gzip_and_chunks_are_read(ingest: IngestProcess) -> None:
    body = json.dumps({"batch": [track("gzip-1")], "writeKey": KEY}).encode()
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    packed = gzip.compress(body)

    def chunks() -> Iterator[bytes]:
        yield packed[:9]
        yield packed[9:]

    answer = httpx.post(f"{ingest.url}/v1/batch", content=chunks(), headers=headers, trust_env=False)
    assert said(answer) == SUCCESS
    assert ingest.receipt("gzip-1")["verdict"] == "accepted"


@pytest.mark.parametrize(
    ("call", "body", "name"),
    [
        ("track", {"event": "Logged In"}, "app.logged_in"),
        ("identify", {"traits": {"age_band": "25-34"}}, "identify"),
        ("page", {"name": "Home"}, "page.viewed"),
        ("screen", {"name": "Home"}, "screen.viewed"),
        ("group", {"groupId": "acme"}, "group"),
        ("alias", {"previousId": "call-device"}, "alias"),
    ],
)
def test_each_call_of_the_tracking_api_is_stored(
    ingest: IngestProcess, call: str, body: dict[str, Any], name: str
) -> None:
    body = {"userId": "caller", "messageId": f"call-{call}", **body}
    assert said(ingest.post(f"/v1/{call}", body, headers=BASIC)) == SUCCESS
    stored = next(event for event in ingest.events() if event.event_id == f"call-{call}")
    assert (stored.kind, stored.name, stored.user_id, stored.source_id) == (call, name, "caller", "app")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/v1/batch", b'{"batch":[]}', {}, 401, "UNAUTHENTICATED"),
        ("/v1/batch", b"{", {}, 400, "VALIDATION_FAILED"),
        ("/v1/batch", b"{}", BASIC, 400, "VALIDATION_FAILED"),
        ("/v1/track", b"[1]", BASIC, 400, "VALIDATION_FAILED"),
        ("/v1/batch", b"x", {**BASIC, "Content-Encoding": "gzip"}, 400, "VALIDATION_FAILED"),
        ("/v1/batch", b"x" * 5_000_001, BASIC, 413, "BODY_TOO_LARGE"),
        ("/v1/tracks", b"{}", BASIC, 404, "NOT_FOUND"),
        ("/v1/receipts/x", b"", BASIC, 405, "VALIDATION_FAILED"),
    ],
)
def test_errors_are_code_and_message(
    ingest: IngestProcess, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = httpx.post(f"{ingest.url}{path}", content=body, headers=headers, trust_env=False)
    assert answer.status_code == status
    assert answer.json().keys() == {"code", "message"}
    assert answer.json()["code"] == code


def test_one_bad_event_is_quarantined_under_200(ingest: IngestProcess) -> None:
    bad = {"type": "track", "event": "x", "messageId": "bad-1"}
    assert said(ingest.post("/v1/batch", {"batch": [track("good-1"), bad]}, headers=BASIC)) == SUCCESS
    assert ingest.receipt("good-1")["verdict"] == "accepted"
    receipt = ingest.receipt("bad-1")
    assert (receipt["verdict"], receipt["code"]) == ("quarantined", "no_user_anon_id")
    assert receipt["reason"] == "an event needs userId or anonymousId"


def test_receipts_need_a_key_and_show_only_its_own_source(ingest: IngestProcess) -> None:
    ingest.post("/v1/batch", {"batch": [track("mine-1")]}, headers=BASIC)
    url = f"{ingest.url}/v1/receipts/mine-1"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, headers=BASIC, trust_env=False).json()["sourceId"] == "app"
    ours = {"Authorization": f"Bearer {TOKEN}"}
    told = [httpx.get(f"{url}?source={name}", headers=ours, trust_env=False).json() for name in ("app", "other")]
    assert [one["verdict"] for one in told] == ["accepted", "unknown"]
    assert httpx.get(f"{url}?source=other", headers=BASIC, trust_env=False).json()["sourceId"] == "app"
    assert ingest.receipt("never-sent") == {"eventId": "never-sent", "verdict": "unknown"}


def test_the_official_python_sdk_delivers_each_event_exactly_once(ingest: IngestProcess) -> None:
    problems: list[Exception] = []
    client = Client(KEY, host=ingest.url, on_error=lambda error, _items: problems.append(error), gzip=True)
    for number in range(250):
        client.track("sdk-user", "Logged In", {"number": number}, message_id=f"sdk-{number}")
    client.identify("sdk-user", {"age_band": "35-49"}, anonymous_id="sdk-device", message_id="sdk-identify")
    client.flush()
    client.shutdown()
    assert problems == []
    sent = [event for event in ingest.events() if event.user_id == "sdk-user"]
    assert Counter(event.event_id for event in sent) == Counter([*(f"sdk-{n}" for n in range(250)), "sdk-identify"])
    assert {event.properties["number"] for event in sent if event.kind == "track"} == set(range(250))
    lookup = CustomersRequest(lookups=[Lookup(namespace="anonymous_id", value="sdk-device")])
    (found,) = ingest.client().post("/internal/customers", lookup, CustomersAnswer).customers
    assert found is not None
    assert (found.external_id, [(row.name, row.value) for row in found.attributes]) == (
        "sdk-user",
        [("age_band", "35-49")],
    )


def test_internal_reads_need_the_service_token(ingest: IngestProcess) -> None:
    with pytest.raises(Unauthorized):
        SyncServiceClient(ingest.url, "wrong").get("/internal/status", dict)


def test_the_timeline_comes_over_http(ingest: IngestProcess) -> None:
    batch = [track("time-1", "timed", timestamp="2014-11-01T00:00:00Z"), track("time-2", "timed")]
    ingest.post("/v1/batch", {"batch": batch}, headers=BASIC)
    client = ingest.client()
    asked = CustomersRequest(lookups=[Lookup(namespace="user_id", value="timed")])
    (customer,) = client.post("/internal/customers", asked, CustomersAnswer).customers
    assert customer is not None
    timeline = client.post("/internal/timeline", TimelineRequest(customer_id=customer.customer_id), TimelineAnswer)
    assert [(event.event_id, event.effective_at_us) for event in timeline.events] == [
        ("time-2", NOON_US),
        ("time-1", parse_instant("2014-11-01T00:00:00Z")),
    ]


def test_an_import_answers_each_refused_record_by_its_index(ingest: IngestProcess) -> None:
    past_us = NOON_US - 86_400_000_000
    records = [
        ImportRecord(kind="track", event_id="i1", effective_at_us=past_us, name="Logged In", user_id="imported"),
        ImportRecord(kind="track", event_id="i2", effective_at_us=NOON_US + 1, name="Logged In", user_id="imported"),
        ImportRecord(kind="track", event_id="i3", effective_at_us=past_us, name="", user_id="imported"),
        ImportRecord(
            kind="identify", event_id="i4", effective_at_us=past_us, user_id="imported", consent={"profiling": False}
        ),
    ]
    client = ingest.client()
    first = client.post("/internal/import", ImportRequest(source_id="file", records=records), ImportAnswer)
    assert (first.accepted, first.duplicates) == (2, 0)
    assert [(refused.index, refused.code) for refused in first.refused] == [(1, "in_the_future"), (2, "no_event_name")]
    again = client.post("/internal/import", ImportRequest(source_id="file", records=records), ImportAnswer)
    assert (again.accepted, again.duplicates, len(again.refused), again.end) == (0, 2, 2, first.end)
    with pytest.raises(InvalidInput):
        client.post("/internal/import", ImportRequest(source_id="file", records=records[:1] * 10_001), ImportAnswer)


def test_a_commit_wakes_the_readers_of_the_log(ingest: IngestProcess) -> None:
    with Listener(ingest.folder / "run", "events") as listener:
        ingest.post("/v1/batch", {"batch": [track("wake-1")]}, headers=BASIC)
        assert listener.wait(5.0)


def test_status_says_where_the_log_ends_and_what_was_counted(ingest: IngestProcess) -> None:
    ingest.post("/v1/batch", {"batch": [track("counted-1")]}, headers=BASIC)
    status = ingest.client().get("/internal/status", dict)
    assert status["service"] == "ingest"
    assert status["offsets"] == {"events": len(ingest.records())}
    assert status["counts"]["accepted"] == len(ingest.events())
    assert (status["problems"], status["lag"]) == ([], {"waiting_events": 0})


def test_a_full_queue_answers_429_with_a_whole_retry_after(tmp_path: Path) -> None:
    with running(tmp_path, settings={"VIGIE_INGEST_QUEUE_EVENTS": "1"}) as process:
        batch = {"batch": [track(f"m{n}") for n in range(2_000)]}
        answers: list[httpx.Response] = []
        senders = [
            threading.Thread(target=lambda: answers.append(process.post("/v1/batch", batch, headers=BASIC)))
            for _ in range(12)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} <= {429}
        assert all(
            answer.headers["Retry-After"] == "2" and answer.json()["code"] == "LIMIT_EXCEEDED" for answer in refused
        )
        assert said(process.post("/v1/batch", batch, headers=BASIC)) == SUCCESS
        assert len(process.events()) == 2_000


def test_a_sender_that_hangs_up_in_its_body_is_a_line_in_the_log(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        with socket.create_connection(("127.0.0.1", process.port)) as sender:
            sender.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        until("it is said", lambda: "hung up" in process.output.read_text())
        assert said(process.post("/v1/batch", {"batch": [track("after")]}, headers=BASIC)) == SUCCESS
    assert "Traceback" not in process.output.read_text()


def test_it_ends_in_order_on_sigterm(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        assert said(process.post("/v1/batch", {"batch": [track("1")]}, headers=BASIC)) == SUCCESS
        assert process.stop() == 0
        process.start()
        assert process.receipt("1")["verdict"] == "accepted"


def test_a_wrong_setting_is_a_sentence_and_exit_1(tmp_path: Path) -> None:
    environment = {"VIGIE_DATA": str(tmp_path), "VIGIE_SERVICE_TOKEN": "t", "VIGIE_INGEST_WRITE_KEYS": "k=app"}
    ended = subprocess.run(
        [sys.executable, "-m", "vigie_ingest"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "holds no Vigie installation" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("failpoint", [name for name in FAILPOINTS if "settle" not in name])
def test_a_kill_anywhere_around_commit_and_acknowledgement_loses_nothing_and_doubles_nothing(
    tmp_path: Path, failpoint: str
) -> None:
    process = IngestProcess(tmp_path)
    try:
        process.start(f"{failpoint}:3")
        acknowledged = _send_until_killed(process)
        assert process.process is not None
        until("the kill", lambda: process.process is not None and process.process.poll() is not None)
        assert process.process.returncode == -signal.SIGKILL
        assert len(acknowledged) >= 2
        process.start()
        for number in range(6):
            assert said(process.post("/v1/batch", _batch(number), headers=BASIC)) == SUCCESS
        counts = Counter(event.event_id for event in process.events())
        assert counts == Counter(f"{number}-{place}" for number in range(6) for place in range(5))
        records = process.client().get("/internal/status", dict)
        assert records["offsets"] == {"events": len(process.records())}
    finally:
        process.kill()


def _batch(number: int) -> dict[str, Any]:
    return {"batch": [track(f"{number}-{place}", f"u{place}", anonymousId=f"a{place}") for place in range(5)]}


def _send_until_killed(process: IngestProcess) -> list[int]:
    acknowledged: list[int] = []
    for number in range(6):
        try:
            if process.post("/v1/batch", _batch(number), headers=BASIC).status_code == 200:
                acknowledged.append(number)
        except httpx.TransportError:
            break
    return acknowledged


def test_the_log_is_read_by_position(ingest: IngestProcess) -> None:
    cursor: Cursor = {0: ingest.client().get("/internal/status", dict)["offsets"]["events"]}
    ingest.post("/v1/batch", {"batch": [track("tail-1"), track("tail-2")]}, headers=BASIC)

    reader = SqliteLogReader(ingest.folder / "ingest.db", "events")
    assert [entry.position.number for entry in reader.read(cursor, 10)] == [cursor[0] + 1, cursor[0] + 2]
    reader.close()
