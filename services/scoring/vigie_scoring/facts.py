"""What the log "events" tells scoring by itself: consent, products, outcomes, offer contacts, members and spans."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from vigie_contracts.catalogue import Catalogue
from vigie_contracts.events import ConsentStated, Erased, Event, LogRecord, MapChanged

CONTACT_KINDS: Mapping[str, str] = {
    "offer.shown": "SHOWN",
    "offer.clicked": "CLICKED",
    "offer.accepted": "ACCEPTED",
    "offer.declined": "DECLINED",
}
PRODUCT_OPENED = "account.opened"
PRODUCT_CLOSED = "account.closed"

Span = tuple[int, int | None]
"""(earliest effective_at, latest effective_at of what the customer initiated), in microseconds."""


@dataclass
class FactChanges:
    """Facts of one page of the log, ready to be folded; every fold is order-free but for the moves.

    Persons in `erased` are forgotten after all else: no record after `Erased` names them.
    """

    seen: dict[str, Span] = field(default_factory=dict)
    moves: list[tuple[str, str]] = field(default_factory=list)
    consents: list[ConsentStated] = field(default_factory=list)
    products: list[tuple[str, str, int | None, int | None]] = field(default_factory=list)
    outcomes: list[tuple[str, str, int]] = field(default_factory=list)
    contacts: list[tuple[str, str, str, str, str, str | None, int]] = field(default_factory=list)
    erased: list[Erased] = field(default_factory=list)

    @property
    def members_of_interest(self) -> set[str]:
        """Members whose customers must be assessed though the features may not have changed."""
        return {stated.member_id for stated in self.consents} | {member_id for member_id, _ in self.moves}


class FactReader:
    """Knows which names matter: the definitions' outcomes, offer contacts, products, and who initiates what."""

    def __init__(self, catalogue: Catalogue, outcomes: Collection[str]) -> None:
        self._outcomes = frozenset(outcomes)
        self._by_institution = frozenset(
            row.name for row in catalogue.micro_conversions.values() if row.initiated_by == "institution"
        )

    def collect(self, records: Iterable[LogRecord]) -> FactChanges:
        """Facts of a page of records, in log order."""
        changes = FactChanges()
        for record in records:
            if isinstance(record, Event):
                self._event(record, changes)
            elif isinstance(record, ConsentStated):
                changes.consents.append(record)
            elif isinstance(record, Erased):
                changes.erased.append(record)
            elif isinstance(record, MapChanged):
                changes.moves.extend((move.member_id, move.to_customer_id) for move in record.moves)
        return changes

    def _event(self, event: Event, changes: FactChanges) -> None:
        at_us = event.effective_at_us
        acted = event.kind != "identify" and event.name not in self._by_institution
        first, last = changes.seen.get(event.member_id, (at_us, None))
        changes.seen[event.member_id] = (min(first, at_us), max(last or at_us, at_us) if acted else last)
        if not event.catalogued:
            return
        if event.name in self._outcomes:
            changes.outcomes.append((event.member_id, event.name, at_us))
        if event.name in CONTACT_KINDS:
            self._contact(event, changes)
        elif event.name in (PRODUCT_OPENED, PRODUCT_CLOSED):
            self._product(event, changes)

    def _contact(self, event: Event, changes: FactChanges) -> None:
        offer = event.properties.get("offer")
        if isinstance(offer, str):
            channel = event.properties.get("channel") or event.channel
            row = (event.member_id, event.source_id, event.event_id, CONTACT_KINDS[event.name], offer)
            changes.contacts.append((*row, channel if isinstance(channel, str) else None, event.effective_at_us))

    def _product(self, event: Event, changes: FactChanges) -> None:
        product = event.properties.get("product")
        if isinstance(product, str):
            opened = event.effective_at_us if event.name == PRODUCT_OPENED else None
            closed = event.effective_at_us if event.name == PRODUCT_CLOSED else None
            changes.products.append((event.member_id, product, opened, closed))
