"""The oracle of identities: docs/identity.md read aloud, with names instead of rows. Imports nothing of the product.

Members are names in the order of minting. A customer at an instant is whom the links known and standing then connect.
"""

from dataclasses import dataclass, field

FOR_EVER = 2**62


@dataclass
class Link:
    """A pair's merge: the spans (from, until) in which it stood, and by which record of the map it is undone now."""

    spans: list[tuple[int, int]]
    undone_by: int | None = None

    def stood(self, t_us: int) -> bool:
        return any(start <= t_us < end for start, end in self.spans)

    def changed_us(self) -> int:
        return max(instant for span in self.spans for instant in span if instant != FOR_EVER)


@dataclass
class Oracle:
    """`member` of each event; `records` are the map's records: ("merge" | "undo", pair)."""

    most_members: int
    most_users: int
    most_devices: int
    members: list[str] = field(default_factory=list)
    first_user: dict[str, str] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    links: dict[frozenset[str], Link] = field(default_factory=dict)
    records: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def event(self, user: str | None, device: str | None, known_us: int, previous: str | None = None) -> str:
        """Take an event (an alias when it has a previous id); the member that carries it."""
        self.said = []
        carrier = None
        if user is not None:
            carrier = self._mint(f"u:{user}")
        if device is not None:
            self._mint(self._device(device))
            carrier = carrier or self._device(device)
        if user is not None and device is not None:
            self._meet(device, user, known_us)
        if previous is not None:
            assert user is not None
            self._alias(previous, user, known_us)
        assert carrier is not None
        return carrier

    def undo(self, place: int, now_us: int) -> str:
        """Take back the map's record at a place: undone, restored, conflict or missing."""
        kind, pair = self.records[place]
        link = self.links[pair]
        if kind == "merge":
            if link.undone_by is not None:
                return "conflict"
            start, _ = link.spans.pop()
            link.spans.append((start, now_us))
            link.undone_by = len(self.records)
            self.records.append(("undo", pair))
            return "undone"
        if link.undone_by != place:
            return "missing"
        one, other = (self.customer(name) for name in pair)
        if one != other and self._over_limit(one | other):
            return "conflict"
        link.spans.append((now_us, FOR_EVER))
        link.undone_by = None
        self.records.append(("undo", pair))
        return "restored"

    def customer(self, member: str, t_us: int | None = None) -> frozenset[str]:
        """The members of a member's customer: now, or by what was known at t."""
        found = {member}
        grown = True
        while grown:
            grown = False
            for pair, link in self.links.items():
                stands = link.undone_by is None if t_us is None else link.stood(t_us)
                if stands and pair & found and not pair <= found:
                    found |= pair
                    grown = True
        return frozenset(found)

    def oldest(self, customer: frozenset[str]) -> str:
        return next(member for member in self.members if member in customer)

    def _mint(self, member: str) -> str:
        if member not in self.members:
            self.members.append(member)
        return member

    def _device(self, name: str) -> str:
        return f"d:{name}, shared" if name in self.shared else f"d:{name}"

    def _meet(self, device: str, user: str, known_us: int) -> None:
        if device in self.shared:
            return
        first = self.first_user.setdefault(device, user)
        if first == user:
            self._join(f"d:{device}", f"u:{user}", known_us)
        elif f"u:{user}" not in self.customer(f"u:{first}"):
            self.shared.add(device)
            self._mint(self._device(device))
            self.said.append("shared device")

    def _alias(self, previous: str, user: str, known_us: int) -> None:
        if f"u:{previous}" in self.members:
            if previous != user:
                self._join(f"u:{previous}", f"u:{user}", known_us)
        elif previous in self.shared:
            self.said.append("shared device")
        else:
            self._mint(f"d:{previous}")
            self._meet(previous, user, known_us)

    def _join(self, one: str, other: str, known_us: int) -> None:
        pair = frozenset((one, other))
        if pair in self.links:
            if self.links[pair].undone_by is not None:
                self.said.append("refused: it was undone")
            return
        both = self.customer(one) | self.customer(other)
        if other not in self.customer(one) and self._over_limit(both):
            self.said.append("refused")
            return
        earlier = [link.changed_us() for touched, link in self.links.items() if touched & both]
        self.links[pair] = Link([(max([known_us, *earlier]), FOR_EVER)])
        self.records.append(("merge", pair))

    def _over_limit(self, members: frozenset[str]) -> bool:
        users = sum(member.startswith("u:") for member in members)
        devices = sum(member.startswith("d:") and member[2:] not in self.shared for member in members)
        return len(members) > self.most_members or users > self.most_users or devices > self.most_devices
