"""HubSpot's webhooks, records and mail events become acts of the same customer."""

from typing import Any

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_ingest.shapes.envelope import hashed_email
from vigie_ingest.shapes.hubspot import read

from tests.unit.ingest.ingest_world import NOW_US, World
from tests.unit.ingest.shapes_world import NOW_MS, accepted, deliver, refused, said, taken

BASE = {"eventId": 100, "subscriptionId": 1, "portalId": 62515, "appId": 54, "attemptNumber": 0, "changeSource": "CRM"}
DAY_MS = 86_400_000


def sent(what: str, number: int | None = 123, **more: Any) -> dict[str, Any]:
    return {**BASE, "occurredAt": NOW_MS - 5_000, "subscriptionType": what, "objectId": number, **more}


def changed(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return sent("contact.propertyChange", propertyName=name, propertyValue=value, **more)


def linked(association: str, of: int, to: int, **more: Any) -> dict[str, Any]:
    what = association.partition("_")[0].lower()
    more = {"associationType": association, "fromObjectId": of, "toObjectId": to, **more}
    return sent(f"{what}.associationChange", None, **more)


def test_a_changed_property_is_an_attribute_of_the_contact() -> None:
    (draft,) = accepted(read, [changed("hs_language", "fr")])
    assert said(draft) == ("identify", "identify", None, "crm:123")
    assert (draft.traits, draft.times.effective_us) == ({"locale": "fr"}, NOW_US - 5_000_000)


def test_the_customer_number_makes_contact_and_customer_one() -> None:
    (draft,) = accepted(read, [changed("customer_id", "u1")])
    assert said(draft) == ("identify", "identify", "u1", "crm:123")


def test_an_opt_out_of_mail_denies_marketing_and_its_end_states_nothing() -> None:
    out, back = accepted(read, [changed("hs_email_optout", "true"), changed("hs_email_optout", "false", eventId=101)])
    assert (out.consents, back.consents) == ((("marketing", "denied"),), (("marketing", "unset"),))


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("hs_email_last_open_date", "message.opened"),
        ("hs_email_last_click_date", "message.clicked"),
        ("hs_email_last_send_date", "message.sent"),
        ("hs_sales_email_last_opened", "message.opened"),
    ],
)
def test_dates_of_the_last_mail_are_acts_at_their_date(name: str, event: str) -> None:
    (draft,) = accepted(read, [changed(name, str(NOW_MS - 60_000))])
    assert said(draft) == ("track", event, None, "crm:123")
    assert (draft.channel, draft.times.effective_us) == ("email", NOW_US - 60_000_000)


@pytest.mark.parametrize(
    "event",
    [
        linked("TICKET_TO_CONTACT", 77, 123),
        linked("CONTACT_TO_TICKET", 123, 77),
        sent(
            "object.associationChange",
            None,
            fromObjectTypeId="0-5",
            toObjectTypeId="0-1",
            fromObjectId=77,
            toObjectId=123,
        ),
    ],
    ids=["ticket", "contact", "object"],
)
def test_a_ticket_is_opened_by_its_contact_once_whichever_side_says_it(event: dict[str, Any]) -> None:
    (draft,) = accepted(read, [event])
    assert said(draft) == ("track", "ticket.opened", None, "crm:123")
    assert (draft.event_id, draft.properties) == ("ticket:77:opened:crm:123", {"ticket": "77"})


def test_a_call_is_a_contact_with_support_unless_the_bank_called() -> None:
    (draft,) = accepted(read, [linked("CALL_TO_CONTACT", 5, 123)])
    assert (draft.name, draft.channel, draft.properties["channel"]) == ("support.contacted", "phone", "phone")
    record = {"objectType": "calls", "id": "5", "contactId": 123, "properties": {"hs_call_direction": "OUTBOUND"}}
    assert [draft.name for draft in accepted(read, record)] == ["hubspot.call.outbound"]


def test_an_association_that_ends_does_not_open_anything() -> None:
    (draft,) = accepted(read, [linked("TICKET_TO_CONTACT", 77, 123, associationRemoved=True)])
    assert draft.name == "hubspot.ticket.dissociated"


def test_a_merge_joins_the_merged_contacts_to_the_one_that_stays() -> None:
    merge = sent("contact.merge", primaryObjectId=1, mergedObjectIds=[2, 3], newObjectId=9)
    drafts = accepted(read, [merge])
    assert [(d.kind, d.anonymous_id, d.previous_id) for d in drafts] == [
        ("alias", "crm:9", f"crm:{number}") for number in (2, 3, 1)
    ]


@pytest.mark.parametrize("what", ["creation", "deletion", "privacyDeletion", "restore"])
def test_the_life_of_a_contact_is_kept_uncatalogued(what: str) -> None:
    (draft,) = accepted(read, [sent(f"contact.{what}")])
    assert said(draft) == ("track", f"hubspot.contact.{what}", None, "crm:123")


