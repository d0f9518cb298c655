"""The customers that one transaction looks at: each is read once, then kept as the transaction itself changes them."""

from collections.abc import Callable

from vigie_ingest import link_store, store
from vigie_ingest.identity import Member, Party
from vigie_ingest.link_store import Link
from vigie_ingest.store import Connection


class Parties:
    """Customers by member, and links by pair. `flush` writes what is still only in memory, before a read.

    Right only while the one writer's transaction lasts. A member that it minted itself is known without a read.
    """

    def __init__(self, connection: Connection, flush: Callable[[], None]) -> None:
        self._connection = connection
        self._flush = flush
        self._parties: dict[int, Party] = {}
        self._links: dict[tuple[int, int], Link | None] = {}
        self._minted: set[int] = set()

    def of(self, member: int) -> Party:
        """The customer of a member."""
        found = self._parties.get(member)
        if found is None:
            self._flush()
            found = store.party_of(self._connection, member)
            self._keep(found)
        return found

    def mint(self, member: Member, namespace: str) -> None:
        """A new member with its first identity."""
        self._minted.add(member.number)
        self._keep(Party(member.member_id, [member], {namespace: 1}))

    def part(self, member: Member, namespace: str) -> None:
        """An identity of a member went to another."""
        party = self._parties.get(member.number)
        if party is not None:
            party.identities[namespace] -= 1

    def join(self, kept: Party, absorbed: Party) -> None:
        """Two customers are one."""
        members = sorted((*kept.members, *absorbed.members), key=lambda member: member.number)
        names = kept.identities.keys() | absorbed.identities.keys()
        counts = {name: kept.identities.get(name, 0) + absorbed.identities.get(name, 0) for name in names}
        self._keep(Party(kept.customer_id, members, counts))

    def link(self, one: int, other: int) -> Link | None:
        """The link of a pair, standing or not."""
        pair = (min(one, other), max(one, other))
        if pair not in self._links:
            new = pair[1] in self._minted
            self._links[pair] = None if new else link_store.between(self._connection, *pair)
        return self._links[pair]

    def put(self, link: Link) -> None:
        """Add a link."""
        link_store.put(self._connection, link)
        self._links[link.one_no, link.other_no] = link

    def _keep(self, party: Party) -> None:
        for member in party.members:
            self._parties[member.number] = party
