"""Bodies of every shape for property tests and fuzzing: sometimes right, sometimes anything."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from vigie_ingest.domain import Unacceptable
from vigie_ingest.shapes import cloudevents, envelope, hubspot, mparticle, salesforce, tealium, zoho

from tests.unit.ingest.shapes_world import Read

scalar = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(
        ["2026-01-01T00:00:00Z", "a@b.c", "1700000000000", "update", "contact", "0-5", "TICKET_TO_CONTACT"]
    )
)
json = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def objects(*fields: str, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of a shape's own fields: sometimes right, sometimes anything."""
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(fields, json), **fixed})


any_event = json | objects(
    "event_type", "data", event_type=st.sampled_from(["custom_event", "session_end", "commerce_event", "opt_out"])
)
mparticle_data = objects(
    "timestamp_unixtime_ms", "source_message_id", "custom_attributes", "event_name", "product_action", "new",
    "session_duration_ms", "is_opted_out", "user_attribute_name", "screen_name", "location",
)  # fmt: skip
mparticle_event = st.fixed_dictionaries(
    {"event_type": st.sampled_from(sorted(mparticle._TYPES)), "data": mparticle_data}
)
mparticle_batch = objects(
    "user_identities", "user_attributes", "deleted_user_attributes", "consent_state", "mpid", "mp_deviceid",
    "timestamp_unixtime_ms", "source_request_id", "device_info", "ip",
    events=st.lists(mparticle_event | any_event, max_size=2),
)  # fmt: skip
tealium_event = objects(
    "tealium_event", "tealium_visitor_id", "customer_id", "tealium_timestamp_epoch", "tealium_timestamp_utc",
    "tealium_event_id", "tealium_random", "topic", "timestamp_unix",
)  # fmt: skip
cloud_event = objects(
    "specversion", "id", "source", "type", "time", "subject", "data", "data_base64", "datacontenttype", "userid",
    specversion=st.just("1.0"), id=st.text(min_size=1), source=st.text(min_size=1), type=st.text(min_size=1),
)  # fmt: skip
hubspot_event = objects(
    "objectId", "eventId", "occurredAt", "propertyName", "propertyValue", "associationType", "fromObjectId",
    "toObjectId", "mergedObjectIds", "primaryObjectId", "objectTypeId", "associationRemoved",
    subscriptionType=st.sampled_from(
        ["contact.propertyChange", "contact.merge", "ticket.associationChange", "object.creation", "contact.creation"]
    ),
)  # fmt: skip
hubspot_record = objects(
    "vid", "id", "objectTypeId", "contactId", "associations", "updatedAt",
    properties=objects("email", "customer_id", "createdate", "closed_date", "hs_call_direction", "hs_pipeline_stage"),
)  # fmt: skip
hubspot_mail = objects("id", "type", "recipient", "created", "url", type=st.sampled_from(["OPEN", "CLICK", "?"]))
salesforce_record = objects(
    "Id", "ContactId", "WhoId", "CreatedDate", "ClosedDate", "LastModifiedDate", "Email", "Customer_Id__c",
    "CallType", "CallDurationInSeconds", "IsClosed", "Origin", "HasOptedOutOfEmail",
    attributes=st.fixed_dictionaries({"type": st.sampled_from(["Contact", "Case", "Task", "Lead", "Order"])}),
)  # fmt: skip
salesforce_change = objects(
    "ContactId", "Email", ChangeEventHeader=objects("entityName", "recordIds", "changeType", "commitTimestamp")
)
salesforce_mail = objects("timestampUTC", "composite", "info", eventCategoryType=st.just("EngagementEvents.EmailOpen"))
zoho_record = objects(
    "server_time", "affected_fields", "token",
    module=st.sampled_from(["Contacts", "Leads", "Cases", "Calls", "Deals"]),
    operation=st.sampled_from(["insert", "update", "delete", "?"]),
    ids=st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=1),
    affected_values=st.lists(
        st.fixed_dictionaries(
            {"record_id": st.just("1"), "values": objects("Who_Id", "Status", "Created_Time", "Email", "Customer_Id")}
        ),
        max_size=1,
    ),
)  # fmt: skip

segment_message = objects(
    "messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name", "timestamp", "originalTimestamp",
    "sentAt", "channel", "properties", "traits", "context", "integrations",
    type=st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "?"]),
    messageId=st.text(max_size=9), userId=st.sampled_from(["ann", "bob", "null", ""]) | json, event=st.text(max_size=9),
)  # fmt: skip

SHAPES: dict[str, tuple[Read, st.SearchStrategy[Any], dict[str, str]]] = {
    "tealium": (tealium.read_bulk, tealium_event, {}),
    "cloudevents": (cloudevents.read, cloud_event, {"content_type": cloudevents.BATCH}),
    "hubspot": (hubspot.read, hubspot_event | hubspot_record | hubspot_mail, {}),
    "salesforce": (salesforce.read, salesforce_record | salesforce_change | salesforce_mail, {}),
    "zoho": (zoho.read, zoho_record, {}),
    "mparticle": (mparticle.read, mparticle_batch, {}),
}


def least(name: str, part: Any) -> int:
    """The least number of verdicts on one part of a body: one for each event, one for what is no part."""
    if name != "mparticle":
        return 1
    try:
        batch = envelope.part(msgspec.json.encode(part), mparticle.Batch)
    except Unacceptable:
        return 1
    return max(1, len(batch.events or []))
