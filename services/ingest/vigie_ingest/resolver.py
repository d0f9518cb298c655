"""Members of identities inside the writer's transaction: minting, joining, merging. Holds a bounded cache.

`on_mint` is told of each new member, so that it gets a key.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from vigie_contracts.events import MapChanged, MapMove

from vigie_ingest import link_store, refusal_store, store
from vigie_ingest.domain import Draft
from vigie_ingest.identity import ANONYMOUS, USER, Identity, Member, Rules, link, refusal_of_merge, survivor
from vigie_ingest.link_store import Link
from vigie_ingest.parties import Parties
from vigie_ingest.refusal_store import Refused
from vigie_ingest.store import Connection

CACHED_IDENTITIES = 100_000
MERGES, REFUSED, UNDONE, SHARED = "merges", "merges_refused", "merges_undone", "shared_devices"
"""What is counted, under these keys of `meta`."""

_NO_NOTES: list[str] = []

Known = Mapping[str, dict[str, Identity]]
"""Identities by namespace and value."""
Log = Callable[[MapChanged], int]
"""Takes a record of the map and says which number of the log it will have."""


class _Cause(NamedTuple):
    """The event for which members are joined, when it became known, and where records of the map go."""

    draft: Draft
    known_us: int
    log: Log


class Resolver:
    """Finds or mints the member of each event. Used by the one writer only; `forget` after a rollback."""

    def __init__(self, rules: Rules, on_mint: Callable[[str], object]) -> None:
        self.rules = rules
        self._on_mint = on_mint
        self._cache: Known = {USER: {}, ANONYMOUS: {}}
        self._last_no: int | None = None

    def forget(self) -> None:
        """Drop what a rolled back transaction may have left."""
        self._clear()
        self._last_no = None

    def begin(self, connection: Connection, drafts: Sequence[Draft]) -> "Resolution":
        """Look up the identities of a group of drafts with one query a namespace."""
        if sum(map(len, self._cache.values())) > CACHED_IDENTITIES:
            self._clear()
        if self._last_no is None:
            self._last_no = store.last_member_no(connection)
        wanted = _wanted(drafts)
        for namespace, values in wanted.items():
            known = self._cache[namespace]
            missing = values.difference(known)
            if missing:
                found = store.find_identities(connection, namespace, list(missing))
                known.update((identity.value, identity) for identity in found)
        return Resolution(connection, self.rules, self._cache, self._next, wanted)

    def _clear(self) -> None:
        for known in self._cache.values():
            known.clear()

    def _next(self) -> Member:
        assert self._last_no is not None
        self._last_no += 1
        member = Member(self._last_no, new_member_id())
        self._on_mint(member.member_id)
        return member


class Resolution:
    """One transaction's work. `log` is told of each merge; `finish` writes what is still only in memory."""

    def __init__(
        self,
        connection: Connection,
        rules: Rules,
        cache: Known,
        mint: Callable[[], Member],
        wanted: Mapping[str, Collection[str]],
    ) -> None:
        self._connection = connection
        self._rules = rules
        self._cache = cache
        self._mint = mint
        self._wanted = wanted
        self._members: list[tuple[int, str, str, int]] = []
        self._identities: list[tuple[str, str, int, int, int | None, bool]] = []
        self._counts: Counter[str] = Counter()
        self._parties = Parties(connection, self._flush)
        self._refusals: dict[tuple[int, int], Refused] = {}

    def member_of(self, draft: Draft, known_us: int, log: Log) -> tuple[Member, list[str]]:
        """The member that carries the event, and what the receipt must say: merges refused, a shared device."""
        notes: list[str | None] = []
        user = anonymous = None
        if draft.user_id is not None:
            user = self._identity(USER, draft.user_id, known_us)
        if draft.anonymous_id is not None:
            anonymous = self._identity(ANONYMOUS, draft.anonymous_id, known_us)
        if user is not None and anonymous is not None:
            notes.append(self._meet(anonymous, user.member, _Cause(draft, known_us, log)))
            member = min(user, anonymous, key=lambda identity: self._rules.priority(identity.namespace)).member
        else:
            one = user or anonymous
            assert one is not None
            member = one.member
        if draft.previous_id is not None and draft.kind == "alias":
            notes.append(self._alias(draft.previous_id, member, _Cause(draft, known_us, log)))
        return member, [note for note in notes if note is not None] if notes else _NO_NOTES

    def known_members(self) -> set[str]:
        """Members that are known already of those whom the events name."""
        return {
            known[value].member.member_id
            for namespace, known in self._cache.items()
            for value in self._wanted[namespace]
            if value in known
        }

    def finish(self) -> None:
        """Write new members and identities, what was refused, and what was counted."""
        self._flush()
        refusal_store.put(self._connection, list(self._refusals.values()))
        self._refusals.clear()
        store.add_meta(self._connection, self._counts.items())
        self._counts.clear()

    def _flush(self) -> None:
        store.put_members(self._connection, self._members)
        store.put_identities(self._connection, self._identities)
        self._members.clear()
        self._identities.clear()

    def _identity(self, namespace: str, value: str, known_us: int) -> Identity:
        found = self._cache[namespace].get(value)
        if found is None:
            found = Identity(namespace, value, self._new_member(namespace, known_us))
            self._cache[namespace][value] = found
            self._write(found, known_us)
        return found

    def _new_member(self, namespace: str, known_us: int) -> Member:
        member = self._mint()
        self._parties.mint(member, namespace)
        self._members.append((member.number, member.member_id, member.member_id, known_us))
        return member

    def _write(self, identity: Identity, known_us: int) -> None:
        row = (identity.namespace, identity.value, identity.member.number, known_us, identity.joined, identity.shared)
        self._identities.append(row)

    def _meet(self, anonymous: Identity, user: Member, cause: _Cause) -> str | None:
        meaning = link(anonymous, user)
        if meaning == "nothing":
            return None
        if meaning == "second":
            return self._share(anonymous, user, cause) if self._are_two(anonymous, user) else None
        if anonymous.joined is None:
            anonymous.joined = user.number
            self._write(anonymous, cause.known_us)
        refusal = self._merge(anonymous.member, user, "identified", cause)
        anonymous.linked = refusal is None
        return refusal

    def _share(self, anonymous: Identity, user: Member, cause: _Cause) -> str:
        before = anonymous.member
        self._parties.part(before, ANONYMOUS)
        anonymous.member = self._new_member(ANONYMOUS, cause.known_us)
        anonymous.joined, anonymous.shared = None, True
        self._write(anonymous, cause.known_us)
        self._counts[SHARED] += 1
        return self._refuse(
            before,
            user,
            "identified",
            "the anonymous id is a shared device: a second user id identified on it, so nothing was merged,"
            " and its later anonymous events are nobody's",
            cause,
        )

    def _are_two(self, anonymous: Identity, user: Member) -> bool:
        """Whether the second user id belongs to another customer than the first."""
        assert anonymous.joined is not None
        return self._parties.of(anonymous.joined) is not self._parties.of(user.number)

    def _alias(self, previous: str, member: Member, cause: _Cause) -> str | None:
        known = self._cache[USER].get(previous)
        if known is not None:
            return self._merge(known.member, member, "alias", cause)
        if self._rules.blocked(ANONYMOUS, previous) or self._rules.blocked(USER, previous):
            return "the alias was ignored: previousId is a placeholder that stands for nobody"
        anonymous = self._identity(ANONYMOUS, previous, cause.known_us)
        if anonymous.shared:
            return "the alias was ignored: previousId is a shared device"
        return self._meet(anonymous, member, cause)

    def _merge(self, one: Member, other: Member, because: str, cause: _Cause) -> str | None:
        """Join two members' customers; why not, when it is refused. A pair is joined once, for ever."""
        if one.number == other.number:
            return None
        before = self._parties.link(one.number, other.number)
        if before is not None and before.stands:
            return None
        refusal = self._objection(one, other, before)
        if refusal is not None:
            self._counts[REFUSED] += 1
            return self._refuse(one, other, because, refusal, cause)
        self._join(one, other, because, cause)
        return None

    def _objection(self, one: Member, other: Member, before: Link | None) -> str | None:
        if before is not None:
            return f"the merge was refused: it was undone (record {before.undone_number} of the log of events)"
        first, second = self._parties.of(one.number), self._parties.of(other.number)
        return None if first is second else refusal_of_merge(first, second, self._rules)

    def _join(self, one: Member, other: Member, because: str, cause: _Cause) -> None:
        first, second = self._parties.of(one.number), self._parties.of(other.number)
        numbers = [member.number for member in (*first.members, *second.members)]
        at_us = max(cause.known_us, link_store.newest_us(self._connection, numbers))
        moves: list[MapMove] = []
        if first is not second:
            self._flush()
            kept, absorbed = survivor(first, second)
            store.move(self._connection, absorbed.members, kept.customer_id, at_us, because)
            moves = [MapMove(member.member_id, absorbed.customer_id, kept.customer_id) for member in absorbed.members]
            self._parties.join(kept, absorbed)
        pair = sorted((one, other), key=lambda member: member.number)
        names = (pair[0].member_id, pair[1].member_id)
        number = cause.log(MapChanged(moves=moves, known_at_us=at_us, because=because, between=names))
        self._parties.put(Link(pair[0].number, pair[1].number, number, at_us, because, None, at_us, ""))
        self._counts[MERGES] += 1

    def _refuse(self, one: Member, other: Member, because: str, reason: str, cause: _Cause) -> str:
        pair = (min(one.number, other.number), max(one.number, other.number))
        before, known_us = self._refusals.get(pair), cause.known_us
        times, first_us = (before.times + 1, before.first_us) if before else (1, known_us)
        event = (cause.draft.source_id, cause.draft.event_id)
        self._refusals[pair] = Refused(*pair, because, reason, times, first_us, known_us, *event)
        return reason


def new_member_id() -> str:
    """A fresh member id: 12 hex digits of system milliseconds (so that new ids are neighbours on disk), 16 random."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def _wanted(drafts: Sequence[Draft]) -> dict[str, set[str]]:
    """The identities that drafts name, by namespace; what an alias names may be of either."""
    previous = {draft.previous_id for draft in drafts}
    return {
        USER: set(filter(None, previous.union([draft.user_id for draft in drafts]))),
        ANONYMOUS: set(filter(None, previous.union([draft.anonymous_id for draft in drafts]))),
    }