def test_a_resolved_ticket_of_a_workflow_says_how_long_it_took() -> None:
    properties = {
        "hs_pipeline_stage": "4",
        "createdate": NOW_MS - DAY_MS,
        "closed_date": {"value": NOW_MS - 3_600_000, "versions": []},
        "source_type": "PHONE",
    }
    ticket = {"objectTypeId": "0-5", "objectId": 77, "properties": properties}
    (draft,) = accepted(read, {**ticket, "associations": {"contacts": {"results": [{"id": "123"}]}}})
    assert said(draft) == ("track", "ticket.resolved", None, "crm:123")
    assert draft.measures == {"minutes": 23 * 60}
    assert (draft.properties["channel"], draft.times.effective_us) == ("phone", NOW_US - 3_600_000_000)
    del properties["closed_date"]
    (opened,) = accepted(read, {**ticket, "contactId": 123})
    assert (opened.name, opened.event_id) == ("ticket.opened", "ticket:77:opened:crm:123")


def test_an_old_ticket_that_changes_is_not_opened_again() -> None:
    properties = {"hs_pipeline_stage": "2", "createdate": NOW_MS - 15 * DAY_MS}
    (draft,) = accepted(read, {"objectTypeId": "0-5", "id": "77", "contactId": 123, "properties": properties})
    assert draft.name == "hubspot.ticket.updated"


def test_a_contacts_record_states_all_it_holds_and_links_its_address() -> None:
    properties = {"email": {"value": "Ana@x.org"}, "customer_id": {"value": "u1"}, "firstname": {"value": "Ana"}}
    identify, alias = accepted(read, {"vid": 123, "properties": properties})
    assert said(identify) == ("identify", "identify", "u1", "crm:123")
    assert identify.traits == {"email": "Ana@x.org", "customer_id": "u1", "display_name": "Ana"}
    assert (alias.kind, alias.anonymous_id, alias.previous_id) == ("alias", "crm:123", hashed_email("ana@x.org"))


def test_mail_events_are_acts_of_the_address() -> None:
    event = {"id": "e1", "created": NOW_MS - 1_000, "type": "CLICK", "recipient": "Ana@x.org", "url": "https://b/x"}
    (draft,) = accepted(read, [event])
    assert said(draft) == ("track", "message.clicked", None, hashed_email("ana@x.org"))
    assert draft.properties == {"channel": "email", "url": "https://b/x"}


def test_tickets_mails_and_contact_are_one_customer_whatever_comes_first(tmp_path: Any) -> None:
    world = World(tmp_path)
    mail = {"id": "e1", "created": NOW_MS, "type": "OPEN", "recipient": "ana@x.org"}
    ticket = linked("TICKET_TO_CONTACT", 77, 123)
    contact = [changed("email", "ana@x.org"), changed("customer_id", "u1", eventId=101)]
    assert deliver(world, read, [mail, ticket, *contact]) == [1, 2, 3, 5, 7]  # 4 and 6 are the merges
    assert deliver(world, read, [mail, ticket, *contact]) == [0, 0, 0, 0, 0]
    customers = {
        world.customer_of("anonymous_id", "crm:123"),
        world.customer_of("anonymous_id", hashed_email("ana@x.org")),
        world.customer_of("user_id", "u1"),
    }
    assert len(customers) == 1
    assert None not in customers


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (sent("ticket.creation", 77), "no_customer"),
        (sent("company.propertyChange", 5, propertyName="name"), "no_customer"),
        (linked("TICKET_TO_COMPANY", 77, 5), "no_customer"),
        (sent("contact.propertyChange"), "malformed"),
        (sent("contact.creation", None), "malformed"),
        (sent("contact.creation", occurredAt="today"), "malformed"),
        (sent("contact.merge"), "malformed"),
        ({"objectTypeId": "0-5", "id": "77", "properties": {}}, "no_customer"),
        ({"properties": {}}, "malformed"),
        ({"id": "1", "created": 1, "type": "DANCE", "recipient": "a@b.c"}, "unknown_type"),
        ({"hello": 1}, "unknown_type"),
        (17, "malformed"),
    ],
)
def test_what_names_nobody_or_nothing_is_refused_with_advice(event: Any, code: str) -> None:
    assert refused(read, [event]).code == code


def test_a_refused_ticket_says_what_to_subscribe_to() -> None:
    reason = refused(read, [sent("ticket.creation", 77)]).reason
    assert reason == (
        "the event 'ticket.creation' of ticket 77 does not say which customer it concerns; "
        "subscribe to its association with contacts, or post it from a workflow with `contactId`"
    )


def test_an_unreadable_body_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        taken(read, b'[{"eventId":1}')
