"""Other systems' senders against a running ingest: the official mParticle and CloudEvents SDKs, signed webhooks."""

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mparticle
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from mparticle.rest import ApiException
from vigie_contracts.events import Event
from vigie_contracts.instants import ClockSetting, parse_instant
from vigie_contracts.reads import CustomersAnswer, CustomersRequest, Lookup

from tests.integration.ingest_process import KEY, IngestProcess, running

BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:secret".encode()).decode()}
BEARER = {"Authorization": f"Bearer {KEY}"}
NOON_US = parse_instant("2026-03-01T12:00:00Z")
NOON_MS = NOON_US // 1_000
PUBLIC = "https://events.bank.example"
SUCCESS = (200, '{"success":true}')


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestProcess]:
    settings = {
        "VIGIE_INGEST_SOURCE_SECRETS": "hubspot=h-old,hubspot=h-new,salesforce=s-1,zoho=z-1",
        "VIGIE_INGEST_PUBLIC_URL": PUBLIC,
    }
    clock = ClockSetting(base_virtual_us=NOON_US, rate=0.0)
    with running(tmp_path_factory.mktemp("shapes"), clock=clock, settings=settings) as process:
        yield process


def post(ingest: IngestProcess, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{ingest.url}{path}", content=content, headers=headers, trust_env=False, timeout=30)


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


def of(ingest: IngestProcess, user: str) -> list[Event]:
    return [event for event in ingest.events() if event.user_id == user]


def customer(ingest: IngestProcess, namespace: str, value: str) -> Any:
    asked = CustomersRequest(lookups=[Lookup(namespace=namespace, value=value)])
    (found,) = ingest.client().post("/internal/customers", asked, CustomersAnswer).customers
    return found


def newest_refusal(ingest: IngestProcess) -> dict[str, Any]:
    found: list[dict[str, Any]] = ingest.client().get("/internal/quarantine?limit=1", list)
    return found[0]


def sdk(ingest: IngestProcess, key: str = KEY) -> mparticle.EventsApi:
    configuration = mparticle.Configuration()
    configuration.api_key, configuration.api_secret = key, "secret"
    configuration.host = f"{ingest.url}/v2"
    return mparticle.EventsApi(configuration)


def batch_of(user: str, count: int) -> mparticle.Batch:
    batch = mparticle.Batch()
    batch.environment = "production"
    batch.mp_deviceid = f"device-{user}"
    batch.user_identities = mparticle.UserIdentities(customerid=user)
    batch.user_attributes = {"$State": "Bretagne"}
    batch.consent_state = mparticle.ConsentState()
    batch.consent_state.gdpr = {"marketing": mparticle.GDPRConsentState(consented=False, document="terms")}
    events = []
    for number in range(count):
        event = mparticle.AppEvent("Transfer Made", "transaction")
        event.timestamp_unixtime_ms = NOON_MS - 60_000
        event.custom_attributes = {"amount": f"{number}.5"}
        events.append(event)
    batch.events = [
        *events,
        mparticle.SessionEndEvent(session_duration_ms=90_000),
        mparticle.ScreenViewEvent(screen_name="Help"),
    ]
    return batch


def test_the_official_mparticle_sdk_delivers_each_event_exactly_once(ingest: IngestProcess) -> None:
    api = sdk(ingest)
    assert api.upload_events(batch_of("mp-1", 20))[1] == 202
    assert api.upload_events(batch_of("mp-1", 20))[1] == 202
    assert api.bulk_upload_events([batch_of("mp-2", 3), batch_of("mp-3", 3)])[1] == 202
    first = of(ingest, "mp-1")
    assert Counter(event.name for event in first) == {
        "identify": 1,
        "transfer.made": 20,
        "session.ended": 1,
        "screen.viewed": 1,
    }
    assert sorted(e.measures["amount"] for e in first if e.name == "transfer.made") == [n * 100 + 50 for n in range(20)]
    assert {e.effective_at_us for e in first if e.name == "transfer.made"} == {NOON_US - 60_000_000}
    assert [len(of(ingest, user)) for user in ("mp-2", "mp-3")] == [6, 6]
    found = customer(ingest, "anonymous_id", "device-mp-1")
    assert found.external_id == "mp-1"
    assert [(row.name, row.value) for row in found.attributes] == [("region", "Bretagne")]
    assert {row.purpose: row.state for row in found.consents}["marketing"] == "denied"


def test_the_mparticle_sdk_is_told_of_a_wrong_key(ingest: IngestProcess) -> None:
    with pytest.raises(ApiException) as caught:
        sdk(ingest, "nobody").upload_events(batch_of("mp-4", 1))
    assert caught.value.status == 403
    assert json.loads(caught.value.body)["errors"][0]["code"] == "FORBIDDEN"
    answer = post(ingest, "/v2/events", {})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    assert of(ingest, "mp-4") == []


def test_an_unreadable_mparticle_body_is_400_in_its_form_and_a_bad_event_is_202(ingest: IngestProcess) -> None:
    answer = post(ingest, "/v2/events", b"{", **BASIC)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "BAD_REQUEST")
    bad = {"user_identities": {"customer_id": "mp-5"}, "events": [{"event_type": "dance"}]}
    assert said(post(ingest, "/v2/bulkevents/historical", [bad], **BASIC)) == (202, "")
    assert newest_refusal(ingest)["code"] == "unknown_type"


