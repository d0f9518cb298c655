"""The `context` of messages, read once: most messages of an SDK carry the same one, byte for byte."""

from typing import Any

import msgspec

from vigie_ingest.domain import NO_CONTEXT, UNREADABLE, Context, Unacceptable, check_depth, stated_consents

REMEMBERED = 2_000
REMEMBERED_BYTES = 1_000
ABSENT = msgspec.Raw(b"null")
_OBJECT = msgspec.json.Decoder(dict[str, Any] | None)


class Contexts:
    """Reads contexts; remembers a bounded number of short texts that were found good. Not for more than one thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Context] = {}
        self._last = (ABSENT, ABSENT, NO_CONTEXT)

    def of(self, own: msgspec.Raw, batch: msgspec.Raw = ABSENT) -> Context:
        """A message's context, over its batch's (the message's own fields win); Unacceptable when it is no object,
        unreadable or too deep. A batch's that is no object counts for nothing.
        """
        last_own, last_batch, found = self._last
        if own != last_own or batch != last_batch:
            found = self._found(own, batch)
            self._last = (own.copy(), batch.copy(), found)
        return found

    def _found(self, own: msgspec.Raw, batch: msgspec.Raw) -> Context:
        key = (bytes(batch), bytes(own))
        found = self._known.get(key)
        if found is None:
            found = _read(own, batch)
            if len(key[0]) + len(key[1]) <= REMEMBERED_BYTES:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[key] = found
        return found


def packed(value: dict[str, Any]) -> msgspec.Raw:
    """An object as a message holds its context."""
    return msgspec.Raw(msgspec.json.encode(value)) if value else ABSENT


def shared(batch: msgspec.Raw) -> dict[str, Any]:
    """What a batch says of all its messages; empty when that is no readable object."""
    try:
        return _OBJECT.decode(batch) or {}
    except UNREADABLE:
        return {}


def _read(own: msgspec.Raw, batch: msgspec.Raw) -> Context:
    try:
        stated: dict[str, Any] = _OBJECT.decode(own) or {}
    except UNREADABLE as error:
        raise Unacceptable("malformed", f"the message's context is wrong: {error}") from error
    given = shared(batch)
    whole = {**given, **stated}
    if not whole:
        return NO_CONTEXT
    check_depth(whole)
    text = msgspec.Raw(msgspec.json.encode(whole)) if given else own.copy()
    return Context(text, stated_consents(whole) if "consent" in whole else ())
