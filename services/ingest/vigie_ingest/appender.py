"""One durable transaction for a group of drafts: deduplicate, find members, stamp, append, keep the projections."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from struct import Struct

import msgspec
from vigie_contracts.events import ConsentStated, LogRecord, encode_record
from vigie_contracts.reads import UndoAnswer, UndoRequest
from vigie_kit.clock import Clock
from vigie_kit.database import transaction
from vigie_kit.failpoints import hit
from vigie_kit.sqlite_log import SqliteLogWriter
from vigie_kit.wakeup import Notifier

from vigie_ingest import link_store, quarantine_store, store, undoing
from vigie_ingest.arrivals import Arrivals, Book
from vigie_ingest.domain import DUPLICATE_WINDOW_US, Draft, Refusal
from vigie_ingest.identity import Member, Rules
from vigie_ingest.resolver import Resolution, Resolver
from vigie_ingest.sealing import Sealer
from vigie_ingest.store import Connection, Engine

SETTLE_IDLE_AT = 2_000
SETTLE_ANYWAY_AT = 50_000
ROOM_BYTES = 8_000_000
"""What must be free, after a write failed, before the service is ready again: more than the largest body."""
DUPLICATE = 0

_SIGNED = Struct(">q")
_VERDICTS = {1: "accepted", 0: "duplicate", -1: "quarantined"}

Item = Draft | Refusal


@dataclass
class _Group:
    """What a transaction is about to write: records from the number `first`, quarantined events from `first_id`."""

    now_us: int
    first: int
    first_id: int
    resolution: Resolution
    sealer: Sealer
    payloads: list[bytes] = field(default_factory=list)
    recent: list[store.Recent] = field(default_factory=list)
    quarantined: list[tuple[int, Refusal]] = field(default_factory=list)
    released: list[tuple[int, int]] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    attributes: list[tuple[int, str, str | bytes, int, int, str, str]] = field(default_factory=list)
    consents: list[tuple[Draft, Member, int]] = field(default_factory=list)
    accounts: list[tuple[int, str, int, str | bytes]] = field(default_factory=list)
    arrivals: Arrivals = field(default_factory=Arrivals)

    def log(self, record: LogRecord) -> int:
        """Take a record to append; the number that it will have."""
        number = self.first + len(self.payloads)
        self.payloads.append(encode_record(record))
        return number


class Appender:
    """The only writer of `ingest.db`. Not thread-safe: the writer thread owns it."""

    def __init__(self, engine: Engine, clock: Clock, rules: Rules, sealer: Sealer, run_dir: Path) -> None:
        self._engine = engine
        self._clock = clock
        self._sealer = sealer
        self._resolver = Resolver(rules, sealer.keys.mint)
        self._arrivals = Book()
        self._folder = run_dir.parent
        self._log = SqliteLogWriter(store.LOG)
        self._notifier = Notifier(run_dir, store.LOG)
        with engine.connect() as connection:
            self._known_us = store.meta(connection, "known_at_us")
            self._recent = store.recent_receipts(connection)
            self.end = self._log.last(connection)

    def append(self, items: Sequence[Item]) -> list[int]:
        """Write a group durably; for each item its log number, 0 for a duplicate, minus the id of a quarantined one."""
        try:
            with transaction(self._engine) as connection:
                outcomes, recent, end = self._write(connection, items)
                hit("ingest.before_commit")
        except BaseException:
            self._resolver.forget()
            self._sealer.keys.forget()
            self._arrivals.forget()
            raise
        hit("ingest.after_commit")
        self._recent.update(recent)
        self.end = max(self.end, end)
        self._notifier.notify()
        return outcomes

    def undo(self, asked: UndoRequest) -> UndoAnswer:
        """Take back the merge, or the undo, that a record of the log is; durable. NotFound, Conflict, InvalidInput."""
        number = asked.number
        try:
            with transaction(self._engine) as connection:
                earlier = undoing.repeated(connection, asked)
                if earlier is not None:
                    return earlier
                now_us = max(self._clock.now_us(), self._known_us)
                first = self._log.last(connection) + 1
                record = undoing.undo(connection, self._resolver.rules, number, asked.reason, now_us, first)
                self._log.append(connection, [encode_record(record)])
                store.put_meta(connection, "known_at_us", now_us)
                if asked.idempotency_key is not None:
                    link_store.put_undo(connection, asked.idempotency_key, first, number)
                hit("ingest.before_commit")
        finally:
            self._resolver.forget()
        hit("ingest.after_commit")
        self._known_us, self.end = now_us, first
        self._notifier.notify()
        return UndoAnswer(number=first, undoes=number, known_at_us=now_us, moves=record.moves)

    def probe(self) -> None:
        """Write what is there already, durably; OSError or a database's error when a group might not be written now."""
        free = shutil.disk_usage(self._folder).free
        if free < ROOM_BYTES:
            raise OSError(f"the disk has {free:,} bytes left; {ROOM_BYTES:,} are needed")
        with transaction(self._engine) as connection:
            store.put_meta(connection, "known_at_us", self._known_us)

    def settle(self, idle: bool) -> None:
        """Sort what is recent into its trees when there is enough of it, sooner when nobody waits."""
        if len(self._recent) < (SETTLE_IDLE_AT if idle else SETTLE_ANYWAY_AT):
            return
        with transaction(self._engine) as connection:
            store.settle(connection)
            hit("ingest.before_settle_commit")
        hit("ingest.after_settle_commit")
        self._recent.clear()

    def erased(self, end: int, known_us: int) -> None:
        """An erasure was committed beside us, with the record `end` known at `known_us`: forget what it removed."""
        self._resolver.forget()
        self._arrivals.forget()
        self._known_us = max(self._known_us, known_us)
        self.end = max(self.end, end)
        self._notifier.notify()

    def close(self) -> None:
        """Close the notifier's socket."""
        self._notifier.close()

    def _write(self, connection: Connection, items: Sequence[Item]) -> tuple[list[int], dict[int, int], int]:
        hashes = [event_hash(item.source_id, item.event_id) for item in items]
        taken = self._taken(connection, items, hashes)
        drafts = [item for item in items if isinstance(item, Draft)]
        now_us = max([self._clock.now_us(), self._known_us, *(draft.received_at_us for draft in drafts)])
        resolution = self._resolver.begin(connection, drafts)
        first_id = quarantine_store.next_id(connection) if len(drafts) < len(items) else 1
        group = _Group(now_us, self._log.last(connection) + 1, first_id, resolution, self._sealer)
        self._sealer.keys.prefetch(resolution.known_members())
        outcomes = [_decide(group, item, value, taken) for item, value in zip(items, hashes, strict=True)]
        self._append(connection, group)
        _keep(connection, group)
        self._arrivals.write(connection, group.arrivals, group.now_us)
        _count(connection, items, outcomes)
        store.put_meta(connection, "known_at_us", now_us)
        self._known_us = now_us
        recent = {row[1]: row[0] for row in group.recent}
        return outcomes, recent, group.first + len(group.payloads) - 1

    def _append(self, connection: Connection, group: _Group) -> None:
        _state_consents(connection, group)
        self._sealer.keys.commit()
        hit("ingest.before_append")
        self._log.append(connection, group.payloads)
        hit("ingest.after_append")

    def _taken(self, connection: Connection, items: Sequence[Item], hashes: list[int]) -> dict[int, "_Taken"]:
        """What is already stored under these hashes, after moving aside hashes that collide with another event's."""
        found = {value: self._recent[value] for value in hashes if value in self._recent}
        asked = [value for value in hashes if value not in found]
        found.update(store.find_receipts(connection, asked))
        if not found:
            return {}
        sent = store.sent_as(connection, set(found.values()))
        for index, (item, value) in enumerate(zip(items, hashes, strict=True)):
            if value in found and not sent[found[value]].is_of(item.source_id, item.event_id):
                hashes[index] = self._probe(connection, item, value, found, sent)
        return {
            value: _Taken(number, sent[number].received_at_us, sent[number].mark != "")
            for value, number in found.items()
        }

    def _probe(
        self, connection: Connection, item: Item, value: int, found: dict[int, int], sent: dict[int, store.SentAs]
    ) -> int:
        """The next hash that is free or this event's own: two different events shared one."""
        while True:
            value = value + 1 if value < 2**63 - 1 else -(2**63)
            number = self._recent.get(value) or store.find_receipts(connection, [value]).get(value)
            if number is None:
                return value
            found[value] = number
            sent.update(store.sent_as(connection, [number]))
            if sent[number].is_of(item.source_id, item.event_id):
                return value


