"""Erasing a person: tombstones and the record `Erased` in one transaction, then the keys, then the file's old pages.

Each step can be repeated, and `resume` does what a crash left. It also erases again whoever an older copy of the log
brings back, because the keys' file remembers whose keys were destroyed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import Conflict, NotFound, Unavailable
from vigie_contracts.events import (
    ConsentStated,
    Erased,
    Event,
    MapChanged,
    Tombstone,
    decode_record,
    encode_record,
    mark_of,
)
from vigie_contracts.subjects import Erasure, ErasureRequest, Holdings, Place, Section, Subject, SubjectData
from vigie_kit.clock import Clock
from vigie_kit.database import erasing, reading, scrub, transaction
from vigie_kit.failpoints import hit
from vigie_kit.holdings import Ids, Table, readable

from vigie_ingest import arrival_store, erasure_store, store
from vigie_ingest.appender import Appender
from vigie_ingest.erasure_store import MEMBERS, NUMBERS, TABLES
from vigie_ingest.naming import Names
from vigie_ingest.sealing import Sealer
from vigie_ingest.store import Connection, Engine

TRIES = 3


@dataclass
class _Found:
    """What the log holds of a person: records by number, and how often it named what is not in the catalogue."""

    tombstones: dict[int, Tombstone] = field(default_factory=dict)
    records: list[tuple[int, Event | ConsentStated | MapChanged]] = field(default_factory=list)
    uncatalogued: Counter[tuple[str, str]] = field(default_factory=Counter)


class Survey(NamedTuple):
    """Numbers of the log's records up to `end` in which one of a customer's members stands."""

    member_ids: list[str]
    end: int
    numbers: list[int]


class Persons:
    """Reads of all that ingest holds of a person. From any thread."""

    def __init__(self, engine: Engine, sealer: Sealer, catalogue: Catalogue) -> None:
        self._engine = engine
        self._sealer = sealer
        self._pii = {row.name for row in catalogue.attributes.values() if row.pii is not None}

    def holdings(self, subject: Subject) -> Holdings:
        """Every place with what lies there now."""
        with reading(self._engine) as connection:
            ids = self._ids(connection, subject)
            places = [table.place(connection, ids) for table in TABLES]
            found = self.found(connection, subject.member_ids)
            records = len(found.records)
            places.append(Place(name="unsettled receipts", found=erasure_store.unsettled(connection, ids),
                                erased_by="member and time removed"))  # fmt: skip
            places.append(Place(name="log of events", found=records, erased_by="records replaced by tombstones"))
            quarantine = len(self.quarantined(connection, ids, found))
            places.append(
                Place(name="quarantine", found=quarantine, erased_by="bodies emptied and looked through again")
            )
            reached = erasure_store.log_end(connection) >= subject.number and not erasure_store.unfinished(connection)
        keys = self._sealer.keys.count(subject.member_ids)
        places.append(Place(name="keys of sealed parts", found=keys, erased_by="keys destroyed"))
        return Holdings(reached=reached, places=places)

    def subject(self, subject: Subject) -> SubjectData:
        """All of it, opened."""
        with reading(self._engine) as connection:
            ids = self._ids(connection, subject)
            sections = {table.name: self._section(connection, ids, table) for table in TABLES}
            del sections["timeline"]
            found = self.found(connection, subject.member_ids)
            bodies = self.quarantined(connection, ids, found)
        sections["events"] = Section(
            what="Everything that was recorded, in the order in which it became known.",
            rows=[self._event_row(number, record) for number, record in found.records],
        )
        sections["quarantine"] = Section(
            what="What was sent about the person and could not be accepted, as it was sent.",
            rows=[
                {
                    "source_id": row[1],
                    "event_id": row[2],
                    "body": row[3].decode(errors="replace"),
                    "message": (row[4] or row[3]).decode(errors="replace"),
                }
                for row in bodies
            ],
        )
        return SubjectData(sections=sections)

    def survey(self, customer_id: str) -> Survey:
        """Read the whole log for a customer, so that the erasing transaction need not."""
        with reading(self._engine) as connection:
            members = [str(member_id) for member_id in erasure_store.ids_of(connection, customer_id)[MEMBERS]]
            named = erasure_store.naming(connection, members, 0) if members else []
            return Survey(members, erasure_store.log_end(connection), [number for number, _ in named])

    def found(self, connection: Connection, member_ids: list[str], survey: Survey | None = None) -> _Found:
        """The log's records that are of these members. A survey of the same members spares reading what it read."""
        if survey is None or survey.member_ids != member_ids:
            survey = Survey(member_ids, 0, [])
        surveyed = store.payloads(connection, survey.numbers).items()
        members, found = set(member_ids), _Found()
        for number, payload in (*surveyed, *erasure_store.naming(connection, member_ids, survey.end)):
            record = decode_record(payload)
            if isinstance(record, Event) and record.member_id in members:
                found.tombstones[number] = Tombstone(mark=mark_of(record.source_id, record.event_id))
                if record.kind == "track" and not record.catalogued:
                    found.uncatalogued[record.source_id, self._sealer.opened(record).name] += 1
            elif (isinstance(record, ConsentStated) and record.member_id in members) or (
                isinstance(record, MapChanged) and _concerned(record) <= members
            ):
                found.tombstones[number] = Tombstone()
            else:
                continue
            found.records.append((number, record))
        return found

    def quarantined(
        self, connection: Connection, ids: dict[str, Ids], found: _Found
    ) -> list[tuple[int, str, str, bytes, bytes]]:
        """Quarantined events that name an identity of the members or a personal attribute's value.

        Those too whose good copy is theirs: what was sent first may name nobody.
        """
        if not ids[NUMBERS]:
            return []
        identities = erasure_store.identity_values(connection, ids)
        stated = (
            self._sealer.open_value(member_id, name, stored)
            for member_id, name, stored in erasure_store.attribute_rows(connection, ids)
            if name in self._pii
        )
        values = {value for value in stated if isinstance(value, str) and value}
        names = Names(identities, values)
        theirs = {(record.source_id, record.event_id) for _, record in found.records if isinstance(record, Event)}
        rows = erasure_store.quarantined(connection)
        return [
            row
            for row in rows
            if (row[1], row[2]) in theirs or any(names.stand_in(row[1], text) for text in row[3:] if text)
        ]

    def _section(self, connection: Connection, ids: dict[str, Ids], table: Table) -> Section:
        """A table's rows with the member's public id, and with what is sealed in them opened."""
        names: dict[Any, str] = {
            number: str(member_id) for number, member_id in zip(ids[NUMBERS], ids[MEMBERS], strict=True)
        }
        rows = [_with_names(row, names) for row in table.rows(connection, ids)]
        for row in rows:
            if table.name == "attributes":
                row["value"] = self._sealer.open_value(row["member_id"], row["name"], row["value"])
            elif table.name == "accounts":
                name = f"account {row['account_id']}"
                row["traits"] = self._sealer.open_value(row["member_id"], name, row["traits"])
            elif table.name == "refusals":  # the event may be the other person's
                del row["source_id"], row["event_id"]
        return Section(what=table.what, rows=[readable(row) for row in rows])

    def _ids(self, connection: Connection, subject: Subject) -> dict[str, Ids]:
        ids = erasure_store.ids_of(connection, subject.customer_id)
        return ids if ids[NUMBERS] else erasure_store.erased_ids_of(connection, subject.customer_id)

    def _event_row(self, number: int, record: Event | ConsentStated | MapChanged) -> dict[str, Any]:
        whole = self._sealer.opened(record) if isinstance(record, Event) else record
        row = {key: value for key, value in msgspec.to_builtins(whole).items() if value not in ("", None, {}, [])}
        described: dict[str, Any] = readable({"number": number, **row})
        return described