def test_a_slash_at_the_end_of_a_path_is_no_redirect(ingest: IngestProcess) -> None:
    event = {"tealium_event": "user_login", "tealium_visitor_id": "v9", "customer_id": "slash-1"}
    assert said(post(ingest, "/event/", event, **BEARER)) == SUCCESS
    assert said(post(ingest, "/v3/collect/event/", event, **BEARER)) == SUCCESS
    assert post(ingest, "/v2/events/", {}).status_code == 401
    assert post(ingest, "/v1/zoho/zoho/", {}).status_code == 401
    by_path = f"/v3/collect/integration/event/accounts/bank/profiles/main/datasources/{KEY}/"
    assert said(post(ingest, by_path, {**event, "tealium_event_id": "slash"})) == SUCCESS
    assert [event.event_id for event in of(ingest, "slash-1")][-1] == "slash"


def test_tealium_posts_bulks_and_pixels(ingest: IngestProcess) -> None:
    event = {"tealium_event": "user_login", "tealium_visitor_id": "v1", "customer_id": "tealium-1"}
    for number, path in enumerate(("/event", "/v3/collect/event", "/v3/collect/regional/event")):
        assert said(post(ingest, path, {**event, "tealium_event_id": f"t{number}"}, **BEARER)) == SUCCESS
    assert said(post(ingest, "/event", {**event, "tealium_event_id": "t3", "tealium_datasource": KEY})) == SUCCESS
    by_path = f"/v3/collect/integration/event/accounts/bank/profiles/main/datasources/{KEY}"
    assert said(post(ingest, by_path, {**event, "tealium_event_id": "t4"})) == SUCCESS
    bulk = {"shared": event, "events": [{"tealium_event_id": "t5"}, {"tealium_event_id": "t6"}]}
    assert said(post(ingest, "/v3/collect/bulk-event", bulk, **BEARER)) == SUCCESS
    query = {**event, "tealium_event_id": "t7", "writeKey": KEY}
    pixel = httpx.get(f"{ingest.url}/event", params=query, trust_env=False)
    assert (pixel.status_code, pixel.headers["content-type"], len(pixel.content)) == (200, "image/gif", 43)
    assert (
        httpx.head(f"{ingest.url}/event", params={**query, "tealium_event_id": "t8"}, trust_env=False).status_code
        == 200
    )
    found = of(ingest, "tealium-1")
    assert [(e.event_id, e.name) for e in found] == [(f"t{number}", "app.logged_in") for number in range(8)]
    assert "writeKey" not in found[-1].properties
    answer = post(ingest, "/event", event)
    assert (answer.status_code, answer.json().keys()) == (401, {"code", "message"})


def test_cloudevents_of_the_official_sdk_in_every_mode(ingest: IngestProcess) -> None:
    for number, to_http in enumerate((to_structured_event, to_binary_event)):
        attributes = {"id": str(number), "source": "/core", "type": "transfer.made", "subject": "ce-1"}
        attributes["datacontenttype"] = "application/json"
        message = to_http(CloudEvent(attributes, {"amount": 2}))
        assert said(post(ingest, "/v1/cloudevents", message.body, **message.headers, **BEARER)) == SUCCESS
        assert said(post(ingest, "/v1/cloudevents", message.body, **message.headers, **BEARER)) == SUCCESS
    raw = {"specversion": "1.0", "id": "2", "source": "/core", "type": "transfer.made", "subject": "ce-1"}
    headers = {"Content-Type": "application/cloudevents-batch+json", **BEARER}
    assert said(post(ingest, "/v1/cloudevents", [raw, {**raw, "id": ""}], **headers)) == SUCCESS
    assert [e.event_id for e in of(ingest, "ce-1")] == ["/core#0", "/core#1", "/core#2"]
    assert newest_refusal(ingest)["reason"] == "a CloudEvent needs the attribute 'id'"
    assert post(ingest, "/v1/cloudevents", raw, **BEARER).status_code == 415


def test_cloudevents_senders_may_ask_whether_they_may(ingest: IngestProcess) -> None:
    headers = {"WebHook-Request-Origin": "core.bank.example"}
    answer = httpx.options(f"{ingest.url}/v1/cloudevents", headers=headers, trust_env=False)
    assert (answer.status_code, answer.headers["webhook-allowed-origin"]) == (200, "core.bank.example")