class _Taken(msgspec.Struct, frozen=True):
    number: int
    received_at_us: int
    erased: bool = False


def event_hash(source_id: str, event_id: str) -> int:
    """Signed 64-bit key of an event in `receipts`; a collision is found by comparing the stored ids."""
    found = _hash_begun(source_id).copy()
    found.update(event_id.encode())
    value: int = _SIGNED.unpack(found.digest())[0]
    return value


@lru_cache(maxsize=1_000)
def _hash_begun(source_id: str) -> blake2b:
    return blake2b(f"{source_id}\0".encode(), digest_size=8)


def _decide(group: _Group, item: Item, value: int, taken: dict[int, _Taken]) -> int:
    """The item's number in the log, 0 for a duplicate, minus its quarantine id."""
    earlier = taken.get(value)
    if earlier is not None and _is_duplicate(item, earlier):
        group.duplicates.append(value)
        return DUPLICATE
    number = _quarantine(group, item, value) if isinstance(item, Refusal) else _accept(group, item, value)
    if earlier is not None and earlier.number < 0 < number:
        group.released.append((-earlier.number, number))
    taken[value] = _Taken(number, item.received_at_us)
    return number


def _is_duplicate(item: Item, earlier: _Taken) -> bool:
    """The first wins for 14 days, for a file's records for ever; a good copy replaces a quarantined one.

    A copy of an erased event is never accepted again.
    """
    if earlier.erased:
        return True
    if isinstance(item, Draft) and earlier.number < 0:
        return False
    if isinstance(item, Draft) and item.backfilled:
        return True
    return item.received_at_us - earlier.received_at_us < DUPLICATE_WINDOW_US