class Eraser:
    """The writes. Only the writer's thread calls `erase` and `resume`."""

    def __init__(self, engine: Engine, clock: Clock, persons: Persons, sealer: Sealer, appender: Appender) -> None:
        self._engine = engine
        self._clock = clock
        self._persons = persons
        self._sealer = sealer
        self._appender = appender

    def erase(self, request: ErasureRequest, survey: Survey | None = None) -> Erasure:
        """Erase a customer, durably; repeating it answers the same. A survey made before keeps other senders moving.

        NotFound when nobody has the id, Conflict when the erasure's id was another customer's.
        """
        with reading(self._engine) as connection:
            done = erasure_store.erasure(connection, request.erasure_id, request.customer_id)
        if done is not None and request.customer_id != done.customer_id:
            raise Conflict(f"the erasure {request.erasure_id!r} is of another customer; give this one an id of its own")
        erasure = done or self._bury(request, survey)
        self._complete(erasure)
        return erasure

    def resume(self) -> None:
        """Finish what was interrupted, and erase again whom an older copy of the log brought back."""
        with reading(self._engine) as connection:
            waiting = erasure_store.unfinished(connection)
            destroyed = self._sealer.keys.destroyed()
            returned = erasure_store.customers_of(connection, list(destroyed))
        for erasure in waiting:
            self._complete(erasure)
        for customer_id, member_id in returned.items():
            self._complete(self._bury(ErasureRequest(erasure_id=destroyed[member_id], customer_id=customer_id)))

    def _bury(self, request: ErasureRequest, survey: Survey | None = None) -> Erasure:
        """One transaction: tombstones, projections, quarantine, and the record that tells everybody else."""
        with reading(self._engine) as connection:
            ids = erasure_store.ids_of(connection, request.customer_id)
        members = [str(member_id) for member_id in ids[MEMBERS]]
        if not members:
            raise NotFound(f"no customer {request.customer_id!r}")
        with erasing(self._engine) as connection:
            found = self._persons.found(connection, members, survey)
            bodies = self._persons.quarantined(connection, ids, found)
            known_us = max(self._clock.now_us(), store.meta(connection, "known_at_us"))
            erasure_store.rewrite(connection, {n: encode_record(stone) for n, stone in found.tombstones.items()})
            erasure_store.blank(connection, [row[:3] for row in bodies])
            assert not self._persons.quarantined(connection, ids, found), "a quarantined body still names the person"
            arrival_store.uncount(connection, found.uncatalogued)
            erasure_store.clear(connection, ids)
            record = Erased(
                erasure_id=request.erasure_id, customer_id=request.customer_id, member_ids=members, known_at_us=known_us
            )
            number = erasure_store.append(connection, encode_record(record))
            erasure = Erasure(erasure_id=request.erasure_id, customer_id=request.customer_id, member_ids=members,
                              number=number, at_us=known_us)  # fmt: skip
            erasure_store.put_erasure(connection, erasure, ids[NUMBERS])
            store.put_meta(connection, "known_at_us", known_us)
            hit("ingest.before_erasure_commit")
        hit("ingest.after_erasure_commit")
        self._appender.erased(number, known_us)
        return erasure

    def _complete(self, erasure: Erasure) -> None:
        hit("ingest.before_keys_destroyed")
        emptied = self._sealer.keys.destroy(erasure.member_ids, erasure.erasure_id)
        hit("ingest.after_keys_destroyed")
        if not (emptied and any(scrub(self._engine) for _ in range(TRIES))):
            raise Unavailable("readers keep the old pages of the log; the erasure goes on when they let go")
        with transaction(self._engine) as connection:
            erasure_store.finish(connection, erasure.erasure_id)


def _concerned(record: MapChanged) -> set[str]:
    """The members whose customer a record of the map changes; the two that it joins where nobody moved."""
    return {move.member_id for move in record.moves} or set(record.between or ())


def _with_names(row: dict[str, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    """A row with the public ids of the person's members in place of their numbers."""
    named = {key.removesuffix("_no") + "_id": names.get(value, "not this person's")
             for key, value in row.items() if key.endswith("_no")}  # fmt: skip
    return {**named, **{key: value for key, value in row.items() if not key.endswith("_no")}}
