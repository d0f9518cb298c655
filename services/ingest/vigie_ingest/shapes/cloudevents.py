"""CloudEvents 1.0 over HTTP: structured, binary and batched content mode.

`source` and `id` name the event. `type` is its name, or an identify when it ends so. The user is the extension
`userid`, else a field of the data with the customer number, else `subject`; the device is the extension `anonymousid`.
"""

import base64
import binascii
from typing import Any
from urllib.parse import unquote

import msgspec
from vigie_contracts.errors import InvalidInput

from vigie_ingest.contexts import packed
from vigie_ingest.domain import Unacceptable
from vigie_ingest.messages import Message
from vigie_ingest.shapes.envelope import Items, Json, Origin, at_text, bounded, part, sort, whole

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_PREFIX = "ce-"


class UnsupportedMedia(InvalidInput):
    """A media type that is none of the three content modes in JSON; answered 415."""


def read(body: bytes, origin: Origin) -> Items:
    """All events of a request; the mode follows its content type and headers. InvalidInput when it is no JSON."""
    media = origin.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == STRUCTURED:
        whole(body, msgspec.Raw)
        return sort([body], origin, lambda raw, _: _event(part(raw, Json), origin))
    if media == BATCH:
        parts = [bytes(raw) for raw in whole(body, list[msgspec.Raw])]
        return sort(parts, origin, lambda raw, _: _event(part(raw, Json), origin))
    if media.startswith("application/cloudevents") or "ce-specversion" not in origin.headers:
        raise UnsupportedMedia(
            f"the content type {media!r} is not understood; send {STRUCTURED}, {BATCH}, or ce- headers with any type"
        )
    attributes = _binary(body, media, origin)
    return sort([msgspec.json.encode(attributes)], origin, lambda raw, _: _event(part(raw, Json), origin))


def _binary(body: bytes, media: str, origin: Origin) -> Json:
    """A binary-mode request as its structured form; header values are percent-encoded UTF-8."""
    found: Json = {
        name[len(_PREFIX) :]: unquote(value) for name, value in origin.headers.items() if name.startswith(_PREFIX)
    }
    if media:
        found["datacontenttype"] = media
    if not body:
        return found
    if _is_json(media):
        try:
            return {**found, "data": whole(body, msgspec.Raw)}
        except InvalidInput as error:
            raise InvalidInput(f"the content type is {media!r}, but {error.message}") from error
    if media.startswith("text/"):
        return {**found, "data": body.decode(errors="replace")}
    return {**found, "data_base64": base64.b64encode(body).decode()}


def _event(fields: Json, origin: Origin) -> list[Message]:
    event_id, source, type_ = (_needed(fields, name) for name in ("id", "source", "type"))
    if fields.get("specversion") != "1.0":
        raise Unacceptable("malformed", "specversion must be '1.0'")
    data = _data(fields)
    record: Json = data if isinstance(data, dict) else {} if data is None else {"data": data}
    extensions = {name: value for name, value in fields.items() if name not in ("data", "data_base64")}
    identify = type_.rpartition(".")[2] == "identify"
    traits = record.get("traits")
    return [
        Message(
            type="identify" if identify else "track",
            event=None if identify else type_,
            message_id=bounded(f"{source}#{event_id}"),
            user_id=_id(fields, "userid") or origin.user_id(record) or _id(record, "userId") or _id(fields, "subject"),
            anonymous_id=_id(fields, "anonymousid") or _id(record, "anonymousId"),
            timestamp=at_text("time", fields.get("time")),
            properties=None if identify else record,
            traits=(traits if isinstance(traits, dict) else record) if identify else None,
            context=packed({"cloudevents": extensions, **_consent(record)}),
        )
    ]


def _data(fields: Json) -> Any:
    """`data`, or `data_base64` decoded when it says that it is JSON, else as it is."""
    encoded = fields.get("data_base64")
    if encoded is None:
        return fields.get("data")
    if "data" in fields:
        raise Unacceptable("malformed", "an event has either data or data_base64")
    media = fields.get("datacontenttype", "application/json")
    if not isinstance(encoded, str) or not isinstance(media, str):
        raise Unacceptable("malformed", "data_base64 and datacontenttype must be text")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unacceptable("malformed", "data_base64 is no base64") from error
    return part(decoded, Any) if _is_json(media) else encoded


def _consent(record: Json) -> Json:
    consent = record.get("consent")
    return {"consent": {"categoryPreferences": consent}} if isinstance(consent, dict) else {}


def _is_json(media: str) -> bool:
    subtype = media.partition(";")[0].strip().lower().rpartition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _needed(fields: Json, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Unacceptable("malformed", f"a CloudEvent needs the attribute {name!r}")
    return value


def _id(fields: Json, name: str) -> str | int | None:
    value = fields.get(name)
    return value if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