def _quarantine(group: _Group, item: Refusal, value: int) -> int:
    number = group.first_id + len(group.quarantined)
    group.quarantined.append((number, item))
    group.recent.append((-number, value, None, None, None))
    return -number


def _accept(group: _Group, draft: Draft, value: int) -> int:
    known_us = group.now_us if draft.known_at_us is None else min(draft.known_at_us, group.now_us)
    member, notes = group.resolution.member_of(draft, known_us, group.log)
    if draft.notes or notes:
        group.notes += [(value, note) for note in (*draft.notes, *notes)]
    effective_us = draft.times.effective_us
    number = group.log(group.sealer.seal(draft, member.member_id, known_us))
    group.recent.append((number, value, member.number, effective_us, draft.category))
    group.arrivals.see(draft)
    if draft.kind == "identify" and draft.traits:
        _state_attributes(group, draft, member, known_us)
    if draft.consents:
        group.consents.append((draft, member, known_us))
    if draft.group_id is not None and draft.kind == "group":
        traits = group.sealer.seal_value(member.member_id, f"account {draft.group_id}", draft.traits)
        group.accounts.append((member.number, draft.group_id, effective_us, traits))
    return number


def _state_attributes(group: _Group, draft: Draft, member: Member, known_us: int) -> None:
    for name, value in draft.traits.items():
        stored = group.sealer.seal_value(member.member_id, name, value)
        row = (member.number, name, stored, draft.times.effective_us, known_us, draft.source_id, draft.event_id)
        group.attributes.append(row)


def _state_consents(connection: Connection, group: _Group) -> None:
    """Append a statement when it changes what stands; one that only repeats it moves the standing one's instant."""
    if not group.consents:
        return
    standing = store.standing_consents(connection, {member.number for _, member, _ in group.consents})
    changed: dict[tuple[int, str], store.Consent] = {}
    for draft, member, known_us in group.consents:
        effective_us, source_id, event_id = draft.times.effective_us, draft.source_id, draft.event_id
        for purpose, state in draft.consents:
            key = (member.number, purpose)
            before = standing.get(key)
            if before is not None and (effective_us, known_us, source_id, event_id) <= before[2:]:
                continue
            repeated = before is not None and before.state == state
            since_us = before.since_us if repeated and before is not None else effective_us
            changed[key] = standing[key] = store.Consent(state, since_us, effective_us, known_us, source_id, event_id)
            if not repeated:
                group.log(
                    ConsentStated(
                        member_id=member.member_id,
                        purpose=purpose,
                        state=state,
                        effective_at_us=effective_us,
                        known_at_us=known_us,
                        source_id=source_id,
                        event_id=event_id,
                    )
                )
    store.put_consents(connection, changed)


def _count(connection: Connection, items: Sequence[Item], outcomes: Sequence[int]) -> None:
    signs = [1 if outcome > 0 else -1 if outcome < 0 else 0 for outcome in outcomes]
    counts = Counter(zip([item.source_id for item in items], signs, strict=True))
    store.count(connection, [(source, _VERDICTS[sign], number) for (source, sign), number in sorted(counts.items())])


def _keep(connection: Connection, group: _Group) -> None:
    """Write the projections."""
    group.resolution.finish()
    store.put_recent(connection, group.recent)
    quarantine_store.put(connection, group.quarantined)
    quarantine_store.release(connection, group.released, group.now_us)
    store.put_duplicates(connection, group.duplicates)
    store.put_notes(connection, group.notes)
    store.put_attributes(connection, group.attributes)
    store.put_accounts(connection, group.accounts)
