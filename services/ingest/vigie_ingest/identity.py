"""Whose an event is: rules as data, and the pure decisions of what identities that meet mean.

An anonymous id joins the first user id that identifies on it. A second user id there means a shared device: nothing is
merged, and its later anonymous events belong to a fresh anonymous member that joins nobody. A customer is the members
that standing links connect, named by the oldest of them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
from vigie_contracts.catalogue import read_toml
from vigie_contracts.errors import InvalidInput

MAX_MEMBERS = 32
"""A read joins the tiles of all members of a customer, so no rule may allow more."""
REMEMBERED = 50_000
USER = "user_id"
ANONYMOUS = "anonymous_id"
FILE = "identity.toml"


class NamespaceRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A namespace of identities. Of an event's identities the one with the lowest priority carries it.

    `limit` is the most values in one customer. `blocked` are regular expressions of values that stand for nobody (whole
    value, any case), beside those that are blocked in every namespace.
    """

    namespace: str
    priority: int
    limit: int
    blocked: list[str] = []


class IdentityRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `identity.toml`: the most members of a customer, values blocked everywhere, and the namespaces."""

    members: int = MAX_MEMBERS
    blocked: list[str] = []
    namespace: list[NamespaceRule]


DEFAULT_RULES = IdentityRules(
    blocked=[
        r"[\s0-]*", r"-1", r"null", r"nil", r"none", r"nan", r"undefined", r"anonymous", r"unknown", r"guest",
        r"test([ _-]?user)?", r"\(?empty\)?", r"n/?a", r"true", r"false", r"\[object object\]",
    ],
    namespace=[
        NamespaceRule(
            namespace=USER,
            priority=1,
            limit=8,
            blocked=[r"test@.*", r".*@(.*\.)?example\.(com|net|org)", r".*[@.](example|invalid|localhost|test)"],
        ),
        NamespaceRule(namespace=ANONYMOUS, priority=2, limit=MAX_MEMBERS),
    ],
)  # fmt: skip
"""What holds where a feature repository has no `identity.toml`."""


class Rules:
    """The identity rules of an installation. InvalidInput for rules that cannot be."""

    def __init__(self, rules: IdentityRules = DEFAULT_RULES) -> None:
        _check(rules)
        self.members = rules.members
        self.by_namespace = {rule.namespace: rule for rule in rules.namespace}
        self._blocked = {rule.namespace: _pattern([*rules.blocked, *rule.blocked]) for rule in rules.namespace}
        self._remembered: dict[str, dict[str, bool]] = {rule.namespace: {} for rule in rules.namespace}

    @classmethod
    def load(cls, feature_repo: Path) -> "Rules":
        """`identity.toml` when the feature repository has one, else the defaults; InvalidInput when it is wrong."""
        path = feature_repo / FILE
        if not path.exists():
            return cls()
        try:
            return cls(read_toml(path, IdentityRules))
        except InvalidInput as error:
            raise InvalidInput(error.message if str(path) in error.message else f"{path}: {error.message}") from error

    def blocked(self, namespace: str, value: str) -> bool:
        """Whether a value stands for nobody."""
        remembered = self._remembered[namespace]
        found = remembered.get(value)
        if found is None:
            pattern = self._blocked[namespace]
            found = pattern is not None and pattern.fullmatch(value) is not None
            if len(remembered) >= REMEMBERED:
                remembered.clear()
            remembered[value] = found
        return found

    def limit(self, namespace: str) -> int:
        """Most values of a namespace in one customer."""
        return self.by_namespace[namespace].limit

    def priority(self, namespace: str) -> int:
        """The lower, the more an identity says who somebody is."""
        return self.by_namespace[namespace].priority


def _check(rules: IdentityRules) -> None:
    names = [rule.namespace for rule in rules.namespace]
    if sorted(names) != [ANONYMOUS, USER]:
        raise InvalidInput(f"the identity rules need the namespaces {USER} and {ANONYMOUS}, each once, not {names}")
    if len({rule.priority for rule in rules.namespace}) < len(names):
        raise InvalidInput("two namespaces have the same priority; number them in the order in which they count")
    if not 1 <= rules.members <= MAX_MEMBERS:
        raise InvalidInput(f"members must lie between 1 and {MAX_MEMBERS}, not be {rules.members}")
    for rule in rules.namespace:
        if rule.limit < 1:
            raise InvalidInput(f"the limit of {rule.namespace} must be at least 1, not {rule.limit}")
    for value in [*rules.blocked, *(value for rule in rules.namespace for value in rule.blocked)]:
        try:
            re.compile(value)
        except re.error as error:
            raise InvalidInput(f"blocked value {value!r} is no regular expression: {error}") from error


@dataclass(slots=True, frozen=True)
class Member:
    """A member: `number` is its surrogate inside this database, `member_id` its name everywhere else."""

    number: int
    member_id: str


@dataclass(slots=True)
class Identity:
    """An identity and the member that its events get now. `joined` is the member of the first user id seen with it.

    `linked`: the merge with `joined` stands (it was neither refused nor undone).
    """

    namespace: str
    value: str
    member: Member
    joined: int | None = None
    shared: bool = False
    linked: bool = False


@dataclass(slots=True)
class Party:
    """A customer that is to be merged: its members, oldest first, and how many identities of each namespace it has."""

    customer_id: str
    members: list[Member]
    identities: dict[str, int] = field(default_factory=dict)


def link(anonymous: Identity, user: Member) -> Literal["nothing", "join", "second"]:
    """What it means that a user id comes with an anonymous id. A merge that does not stand is tried again."""
    if anonymous.shared:
        return "nothing"
    if anonymous.joined is None:
        return "join"
    if anonymous.joined != user.number:
        return "second"
    return "nothing" if anonymous.linked else "join"


def refusal_of_merge(one: Party, other: Party, rules: Rules) -> str | None:
    """Why two customers may not become one, or None."""
    members = len(one.members) + len(other.members)
    if members > rules.members:
        return f"the merge was refused: {members} members, and a customer has at most {rules.members}"
    for namespace in sorted(one.identities.keys() | other.identities.keys()):
        count = one.identities.get(namespace, 0) + other.identities.get(namespace, 0)
        if count > rules.limit(namespace):
            return f"the merge was refused: {count} identities {namespace!r}, and the limit is {rules.limit(namespace)}"
    return None


def survivor(one: Party, other: Party) -> tuple[Party, Party]:
    """(survivor, absorbed): the customer with the oldest member survives. Surrogates rise in the order of minting."""
    return (one, other) if one.members[0].number < other.members[0].number else (other, one)


def components(members: Sequence[Member], links: Iterable[tuple[int, int]]) -> list[list[Member]]:
    """The customers that members (oldest first) are by the standing links among them, each oldest first."""
    leader = {member.number: member.number for member in members}

    def root(number: int) -> int:
        while leader[number] != number:
            number = leader[number]
        return number

    for one, other in links:
        first, second = sorted((root(one), root(other)))
        leader[second] = first
    found: dict[int, list[Member]] = {}
    for member in members:
        found.setdefault(root(member.number), []).append(member)
    return list(found.values())


def _pattern(blocked: list[str]) -> "re.Pattern[str] | None":
    return re.compile("|".join(f"(?:{value})" for value in blocked), re.IGNORECASE) if blocked else None
