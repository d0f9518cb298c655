"""Whose an event is: rules as data, and the pure decision of what a pair of identities means.

An anonymous id joins the first user id that identifies on it. A second user id there means a shared device: nothing is
merged, and its later anonymous events belong to a fresh anonymous member that joins nobody.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
from vigie_contracts.catalogue import read_toml

MAX_MEMBERS = 32
REMEMBERED = 50_000
USER = "user_id"
ANONYMOUS = "anonymous_id"


class NamespaceRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A namespace of identities: the lowest priority names the customer, which has at most `limit` values of it.

    `blocked` are regular expressions of values that stand for nobody (whole value, any case).
    """

    namespace: str
    priority: int
    limit: int
    blocked: list[str] = []


_NOBODY = [
    r"[\s0-]*", r"-1", r"null", r"nil", r"none", r"nan", r"undefined", r"anonymous", r"unknown", r"guest",
    r"\(?empty\)?", r"n/?a", r"\[object object\]",
]  # fmt: skip
DEFAULT_RULES = (
    NamespaceRule(namespace=USER, priority=1, limit=8, blocked=_NOBODY),
    NamespaceRule(namespace=ANONYMOUS, priority=2, limit=MAX_MEMBERS, blocked=_NOBODY),
)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    namespace: list[NamespaceRule]


class Rules:
    """The identity rules of an installation."""

    def __init__(self, rules: tuple[NamespaceRule, ...] = DEFAULT_RULES) -> None:
        self.by_namespace = {rule.namespace: rule for rule in rules}
        self._blocked = {rule.namespace: _pattern(rule.blocked) for rule in rules}
        self._remembered: dict[tuple[str, str], bool] = {}

    @classmethod
    def load(cls, feature_repo: Path) -> "Rules":
        """`identities.toml` when the feature repository has one, else the defaults; InvalidInput when it is wrong."""
        path = feature_repo / "identities.toml"
        return cls(tuple(read_toml(path, _File).namespace)) if path.exists() else cls()

    def blocked(self, namespace: str, value: str) -> bool:
        """Whether a value stands for nobody."""
        found = self._remembered.get((namespace, value))
        if found is None:
            pattern = self._blocked.get(namespace)
            found = pattern is not None and pattern.fullmatch(value) is not None
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[namespace, value] = found
        return found

    def limit(self, namespace: str) -> int:
        """Most values of a namespace in one customer."""
        rule = self.by_namespace.get(namespace)
        return rule.limit if rule else MAX_MEMBERS


@dataclass(slots=True, frozen=True)
class Member:
    """A member: `number` is its surrogate inside this database, `member_id` its name everywhere else."""

    number: int
    member_id: str


@dataclass(slots=True)
class Identity:
    """An identity and the member that its events get now. `joined` is the member of the first user id seen with it."""

    namespace: str
    value: str
    member: Member
    joined: int | None = None
    shared: bool = False


@dataclass(slots=True)
class Party:
    """A customer that is to be merged: its members, oldest first, and how many identities of each namespace it has."""

    customer_id: str
    members: list[Member]
    identities: dict[str, int] = field(default_factory=dict)


def link(anonymous: Identity, user: Member) -> Literal["nothing", "join", "second"]:
    """What it means that a user id comes with an anonymous id."""
    if anonymous.shared or anonymous.joined == user.number:
        return "nothing"
    return "join" if anonymous.joined is None else "second"


def refusal_of_merge(one: Party, other: Party, rules: Rules) -> str | None:
    """Why two customers may not become one, or None."""
    members = len(one.members) + len(other.members)
    if members > MAX_MEMBERS:
        return f"the merge was refused: {members} members, and a customer has at most {MAX_MEMBERS}"
    for namespace in sorted(one.identities.keys() | other.identities.keys()):
        count = one.identities.get(namespace, 0) + other.identities.get(namespace, 0)
        if count > rules.limit(namespace):
            return f"the merge was refused: {count} identities {namespace!r}, and the limit is {rules.limit(namespace)}"
    return None


def survivor(one: Party, other: Party) -> tuple[Party, Party]:
    """(survivor, absorbed): the older known customer survives."""
    return (one, other) if _age(one) < _age(other) else (other, one)


def _age(party: Party) -> tuple[int, str]:
    """The surrogate of the member that gave the customer its id: surrogates rise in the order of minting."""
    namer = next((member.number for member in party.members if member.member_id == party.customer_id), 0)
    return namer, party.customer_id


def _pattern(blocked: list[str]) -> "re.Pattern[str] | None":
    return re.compile("|".join(f"(?:{value})" for value in blocked), re.IGNORECASE) if blocked else None
