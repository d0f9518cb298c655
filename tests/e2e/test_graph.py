"""The graph as front ends and partners meet it: a whole Vigie with a simulated bank and a model that was promoted."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.browser import Tab, browser_tab
from tests.e2e.system import ROOT, System
from tests.servers import until

CUSTOMERS = 900
HEARTBEAT_SECONDS = 1
STREAM = """subscription($after: Cursor, $filter: ScoreUpdateFilter) {
  scoreUpdated(after: $after, filter: $filter) {
    __typename
    ... on StreamHeartbeat { cursor }
    ... on StreamGap { cursor reason }
    ... on ScoreUpdate {
      cursor customerId customer { externalId } current { __typename ... on ChurnScore { probability band } }
    }
  }
}"""

EXECUTE = "document.querySelector('.graphiql-execute-button')"
ANSWER = "document.querySelector('.graphiql-response .CodeMirror').CodeMirror.getValue()"
WRONG_TOKEN = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, str]]:
    """A running system with a champion, and the stream's cursor from before its first score."""
    environment, folder = {"VIGIE_GATEWAY_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}, tmp_path_factory.mktemp("bank")
    arguments = ("--feature-repo", str(shutil.copytree(ROOT / "feature_repo", folder / "feature_repo")))
    with System(folder, arguments, environment) as system:
        system.vigie("simulate", "--customers", str(CUSTOMERS), "--days", "150", "--activity", "0.4", "--seed", "5")
        first = next(sse(system))
        assert first["__typename"] == "StreamHeartbeat"
        system.vigie("train", "churn")
        system.vigie("promote", "vigie-churn-closure", "--override", "a test wants a model, not a good one")
        until("every customer has an assessment", lambda: scored(system), 120)
        yield system, first["cursor"]


def scored(system: System) -> bool:
    answer = system.graphql("{ customers(first: 1) { totalCount edges { node { churn { __typename } } } } }")
    edges = answer["data"]["customers"]["edges"]
    return bool(edges) and edges[0]["node"]["churn"]["__typename"] == "ChurnScore"


def headers(system: System, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {system.addresses['token']}", **more}


def sse(system: System, after: str | None = None, **filters: Any) -> Iterator[dict[str, Any]]:
    """Items over graphql-sse."""
    body = {"query": STREAM, "variables": {"after": after, "filter": filters or None}}
    url = f"{system.addresses['gateway']}/graphql"
    with httpx.stream(
        "POST", url, json=body, headers=headers(system, Accept="text/event-stream"), timeout=30, trust_env=False
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data:") and len(line) > 6:
                yield json.loads(line[5:])["data"]["scoreUpdated"]


def ws(system: System, after: str | None = None, **filters: Any) -> Iterator[dict[str, Any]]:
    """Items over graphql-transport-ws."""
    url = system.addresses["gateway"].replace("http", "ws", 1) + "/graphql"
    with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": headers(system)}))
        assert json.loads(socket.recv(10))["type"] == "connection_ack"
        payload = {"query": STREAM, "variables": {"after": after, "filter": filters or None}}
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        while True:
            message = json.loads(socket.recv(30))
            if message["type"] == "next":
                yield message["payload"]["data"]["scoreUpdated"]


def updates(items: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        if item["__typename"] == "ScoreUpdate":
            found.append(item)
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {len(found)} updates")


def test_the_work_list_is_ordered_by_risk_and_pages_by_keyset(bank):
    system, _ = bank
    query = """query($after: Cursor) { customers(first: 40, after: $after) {
        edges { node { id churn { ... on ChurnScore { probability } } } }
        pageInfo { hasNextPage endCursor } totalCount } }"""

    def walk() -> list[tuple[str, float | None]] | None:
        """Everybody, page by page; None when scoring moved somebody meanwhile."""
        seen: list[tuple[str, float | None]] = []
        after, more = None, True
        while more:
            page = system.graphql(query, after=after)["data"]["customers"]
            seen += [(edge["node"]["id"], (edge["node"]["churn"] or {}).get("probability")) for edge in page["edges"]]
            after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        return seen if len({one for one, _ in seen}) == len(seen) == page["totalCount"] > CUSTOMERS // 2 else None

    seen = until("a walk meets everybody once", walk, 60)
    known = [probability for _, probability in seen if probability is not None]
    assert known == sorted(known, reverse=True)
    assert len(known) > CUSTOMERS // 2
    assert all(0 <= probability <= 1 for probability in known)


def test_the_first_query_of_the_readme_is_answered_as_it_is_written_there(bank, repository):
    system, _ = bank
    command = re.search(r"```sh\n(curl .*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert command is not None
    line = command[1].replace("http://", "").replace("localhost:8700", system.addresses["gateway"])
    environment = {**os.environ, "TOKEN": system.addresses["token"], "no_proxy": "*"}
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, env=environment, check=True)
    (edge,) = json.loads(done.stdout)["data"]["customers"]["edges"]
    assert edge["node"]["externalId"].startswith("sim-")
    assert all(edge["node"]["churn"]["reasons"][place]["text"] for place in range(3))


def test_every_query_of_the_documentation_is_answered_without_an_error(bank, repository):
    system, _ = bank
    blocks = re.findall(r"```graphql\n(.*?)```", (repository / "docs/graphql.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    for query in blocks[:-1]:
        answer = system.graphql(query)
        assert "errors" not in answer, answer["errors"]
        assert all(value is not None for value in answer["data"].values()), query
    live = {"query": blocks[-1], "variables": {"after": None}}
    url = f"{system.addresses['gateway']}/graphql"
    wanted = headers(system, Accept="text/event-stream")
    with httpx.stream("POST", url, json=live, headers=wanted, timeout=30, trust_env=False) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("data:") and len(line) > 6)
    assert json.loads(first[5:])["data"]["scoreUpdated"]["__typename"] == "StreamHeartbeat"


def test_segments_are_previewed_defined_and_followed_as_their_page_says(bank, repository):
    system, _ = bank
    blocks = re.findall(r"```graphql\n(.*?)```", (repository / "docs/segments.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    for query in blocks:
        answer = system.graphql(query)
        assert "errors" not in answer, answer["errors"]
        assert all(value is not None for value in answer["data"].values()), query
    preview = """query($d: String!, $n: Int!) { segmentPreview(definition: $d, first: $n) { size complete
        sample { id externalId segmentHistory { edges { node { key segment { size } } } } }
        overlaps { size segment { key } }
        problems { message ... on DefinitionError { position suggestions } } } }"""
    found = system.graphql(preview, d="tenure_days is not null", n=50)["data"]["segmentPreview"]
    assert (len(found["sample"]), found["complete"], found["problems"]) == (50, True, [])
    assert all(one["segmentHistory"]["edges"] for one in found["sample"])
    tiers = {"tier_private", "tier_affluent", "tier_core", "tier_basic"}
    assert sum(row["size"] for row in found["overlaps"] if row["segment"]["key"] in tiers) == found["size"]
    define = """mutation($i: SegmentDefineInput!) { segmentDefine(input: $i) { changed estimatedSize
        segment { version } errors { code message path } } }"""
    wanted = {"key": "e2e", "name": "All", "definition": "tenure_days is not null", "expectedVersion": 0}
    first, again = (system.graphql(define, i=wanted)["data"]["segmentDefine"] for _ in range(2))
    assert (first["changed"], again["changed"], again["segment"], again["errors"]) == (True, False, {"version": 1}, [])
    other = system.graphql(define, i={**wanted, "definition": ""})["data"]["segmentDefine"]
    assert [(error["code"], error["path"]) for error in other["errors"]] == [("CONFLICT", ["input"])]
    sized = '{ segment(key: "e2e") { size evaluating } }'
    until("everybody was looked at", lambda: not system.graphql(sized)["data"]["segment"]["evaluating"])
    assert system.graphql(sized)["data"]["segment"]["size"] == first["estimatedSize"] == found["size"]
    wrong = system.graphql(preview, d="tenure_day is null", n=1)["data"]["segmentPreview"]
    assert (wrong["size"], wrong["problems"][0]["position"]) == (None, 0)
    assert wrong["problems"][0]["suggestions"][0] == "tenure_days"
    shown = json.loads(system.vigie("segments", "show", "e2e", "--json").stdout)
    assert shown["segment"]["size"] == found["size"]
    calls = []
    for count in (3, 60):
        before = system.status("gateway")["counts"]
        system.graphql(preview, d="tenure_days is not null", n=count)
        after = system.status("gateway")["counts"]
        calls.append({name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)})
    assert calls[0] == calls[1]
    assert sum(calls[0].values()) <= 4
    assert "is retired" in system.vigie("segments", "retire", "e2e").stdout


def test_a_stream_whose_filter_lets_nothing_through_still_tells_how_far_it_is(bank):
    system, _ = bank
    query = "{ customers(first: 2) { edges { node { id } } } }"
    watched, busy = (edge["node"]["id"] for edge in system.graphql(query)["data"]["customers"]["edges"])
    refresh = "mutation($id: ID!) { customerScoreRefresh(id: $id) { errors { message } } }"
    stop = threading.Event()

    def keep_scoring() -> None:
        while not stop.is_set():
            system.graphql(refresh, id=busy)

    scorer = threading.Thread(target=keep_scoring)
    scorer.start()
    try:
        items = sse(system, customerIds=[watched])
        told = [next(items) for _ in range(4)]
    finally:
        stop.set()
        scorer.join()
    assert {item["__typename"] for item in told} == {"StreamHeartbeat"}
    assert len({item["cursor"] for item in told}) > 1


def test_a_quarantined_event_is_found_mended_and_released(bank):
    system, _ = bank
    bad = {"type": "track", "event": "transfer.made", "userId": "sim-000001", "messageId": "mend-me",
           "properties": {"amount": "a lot"}}  # fmt: skip
    system.send(bad)
    receipt = "query($id: String!) { receipt(eventId: $id) { verdict code reason source effectiveAt } }"
    told = system.graphql(receipt, id="mend-me")["data"]["receipt"]
    assert (told["verdict"], told["code"], told["source"]) == ("QUARANTINED", "bad_number", "default")
    listed = json.loads(system.vigie("quarantine", "list", "--json", "--code", "bad_number").stdout.splitlines()[0])
    assert (listed["event_id"], listed["released_at"]) == ("mend-me", None)
    assert "a lot" in system.vigie("quarantine", "show", str(listed["id"])).stdout
    still = system.vigie("quarantine", "release", str(listed["id"]), check=False)
    assert (still.returncode, "still in quarantine (bad_number)" in still.stdout) == (1, True)

    release = """mutation($number: Int!, $event: String) { eventQuarantineRelease(number: $number, event: $event) {
        already receipt { verdict effectiveAt } errors { code message } } }"""
    mended = json.dumps({**bad, "properties": {"amount": 12.5, "direction": "out"}})
    told = system.graphql(release, number=listed["id"], event=mended)["data"]["eventQuarantineRelease"]
    assert (told["errors"], told["receipt"]["verdict"]) == ([], "ACCEPTED")
    again = system.graphql(release, number=listed["id"])["data"]["eventQuarantineRelease"]
    assert (again["errors"], again["receipt"]["verdict"], again["already"]) == ([], "ACCEPTED", True)
    query = """{ quarantine(first: 1, code: "bad_number", state: RELEASED) { edges { node { number eventId logNumber } }
        pageInfo { hasNextPage } } quarantineCounts { source code waiting released } }"""
    told = system.graphql(query)["data"]
    (edge,) = told["quarantine"]["edges"]
    assert (edge["node"]["number"], edge["node"]["eventId"]) == (listed["id"], "mend-me")
    assert edge["node"]["logNumber"] > 0
    assert {"source": "default", "code": "bad_number", "waiting": 0, "released": 1} in told["quarantineCounts"]
    assert "released" in system.vigie("quarantine", "list").stdout
    assert system.graphql(receipt, id="nobody sent this")["data"]["receipt"]["verdict"] == "UNKNOWN"


def test_a_merge_is_explained_taken_back_once_and_restored(bank):
    system, _ = bank
    system.send(
        {"type": "identify", "userId": "walker-4", "anonymousId": "tablet-4", "messageId": "i-1"},
        {"type": "identify", "userId": "walker-5", "anonymousId": "tablet-4", "messageId": "i-2"},
    )
    query = """query($id: String!) { customer(by: { externalId: $id }) { id identityExplanation { refusedMore
        members { memberId mintedAt identities { namespace value shared } }
        merges { number rule memberIds stands undoneNumber reason event { eventId source kind logNumber } }
        refused { rule memberIds reason times eventId source } } } }"""

    def explained(user: str) -> tuple[str, dict[str, Any]]:
        found = system.graphql(query, id=user)["data"]["customer"]
        return found["id"], found["identityExplanation"]

    customer, told = explained("walker-4")
    assert [[one["value"] for one in member["identities"]] for member in told["members"]] == [["walker-4"], []]
    assert told["members"][0]["memberId"] == customer
    (merge,) = told["merges"]
    members = [member["memberId"] for member in told["members"]]
    assert (merge["rule"], merge["memberIds"], merge["stands"]) == ("IDENTIFIED", members, True)
    assert merge["event"] == {
        "eventId": "i-1", "source": "default", "kind": "identify", "logNumber": merge["number"] + 1,
    }  # fmt: skip
    other, told = explained("walker-5")
    (refusal,) = told["refused"]
    assert refusal["memberIds"] == [members[1], other]
    assert (refusal["times"], refusal["eventId"], refusal["source"]) == (1, "i-2", "default")
    assert refusal["reason"].startswith("the anonymous id is a shared device")
    assert system.graphql(query, id="nobody")["data"]["customer"] is None

    undo = """mutation($number: Int!, $reason: String!, $key: String) {
        identityMergeUndo(number: $number, reason: $reason, idempotencyKey: $key) { number already undoneAt
        moves { memberId fromCustomerId toCustomerId } errors { code message path } } }"""
    done, again = (
        system.graphql(undo, number=merge["number"], reason="it was lent", key="e2e")["data"]["identityMergeUndo"]
        for _ in range(2)
    )
    assert (done["errors"], done["already"]) == ([], False)
    assert again == {**done, "already": True}
    assert done["moves"] == [{"memberId": members[1], "fromCustomerId": customer, "toCustomerId": members[1]}]
    (merge,) = explained("walker-4")[1]["merges"]
    assert (merge["stands"], merge["undoneNumber"], merge["reason"]) == (False, done["number"], "it was lent")

    def refused(number: int, reason: str, key: str | None = None) -> tuple[str, list[str]]:
        (error,) = system.graphql(undo, number=number, reason=reason, key=key)["data"]["identityMergeUndo"]["errors"]
        return error["code"], error["path"]

    assert refused(merge["number"], "again") == ("CONFLICT", ["number"])
    assert refused(merge["number"], " ") == ("VALIDATION_FAILED", ["reason"])
    assert refused(merge["number"] + 1, "an event") == ("NOT_FOUND", ["number"])
    assert refused(done["number"], "another", "e2e") == ("CONFLICT", ["number"])
    restored = system.graphql(undo, number=done["number"], reason="it was hers")["data"]["identityMergeUndo"]
    assert restored["errors"] == []
    assert explained("walker-4")[1]["merges"][0]["stands"]
    shown = system.vigie("identity", "explain", "--customer", "walker-5").stdout
    assert "Refused" in shown


def test_explanations_of_many_customers_are_one_call(bank):
    system, _ = bank
    query = """query($n: Int!) { customers(first: $n) { edges { node {
        identityExplanation { members { mintedAt } } } } } }"""
    calls = []
    for count in (3, 80):
        before = system.status("gateway")["counts"]
        edges = system.graphql(query, n=count)["data"]["customers"]["edges"]
        assert len([edge for edge in edges if edge["node"]["identityExplanation"]["members"]]) == count
        after = system.status("gateway")["counts"]
        calls.append({name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)})
    assert calls[0] == calls[1]
    assert calls[0]["ingest/internal/identity/explain"] == 1


def test_reasons_come_in_both_languages_with_the_same_codes(bank):
    system, _ = bank
    query = """{ customers(first: 1) { edges { node { churn { ... on ChurnScore {
        band reasons { code direction english: text(locale: EN) french: text(locale: FR) contribution } } } } } } }"""
    churn = system.graphql(query)["data"]["customers"]["edges"][0]["node"]["churn"]
    assert 1 <= len(churn["reasons"]) <= 5
    for reason in churn["reasons"]:
        assert reason["english"] != reason["french"]
        assert "{" not in reason["english"] + reason["french"]
        assert (reason["contribution"] > 0) == (reason["direction"] == "INCREASES_RISK")


def test_a_query_for_many_customers_costs_as_many_service_calls_as_for_few(bank):
    system, _ = bank
    query = """query($n: Int!) { customers(first: $n) { edges { node { externalId supportModel { key }
        engagement { score } churn { __typename } nextBestOffers { __typename }
        segments { edges { node { since } } } } } } }"""

    def calls(count: int) -> dict[str, int]:
        before = system.status("gateway")["counts"]
        answer = system.graphql(query, n=count)
        assert len(answer["data"]["customers"]["edges"]) == count
        after = system.status("gateway")["counts"]
        return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}

    few, many = calls(3), calls(60)
    assert few == many
    assert sum(many.values()) <= 10


def test_a_stream_resumes_by_cursor_over_both_transports_and_across_a_restart(bank):
    system, start = bank
    first = updates(sse(system, start), 6)
    assert len({item["cursor"] for item in first}) == 6
    assert all(item["current"]["__typename"] == "ChurnScore" for item in first)
    assert updates(ws(system, first[1]["cursor"]), 4) == first[2:]
    kill(system, "gateway")
    until("the gateway is back", lambda: answers(system, "gateway"), 60)
    assert updates(sse(system, first[1]["cursor"]), 4) == first[2:]


def test_a_stream_can_be_filtered_by_customer_and_refuses_a_delta_below_the_logs_own(bank):
    system, start = bank
    wanted = updates(sse(system, start), 3)[2]
    found = updates(sse(system, start, customerIds=[wanted["customerId"]]), 1)[0]
    assert found == wanted
    body = {"query": STREAM, "variables": {"filter": {"minDelta": 0.01}}}
    url = f"{system.addresses['gateway']}/graphql"
    with httpx.stream(
        "POST", url, json=body, headers=headers(system, Accept="text/event-stream"), trust_env=False
    ) as answer:
        assert "minDelta must be at least 0.05" in "".join(answer.iter_text())


def test_without_scoring_everything_else_still_answers(bank):
    system, _ = bank
    known = system.graphql("{ customers(first: 1) { edges { node { externalId } } } }")
    external = known["data"]["customers"]["edges"][0]["node"]["externalId"]
    query = """query($id: String!) { customer(by: { externalId: $id }) {
        externalId profile { displayName } engagement { activeDays } churn { __typename } } }"""
    kill(system, "scoring")
    answer = system.graphql(query, id=external)
    found = answer["data"]["customer"]
    assert found["externalId"] == external
    assert found["profile"]["displayName"].endswith("(simulated)")
    assert found["engagement"]["activeDays"] >= 0
    assert found["churn"] is None
    assert [(error["path"], error["extensions"]["code"]) for error in answer["errors"]] == [
        (["customer", "churn"], "UNAVAILABLE")
    ]
    until("scoring is back", lambda: answers(system, "scoring"), 60)
    assert until("the score is back", lambda: system.graphql(query, id=external)["data"]["customer"]["churn"], 60)


@pytest.mark.parametrize(
    ("more", "body", "status"),
    [
        ({"Authorization": "Bearer wrong"}, {"query": "{ viewer { clientName } }"}, 401),
        ({"Origin": "https://evil.example"}, {"query": "{ viewer { clientName } }"}, 403),
        ({}, {"query": "{ viewer {"}, 400),
        ({}, {"query": "{ nothing }"}, 422),
        ({}, {"query": "{ viewer { clientName } }"}, 200),
    ],
)
def test_http_says_by_its_status_what_was_wrong(bank, more, body, status):
    system, _ = bank
    accept = "application/graphql-response+json"
    answer = httpx.post(
        f"{system.addresses['gateway']}/graphql",
        json=body,
        headers=headers(system, Accept=accept, **{**more}),
        trust_env=False,
    )
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(accept)
    assert ("errors" in answer.json()) == (status != 200)


def test_a_mutation_by_get_is_refused_with_405(bank):
    system, _ = bank
    answer = httpx.get(
        f"{system.addresses['gateway']}/graphql",
        params={"query": 'mutation { customerScoreRefresh(id: "x") { errors { code } } }'},
        headers=headers(system),
        trust_env=False,
    )
    assert answer.status_code == 405


def test_a_websocket_without_the_token_is_closed(bank):
    system, _ = bank
    url = system.addresses["gateway"].replace("http", "ws", 1) + "/graphql"
    with connect(url, subprotocols=["graphql-transport-ws"], proxy=None) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": {}}))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


def test_an_event_changes_what_the_graph_says_within_seconds(bank):
    system, _ = bank
    query = """{ customer(by: { externalId: "walker-1" }) { anonymous engagement(window: D1) { activeDays }
        timeline(first: 1, kinds: [MICRO_CONVERSION]) { edges { node { summary } } }
        profile { attributes { name text } } } }"""
    assert system.graphql(query)["data"]["customer"] is None
    system.send(
        {"type": "identify", "userId": "walker-1", "messageId": "w-1", "traits": {"ageBand": "25-34"}},
        {"type": "track", "userId": "walker-1", "messageId": "w-2", "event": "Logged In"},
    )
    found = until("the event is folded", lambda: _active(system.graphql(query)["data"]["customer"]), 20)
    assert found["timeline"]["edges"][0]["node"]["summary"] == "app logged in"
    assert found["profile"]["attributes"] == [{"name": "age_band", "text": "25-34"}]


def test_a_source_is_made_limited_rotated_and_disabled_through_the_graph(bank):
    system, _ = bank
    made = system.graphql(
        """mutation { sourceCreate(input: {sourceId: "branch", origins: ["https://a.example"], eventsPerSecond: 5}) {
        writeKey source { origins eventsPerSecond weight } errors { code } } }"""
    )["data"]["sourceCreate"]
    assert made["source"] == {"origins": ["https://a.example"], "eventsPerSecond": 5, "weight": 1}

    def sent(key: str, event_id: str) -> int:
        body = {"type": "page", "userId": "walker-3", "messageId": event_id}
        url = f"{system.addresses['ingest']}/v1/page"
        return httpx.post(url, json=body, auth=(key, ""), trust_env=False, timeout=30).status_code

    system.send({"type": "track", "userId": "walker-6", "messageId": "b-1"})
    by_source = """query($source: String) { receipt(eventId: "b-1", source: $source) { source verdict } }"""
    bad = {"source": "default", "verdict": "QUARANTINED"}

    def told(source: str | None) -> dict[str, str]:
        return system.graphql(by_source, source=source)["data"]["receipt"]

    assert sent(made["writeKey"], "b-1") == 200
    assert told("branch") == told(None) == {"source": "branch", "verdict": "ACCEPTED"}
    assert told("default") == bad
    release = """mutation($n: Int!) { eventQuarantineRelease(number: $n) { receipt { source verdict } } }"""
    waiting = '{ quarantine(source: "default", code: "no_event_name") { edges { node { number eventId } } } }'
    (edge,) = system.graphql(waiting)["data"]["quarantine"]["edges"]
    released = system.graphql(release, n=edge["node"]["number"])["data"]["eventQuarantineRelease"]
    assert released["receipt"] == bad
    rotate = """mutation { sourceKeyRotate(sourceId: "branch", overlapSeconds: 0) {
        writeKey source { keys { expired } } errors { code } } }"""
    rotated = system.graphql(rotate)["data"]["sourceKeyRotate"]
    assert rotated["source"]["keys"] == [{"expired": True}, {"expired": False}]
    assert (sent(made["writeKey"], "b-2"), sent(rotated["writeKey"], "b-2")) == (401, 200)
    change = """mutation { sourceUpdate(input: {sourceId: "branch", eventsPerSecond: null}) {
        source { origins eventsPerSecond } errors { code } } }"""
    assert system.graphql(change)["data"]["sourceUpdate"]["source"] == {
        "origins": ["https://a.example"],
        "eventsPerSecond": None,
    }
    off = "mutation($id: String!) { sourceDisable(sourceId: $id) { source { disabledAt } errors { code path } } }"
    assert system.graphql(off, id="branch")["data"]["sourceDisable"]["source"]["disabledAt"]
    assert sent(rotated["writeKey"], "b-3") == 403
    assert system.graphql(off, id="nobody")["data"]["sourceDisable"] == {
        "source": None,
        "errors": [{"code": "NOT_FOUND", "path": ["sourceId"]}],
    }
    listed = system.graphql("{ sources { sourceId keys { bootstrap } } }")["data"]["sources"]
    assert [row["sourceId"] for row in listed] == ["branch", "default"]
    assert listed[1]["keys"] == [{"bootstrap": True}]


def _active(customer: dict[str, Any] | None) -> dict[str, Any] | None:
    active = customer and customer["engagement"] and customer["engagement"]["activeDays"] == 1
    return customer if active else None


def answers(system: System, service: str) -> bool:
    try:
        return httpx.get(f"{system.addresses[service]}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def kill(system: System, service: str) -> None:
    """SIGKILL a service that `vigie up` started; its supervisor starts it again."""
    found = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _is(path, f"vigie_{service}", str(system.data))
    ]
    assert len(found) == 1
    os.kill(found[0], signal.SIGKILL)
    until(f"{service} is gone", lambda: not answers(system, service), 10)


def _is(path: Path, module: str, data: str) -> bool:
    try:
        command = (path / "cmdline").read_bytes().split(b"\0")
        environment = (path / "environ").read_bytes()
    except OSError:
        return False
    return module.encode() in command and f"VIGIE_DATA={data}\0".encode() in environment


def test_graphiql_in_a_browser_asks_for_the_token_runs_an_example_and_streams(bank, tmp_path):
    system, start = bank
    gateway = system.addresses["gateway"]
    with browser_tab(tmp_path) as tab:
        tab.send("Page.navigate", url=f"{gateway}/")
        give_token(tab, "wrong")
        tab.wait_for("document.querySelector('#problem').textContent.includes('refused this token')")
        give_token(tab, system.addresses["token"])
        tab.wait_for(f"{EXECUTE} && document.querySelectorAll('.graphiql-tab').length === 5")
        tab.evaluate(f"{EXECUTE}.click()")
        tab.wait_for(f"{ANSWER}.includes('ChurnScore')")
        customers = json.loads(tab.evaluate(ANSWER))["data"]["customers"]
        assert len(customers["edges"]) == 5
        assert customers["edges"][0]["node"]["profile"]["displayName"].endswith("(simulated)")
        tab.wait_for("document.querySelector('.graphiql-response').innerText.includes('displayName')")

        stream = STREAM.replace("after: $after", f'after: "{start}"').replace("($after: Cursor, ", " Resumed(")
        tab.evaluate(f"document.querySelector('.graphiql-query-editor .CodeMirror').CodeMirror.setValue({stream!r})")
        tab.wait_for("document.querySelector('.graphiql-tab-active').innerText.includes('Resumed')")
        tab.evaluate(f"{EXECUTE}.click()")
        tab.wait_for(f"(JSON.parse({ANSWER} || '{{}}').extensions?.earlier ?? []).length >= 5")
        earlier = json.loads(tab.evaluate(ANSWER))["extensions"]["earlier"]
        assert "ScoreUpdate" in {told["scoreUpdated"]["__typename"] for told in earlier}
        tab.wait_for(f"{EXECUTE}.ariaLabel.startsWith('Stop')")
        tab.evaluate(f"{EXECUTE}.click()")
        tab.wait_for(f"{EXECUTE}.ariaLabel.startsWith('Execute')")

        assert tab.evaluate("Object.keys(localStorage)") == []
        addresses = {request["request"]["url"] for request in tab.told("Network.requestWillBeSent")}
        assert {url for url in addresses if not url.startswith((f"{gateway}/", "data:"))} == set()
        assert {entry["entry"]["text"] for entry in tab.told("Log.entryAdded")} == {WRONG_TOKEN}
        assert tab.told("Runtime.exceptionThrown") == []


def give_token(tab: Tab, token: str) -> None:
    tab.wait_for("document.activeElement?.id === 'token'")
    tab.type(token)
    tab.evaluate("document.querySelector('#ask button').click()")


NEW_ROW = (
    '{ name = "tutorials_in_7d", measure = "count", events = ["article.read"], window_days = 7,'
    ' where = { topic = "fees" }, description = "Articles on fees read within 7 days", concept = "learning" },\n]'
)


def test_a_new_row_is_folded_while_all_goes_on_and_the_engines_agree_on_it(bank, tmp_path):
    system, _ = bank
    table = system.folder / "feature_repo/features.toml"
    declared = table.read_text()
    try:
        table.write_text(declared.replace('name = "login_count_7d"', 'name = "logins_in_7d"'))
        refused = system.vigie("features", "apply", check=False)
        assert refused.returncode == 1
        assert "serves and reads login_count_7d; leave the rows in the table until" in " ".join(refused.stderr.split())
        elsewhere = system.vigie("features", "apply", "--feature-repo", str(ROOT / "feature_repo"), check=False)
        assert elsewhere.returncode == 1
        assert f"the Vigie that runs reads {table.parent}, not" in elsewhere.stderr.replace("\n", " ")
        head, _, _ = declared.rpartition("]")
        table.write_text(head + NEW_ROW)
        assert "features are live." in system.vigie("features", "apply").stdout
        answer = system.graphql('{ features(concept: "learning") { key live } }')["data"]["features"]
        assert {"key": "tutorials_in_7d", "live": True} in answer
        compared = system.vigie("features", "parity", "--json", "--customers", "60", "--scores", "200").stdout
        found = [json.loads(line) for line in compared.splitlines()]
        assert [one["differences"] for one in found] == [0, 0, 0]
        assert min(one["rows"] for one in found) > 0
        assert found[1]["values"] == found[1]["rows"] * len(answer_keys(system))
        metrics = httpx.get(f"{system.addresses['features']}/metrics", trust_env=False).text
        assert "vigie_parity_mismatches 0.0" in metrics
        assert f"vigie_parity_vectors {float(sum(one['rows'] for one in found))}" in metrics
    finally:
        table.write_text(declared)
        assert "features are live." in system.vigie("features", "apply").stdout


def answer_keys(system):
    return [row["key"] for row in system.graphql("{ features { key } }")["data"]["features"]]
