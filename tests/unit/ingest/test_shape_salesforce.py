"""Salesforce's outbound messages, records, change events and mail notifications become acts of the same customer."""

from typing import Any

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_ingest.shapes.envelope import hashed_email
from vigie_ingest.shapes.salesforce import is_soap, read, verification

from tests.unit.ingest.ingest_world import NOW_US, World
from tests.unit.ingest.shapes_world import NOW_MS, accepted, deliver, refused, said, taken

CONTACT = "0035g00000ABCdEAAX"
CASE = "5005g00000XYZabAAG"
SOAP = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
 <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
  <OrganizationId>00D5g000000AbCd</OrganizationId><ActionId>04k5g000000AbCd</ActionId>
  <SessionId xsi:nil="true"/><EnterpriseUrl>https://x</EnterpriseUrl><PartnerUrl>https://x</PartnerUrl>
  {}
 </notifications></soapenv:Body></soapenv:Envelope>"""


def notification(number: str, type_: str, **fields: str | None) -> str:
    nodes = "".join(
        f'<sf:{name} xsi:nil="true"/>' if value is None else f"<sf:{name}>{value}</sf:{name}>"
        for name, value in fields.items()
    )
    return (
        f'<Notification><Id>{number}</Id><sObject xsi:type="sf:{type_}" '
        f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{nodes}</sObject></Notification>'
    )


def soap(*notifications: str) -> bytes:
    return SOAP.format("".join(notifications)).encode()


def record(type_: str, **fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": type_}, **fields}


def mail(name: str, **more: Any) -> dict[str, Any]:
    composite = {"jobId": "4", "batchId": "1", "listId": "2", "subscriberId": "88", "emailId": "9"}
    return {"eventCategoryType": name, "timestampUTC": NOW_MS - 1_000, "composite": composite, "mid": 1, **more}


def test_an_outbound_message_states_a_contact_and_opens_its_case() -> None:
    body = soap(
        notification("04l1", "Contact", Id=CONTACT, MailingState="Bretagne", Customer_Id__c="u1", Phone=None),
        notification(
            "04l2", "Case", Id=CASE, ContactId=CONTACT, Origin="Phone", CreatedDate="2026-03-01T11:00:00.000Z"
        ),
    )
    assert is_soap(body)
    identify, case = accepted(read, body)
    assert said(identify) == ("identify", "identify", "u1", f"crm:{CONTACT}")
    assert identify.traits == {"region": "Bretagne", "Customer_Id__c": "u1", "phone": None}
    assert identify.event_id == "04l1"
    assert said(case) == ("track", "ticket.opened", None, f"crm:{CONTACT}")
    assert case.properties == {"ticket": CASE, "channel": "phone"}
    assert case.times.effective_us == NOW_US - 3_600_000_000


def test_ids_of_fifteen_characters_are_the_same_person() -> None:
    (draft,) = accepted(read, record("Contact", Id=CONTACT[:15], FirstName="Ana"))
    (long,) = accepted(read, record("Contact", Id="001A0000006Vm9uIAC", FirstName="Ana"))
    (short,) = accepted(read, record("Contact", Id="001A0000006Vm9u", FirstName="Ana"))
    assert short.anonymous_id == long.anonymous_id == "crm:001A0000006Vm9uIAC"
    assert draft.anonymous_id is not None
    assert len(draft.anonymous_id) == len("crm:") + 18


def test_a_closed_case_says_how_long_it_took() -> None:
    case = record(
        "Case",
        Id=CASE,
        ContactId=CONTACT,
        IsClosed=True,
        Reason="Card",
        CreatedDate="2026-02-27T12:00:00.000+0000",
        ClosedDate="2026-02-28T12:00:00.000+0000",
    )
    (draft,) = accepted(read, {"records": [case]})
    assert (draft.name, draft.measures) == ("ticket.resolved", {"minutes": 1440})
    assert draft.properties["topic"] == "Card"


def test_calls_are_told_apart_by_who_called() -> None:
    base = record("Task", WhoId=CONTACT, TaskSubtype="Call", CallDurationInSeconds=95)
    names = [d.name for d in accepted(read, [{**base, "Id": "00T1"}, {**base, "Id": "00T2", "CallType": "Outbound"}])]
    assert names == ["support.contacted", "salesforce.call.outbound"]
    assert accepted(read, {**base, "Id": "00T1"})[0].channel == "phone"


def test_a_person_account_is_its_contact() -> None:
    (draft,) = accepted(read, record("Account", Id="0015g00000AAAaaAAG", PersonContactId=CONTACT, Customer_Id__c="u1"))
    assert said(draft) == ("identify", "identify", "u1", f"crm:{CONTACT}")


def test_change_events_hold_only_what_changed() -> None:
    header = {
        "entityName": "Contact",
        "recordIds": [CONTACT],
        "changeType": "UPDATE",
        "commitTimestamp": NOW_MS - 5_000,
    }
    (draft,) = accepted(read, {"payload": {"ChangeEventHeader": header, "HasOptedOutOfEmail": True}})
    assert said(draft) == ("identify", "identify", None, f"crm:{CONTACT}")
    assert (draft.consents, draft.times.effective_us) == ((("marketing", "denied"),), NOW_US - 5_000_000)
    case = {**header, "entityName": "Case", "recordIds": [CASE], "changeType": "CREATE"}
    assert [d.name for d in accepted(read, {"ChangeEventHeader": case, "ContactId": CONTACT})] == ["ticket.opened"]
    updated = {**case, "changeType": "UPDATE"}
    assert refused(read, {"ChangeEventHeader": updated, "Priority": "High"}).code == "no_customer"
    assert [d.name for d in accepted(read, {"ChangeEventHeader": updated, "ContactId": CONTACT})] == [
        "salesforce.case.updated"
    ]
    gone = {**header, "changeType": "DELETE"}
    assert [d.name for d in accepted(read, {"ChangeEventHeader": gone})] == ["salesforce.contact.deleted"]


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        ("TransactionalSendEvents.EmailSent", "message.sent"),
        ("EngagementEvents.EmailOpen", "message.opened"),
        ("EngagementEvents.EmailClick", "message.clicked"),
        ("EngagementEvents.EmailUnsubscribe", "salesforce.email.unsubscribed"),
    ],
)
def test_mail_notifications_are_acts_of_the_subscriber(type_: str, name: str) -> None:
    (draft,) = accepted(read, [mail(type_, info={"contentLink": "https://b/x"})])
    assert said(draft) == ("track", name, None, "crm:subscriber:88")
    assert draft.properties == {"channel": "email", "job": "4", "url": "https://b/x"}
    assert draft.consents == ((("marketing", "denied"),) if "Unsubscribe" in type_ else ())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_subscriber_contact_and_customer_are_one_in_any_order(tmp_path: Any, order: tuple[int, ...]) -> None:
    world = World(tmp_path)
    opened = mail("EngagementEvents.EmailOpen")
    sent = mail("TransactionalSendEvents.EmailSent", info={"to": "Ana@x.org"})
    contact = record("Contact", Id=CONTACT, Email="ana@x.org", Customer_Id__c="u1")
    for place in order:
        deliver(world, read, ([opened], [sent], contact)[place])
    found = {
        world.customer_of("anonymous_id", "crm:subscriber:88"),
        world.customer_of("anonymous_id", hashed_email("ana@x.org")),
        world.customer_of("anonymous_id", f"crm:{CONTACT}"),
        world.customer_of("user_id", "u1"),
    }
    assert len(found) == 1
    assert None not in found
    assert deliver(world, read, [opened]) == [0]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (record("Case", Id=CASE), "no_customer"),
        (record("Opportunity", Id="006"), "no_customer"),
        (record("Account", Id="0015g00000AAAaaAAG", Name="ACME"), "no_customer"),
        (record("Contact"), "malformed"),
        (record("Contact", Id=CONTACT, LastModifiedDate="today"), "malformed"),
        ({"Id": CASE}, "unknown_type"),
        (mail("TransactionalSendEvents.SmsSent"), "no_customer"),
        ({"eventCategoryType": 7}, "malformed"),
        ({"ChangeEventHeader": {"entityName": "Case"}}, "malformed"),
        (soap(notification("04l", "Case", Id=CASE, ContactId=None)), "no_customer"),
        ([17], "malformed"),
    ],
)
def test_what_names_nobody_or_nothing_is_refused_with_advice(body: Any, code: str) -> None:
    assert refused(read, body).code == code


@pytest.mark.parametrize(
    "body",
    [
        b"<a",
        b"<a/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<a>é</a>".encode("latin-1"),
        soap(notification("1", "Case")).decode().encode("utf-16"),
        b"{",
        b"",
    ],
)
def test_an_unreadable_body_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        taken(read, body)


def test_a_callback_asks_to_be_verified() -> None:
    asked = verification(b'{"callbackId":"c","verificationKey":"k"}')
    assert asked is not None
    assert (asked.callback_id, asked.verification_key) == ("c", "k")
    assert verification(b'{"callbackId":"c","verificationKey":"k","more":1}') is None
    assert verification(b"[]") is None
