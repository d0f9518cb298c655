"""Whether a quarantined body names a person, whichever shape it came in.

What could not be accepted has no member, so the body itself is searched: fields that hold ids for the person's
identities, everything for values of personal attributes and for addresses whose hash is an identity.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from vigie_ingest.domain import UNREADABLE
from vigie_ingest.shapes.envelope import hashed_email, plain

_OF_IDS = ("id", "ids", "number", "subject", "customer", "user")
"""How the names of fields end that may say whose an event is, in any shape (`plain`)."""
_OF_OTHERS = frozenset(("messageid", "eventid", "groupid", "accountid", "portalid", "appid", "subscriptionid"))
_MPID = "mpid"
_ADDRESS = re.compile(r"[^\s\"'<>=&,;:]+@[^\s\"'<>=&,;:]+")


class Names:
    """A person's identities, and values of attributes that are personal."""

    def __init__(self, identities: set[str], values: set[str]) -> None:
        self._identities = identities
        self._values = values
        self._by_source: dict[str, tuple[set[str], re.Pattern[str]]] = {}

    def stand_in(self, source_id: str, body: bytes) -> bool:
        """Whether a body of this source names the person.

        One that is no JSON is searched for values in quotes, in a tag, or behind `=`.
        """
        identities, texts = self._of(source_id)
        try:
            decoded = msgspec.json.decode(body)
        except UNREADABLE:
            text = body.decode(errors="replace")
            return texts.search(text) is not None or self._addressed(text)
        return any(
            text in self._values or (text in identities and _may_name(key)) or self._addressed(text)
            for key, text in _scalars("", decoded)
        )

    def _of(self, source_id: str) -> tuple[set[str], "re.Pattern[str]"]:
        """Identities as this source writes them: a CRM's person `crm:7` is 7 to the CRM, and `mpid:7` to mParticle."""
        if source_id not in self._by_source:
            split = [identity.partition(":") for identity in self._identities]
            own = {rest for before, _, rest in split if rest and before in (source_id, _MPID)}
            identities = self._identities | own
            words = "|".join(re.escape(value) for value in sorted(identities | self._values))
            texts = re.compile(rf"(?<=[\"'>=])(?:{words})(?=[\"'<&\s]|$)" if words else "(?!)")
            self._by_source[source_id] = (identities, texts)
        return self._by_source[source_id]

    def _addressed(self, text: str) -> bool:
        return "@" in text and any(hashed_email(found) in self._identities for found in _ADDRESS.findall(text))


def _may_name(key: str) -> bool:
    name = plain(key)
    return name.endswith(_OF_IDS) and name not in _OF_OTHERS


def _scalars(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            yield from _scalars(str(inner_key), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(key, inner)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield key, str(value)