def hubspot(ingest: IngestProcess, body: Any, secret: str = "h-new", shift_ms: int = 0) -> httpx.Response:
    raw = json.dumps(body).encode()
    stamp = str(time.time_ns() // 1_000_000 + shift_ms)
    text = f"POST{PUBLIC}/v1/hubspot/hubspot".encode() + raw + stamp.encode()
    signature = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
    return post(ingest, "/v1/hubspot/hubspot", raw, **headers)


def test_hubspots_signed_webhooks_become_acts_of_the_banks_customer(ingest: IngestProcess) -> None:
    base = {"portalId": 1, "occurredAt": NOON_MS, "objectId": 123, "subscriptionType": "contact.propertyChange"}
    ticket = {"subscriptionType": "ticket.associationChange", "associationType": "TICKET_TO_CONTACT"}
    body = [
        {**base, "eventId": 1, "propertyName": "customer_id", "propertyValue": "hub-1"},
        {**base, "eventId": 2, "propertyName": "hs_email_last_open_date", "propertyValue": NOON_MS - 1_000},
        {**base, "eventId": 3, **ticket, "fromObjectId": 77, "toObjectId": 123},
        {**base, "eventId": 4, "subscriptionType": "company.creation"},
    ]
    assert [said(hubspot(ingest, body, secret)) for secret in ("h-new", "h-old")] == [SUCCESS, SUCCESS]
    found = customer(ingest, "user_id", "hub-1")
    assert found.customer_id == customer(ingest, "anonymous_id", "hubspot:123").customer_id
    names = [event.name for event in ingest.events() if event.anonymous_id == "hubspot:123"]
    assert names == ["identify", "message.opened", "ticket.opened"]
    assert newest_refusal(ingest)["code"] == "no_customer"


@pytest.mark.parametrize(("secret", "shift_ms"), [("wrong", 0), ("h-new", -301_000)])
def test_hubspots_signature_must_hold_and_be_fresh(ingest: IngestProcess, secret: str, shift_ms: int) -> None:
    answer = hubspot(ingest, [], secret, shift_ms)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


def test_salesforces_outbound_message_is_acknowledged_in_soap(ingest: IngestProcess) -> None:
    body = b"""<?xml version="1.0" encoding="UTF-8"?>
    <soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
     <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
      <Notification><Id>04l1</Id><sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">
       <sf:Id>0035g00000ABCdEAAX</sf:Id><sf:Customer_Id__c>sf-1</sf:Customer_Id__c></sObject></Notification>
     </notifications></soapenv:Body></soapenv:Envelope>"""
    answer = post(ingest, "/v1/salesforce/salesforce?token=s-1", body, **{"Content-Type": "text/xml"})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/xml")
    assert "<Ack>true</Ack>" in answer.text
    assert [event.event_id for event in of(ingest, "sf-1")] == ["04l1"]
    assert post(ingest, "/v1/salesforce/salesforce?token=no", body).status_code == 401


def test_marketing_clouds_notifications_are_verified_by_their_signature(ingest: IngestProcess) -> None:
    mail = {
        "eventCategoryType": "EngagementEvents.EmailOpen",
        "timestampUTC": NOON_MS,
        "composite": {"subscriberId": "88"},
    }
    body = json.dumps([mail]).encode()
    signature = base64.b64encode(hmac.new(b"s-1", body, hashlib.sha256).digest()).decode()
    path = "/v1/salesforce/salesforce"
    assert said(post(ingest, path, body, **{"x-sfmc-ens-signature": signature})) == SUCCESS
    assert post(ingest, path, body + b" ", **{"x-sfmc-ens-signature": signature}).status_code == 401
    found = [event.name for event in ingest.events() if event.anonymous_id == "salesforce:subscriber:88"]
    assert found == ["message.opened"]
    asked = {"callbackId": "c", "verificationKey": "k"}
    assert said(post(ingest, path, asked)) == SUCCESS


def test_zohos_notifications_carry_the_channels_token(ingest: IngestProcess) -> None:
    body = {
        "server_time": NOON_MS,
        "module": "Contacts",
        "ids": ["9"],
        "operation": "update",
        "token": "z-1",
        "affected_values": [{"record_id": "9", "values": {"Customer_Id": "zoho-1"}}],
    }
    assert said(post(ingest, "/v1/zoho/zoho", body)) == SUCCESS
    assert [event.anonymous_id for event in of(ingest, "zoho-1")] == ["zoho:9"]
    answer = post(ingest, "/v1/zoho/zoho", {**body, "token": "no"})
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


def test_a_source_without_a_secret_takes_no_webhooks(ingest: IngestProcess) -> None:
    answer = post(ingest, "/v1/zoho/app", {"token": ""})
    assert answer.status_code == 401
    assert "VIGIE_INGEST_SOURCE_SECRETS" in answer.json()["message"]


def test_every_shape_survives_a_restart(tmp_path: Path) -> None:
    with running(tmp_path, clock=ClockSetting(base_virtual_us=NOON_US, rate=0.0)) as process:
        assert sdk(process).upload_events(batch_of("again", 5))[1] == 202
        process.kill()
        process.start()
        assert sdk(process).upload_events(batch_of("again", 5))[1] == 202
        assert len(of(process, "again")) == 8
