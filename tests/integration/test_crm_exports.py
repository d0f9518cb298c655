"""The mappings of CRM exports, run on their examples, and webhooks that tell the same again."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from vigie_cli.importing import run
from vigie_contracts.instants import ClockSetting, parse_instant
from vigie_contracts.reads import CustomersAnswer, CustomersRequest, Lookup

from tests.integration.ingest_process import ROOT, IngestProcess, running

EXAMPLES = ROOT / "examples" / "crm"
NOON_US = parse_instant("2026-03-01T12:00:00Z")


@pytest.fixture
def ingest(tmp_path: Any) -> Iterator[IngestProcess]:
    clock = ClockSetting(base_virtual_us=NOON_US, rate=0.0)
    settings = {"VIGIE_INGEST_SOURCE_SECRETS": "salesforce=s-1"}
    with running(tmp_path, clock=clock, settings=settings) as process:
        yield process


def names_of(ingest: IngestProcess, person: str) -> list[str]:
    return sorted(event.name for event in ingest.events() if event.anonymous_id == person and event.kind == "track")


def customer(ingest: IngestProcess, user: str) -> Any:
    asked = CustomersRequest(lookups=[Lookup(namespace="user_id", value=user)])
    (found,) = ingest.client().post("/internal/customers", asked, CustomersAnswer).customers
    return found


def test_hubspots_export_becomes_profiles_and_acts(ingest: IngestProcess) -> None:
    report = run(EXAMPLES / "hubspot", EXAMPLES / "hubspot.toml", ingest.client())
    assert [str(refusal) for refusal in report.refusals] == [
        "tickets.csv, row 3, column user_id: is empty: the row belongs to nobody",
    ]
    acts = ["message.clicked", "message.opened", "support.contacted", "ticket.opened", "ticket.resolved"]
    assert names_of(ingest, "hubspot:123") == acts
    assert names_of(ingest, "hubspot:789") == ["message.opened"]
    opened = next(e for e in ingest.events() if e.event_id == "ticket:77:opened:hubspot:123")
    assert opened.effective_at_us == parse_instant("2026-02-10T09:00:00+01:00")
    found = customer(ingest, "u2")
    assert {row.name: row.value for row in found.attributes}["region"] == "Normandie"
    assert {row.purpose: row.state for row in found.consents}["marketing"] == "denied"
    again = run(EXAMPLES / "hubspot", EXAMPLES / "hubspot.toml", ingest.client())
    assert (again.accepted, again.duplicates) == (0, report.accepted)


def test_salesforces_export_and_its_webhook_tell_of_one_case_once(ingest: IngestProcess) -> None:
    report = run(EXAMPLES / "salesforce", EXAMPLES / "salesforce.toml", ingest.client())
    assert report.refusals == []
    acts = ["message.opened", "support.contacted", "ticket.opened", "ticket.resolved"]
    assert names_of(ingest, "salesforce:0035g00000ABCdEAAX") == acts
    case = {
        "attributes": {"type": "Case"},
        "Id": "5005g00000XYZacAAG",
        "ContactId": "0035g00000ABCdFAAX",
        "CreatedDate": "2026-02-18T13:20:00.000+0000",
    }
    url = f"{ingest.url}/v1/salesforce/salesforce"
    first = {
        **case,
        "Id": "5005g00000XYZabAAG",
        "ContactId": "0035g00000ABCdEAAX",
        "ClosedDate": "2026-02-11T08:00:00.000+0000",
    }
    answer = httpx.post(url, json=[case, first], headers={"Authorization": "Bearer s-1"}, trust_env=False)
    assert answer.status_code == 200
    assert names_of(ingest, "salesforce:0035g00000ABCdEAAX") == acts
    assert names_of(ingest, "salesforce:0035g00000ABCdFAAX") == ["ticket.opened"]
    assert ingest.receipt("case:5005g00000XYZacAAG:opened:salesforce:0035g00000ABCdFAAX")["duplicates"] == 1
