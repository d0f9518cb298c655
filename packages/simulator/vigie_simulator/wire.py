"""A simulated act as an app would send it: an item of Segment's batch."""

from typing import Any

from vigie_contracts.instants import format_instant

from vigie_simulator.bank import Act


def user_id(customer: int) -> str:
    """The external id of a simulated customer."""
    return f"sim-{customer:06d}"


def item(act: Act) -> dict[str, Any]:
    """One item of `POST /v1/batch`, with `timestamp` and `messageId` set, so that sending it twice counts once."""
    body: dict[str, Any] = {
        "messageId": act.event_id,
        "timestamp": format_instant(act.at_us),
        "context": {"library": {"name": "vigie-simulator", "simulated": True}},
    }
    if act.anonymous:
        body["anonymousId"] = f"anon-{user_id(act.customer)}"
    else:
        body["userId"] = user_id(act.customer)
    if act.name == "identify":
        body["context"]["consent"] = {"categoryPreferences": act.consents}
        return {**body, "type": "identify", "anonymousId": f"anon-{user_id(act.customer)}", "traits": act.traits}
    channel = act.properties.get("channel")
    return {
        **body,
        "type": "track",
        "event": act.name,
        "properties": act.properties,
        **({"channel": channel} if channel else {}),
    }
