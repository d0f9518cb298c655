"""Zoho CRM's notifications and Campaigns' mail webhooks become acts of the same customer."""

from typing import Any

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_ingest.shapes.envelope import hashed_email
from vigie_ingest.shapes.zoho import read, token

from tests.unit.ingest.ingest_world import NOW_US
from tests.unit.ingest.shapes_world import NOW_MS, accepted, refused, said, taken

TOKEN = "TOKEN_FOR_VERIFICATION"


def notified(
    module: str, operation: str, *ids: str, values: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "server_time": NOW_MS - 5_000,
        "query_params": {},
        "module": module,
        "resource_uri": f"https://www.zohoapis.com/crm/v8/{module}",
        "ids": list(ids),
        "operation": operation,
        "channel_id": "1000000068001",
        "token": TOKEN,
        "affected_fields": [{number: sorted(values or {"Last_Name": 1})} for number in ids],
        "affected_values": [{"record_id": number, "values": values} for number in ids] if values else [],
        **more,
    }


def test_changed_values_are_attributes_of_each_contact() -> None:
    values = {"Mailing_State": "Bretagne", "Customer_Id": "u1"}
    first, second = accepted(read, notified("Contacts", "update", "1", "2", values=values))
    assert said(first) == ("identify", "identify", "u1", "crm:1")
    assert (first.traits["region"], first.times.effective_us) == ("Bretagne", NOW_US - 5_000_000)
    assert second.anonymous_id == "crm:2"


def test_without_values_the_change_itself_is_kept() -> None:
    (draft,) = accepted(read, notified("Leads", "update", "1"))
    assert said(draft) == ("track", "zoho.lead.updated", None, "crm:1")
    assert draft.properties == {"fields": ["Last_Name"]}


@pytest.mark.parametrize(
    ("module", "operation", "values", "name"),
    [
        ("Cases", "insert", {"Related_To": {"id": "7", "name": "Ana"}, "Case_Origin": "Phone"}, "ticket.opened"),
        ("Cases", "update", {"Related_To": {"id": "7"}, "Status": "Closed"}, "ticket.resolved"),
        ("Cases", "update", {"Contact_Name": "7", "Status": "New"}, "zoho.case.updated"),
        ("Calls", "insert", {"Who_Id": {"id": "7"}, "Call_Type": "Inbound"}, "support.contacted"),
        ("Calls", "insert", {"Who_Id": {"id": "7"}, "Call_Type": "Outbound"}, "zoho.call.outbound"),
    ],
)
def test_cases_and_calls_are_acts_of_the_contact_that_they_look_up(
    module: str, operation: str, values: dict[str, Any], name: str
) -> None:
    (draft,) = accepted(read, notified(module, operation, "55", values=values))
    assert said(draft) == ("track", name, None, "crm:7")


def test_the_token_is_the_first_notifications_and_is_not_kept() -> None:
    body = notified("Cases", "insert", "55")
    assert token(b'{"token":"t"}') == "t"
    assert [token(raw) for raw in (b"[]", b"{", b'{"token":7}', b"17")] == [None] * 4
    refusal = refused(read, body)
    assert refusal.code == "no_customer"
    assert TOKEN.encode() not in refusal.body


def test_the_same_notification_of_two_channels_is_one_event() -> None:
    first, second = (accepted(read, notified("Leads", "delete", "1", channel_id=c))[0] for c in ("1", "2"))
    assert first.event_id == second.event_id
    assert first.name == "zoho.lead.deleted"


@pytest.mark.parametrize(
    ("action", "name"),
    [("email_open", "message.opened"), ("email_click", "message.clicked")],
)
def test_mails_of_a_campaign_are_acts_of_each_address(action: str, name: str) -> None:
    one = {"action_time": NOW_MS - 1_000, "contact_id": 1, "contact_email": "Ana@x.org", "click_url": "https://b/x"}
    body = {"webhook_id": "1", "action": action, "actionType": action, "data": [one, {"contact_email": 7}]}
    first, bad = taken(read, {**body, "transmission_id": 99})
    assert getattr(first, "name", None) == name
    assert getattr(first, "anonymous_id", None) == hashed_email("ana@x.org")
    assert getattr(bad, "code", None) == "malformed"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (notified("Deals", "insert", "9"), "no_customer"),
        (notified("Contacts", "insert"), "malformed"),
        (notified("Contacts", "insert", "1", server_time=1e30), "time_out_of_range"),
        ({"actionType": "email_dance", "data": [{"contact_email": "a@b.c"}]}, "unknown_type"),
        ({"hello": 1}, "malformed"),
        (17, "malformed"),
    ],
)
def test_what_names_nobody_or_nothing_is_refused_with_advice(body: Any, code: str) -> None:
    assert refused(read, body).code == code


def test_an_unreadable_body_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        taken(read, b"ids=1&token=x")
