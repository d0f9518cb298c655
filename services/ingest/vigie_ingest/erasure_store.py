"""SQL of everything in `ingest.db` that belongs to a person: counted, exported and erased by the same declarations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from vigie_contracts.events import mark_of
from vigie_contracts.subjects import Erasure
from vigie_kit.holdings import Ids, Table
from vigie_kit.sqlite_log import SqliteLogWriter

from vigie_ingest.quarantine_store import ERASED_CODE
from vigie_ingest.store import LAST_MEMBER, LOG, Connection, last_member_no, put_meta

MEMBERS, NUMBERS = "members", "numbers"
TABLES = (
    Table("members", "member_no", NUMBERS, "The random ids under which the person's identities are kept."),
    Table("map_history", "member_no", NUMBERS, "Which of these ids were joined to one customer, and why."),
    Table("links", "one_no", NUMBERS, "Which two of these ids an event joined, and what was undone.", "other_no"),
    Table("refusals", "one_no", NUMBERS, "Which two of these ids were not joined, and why.", "other_no"),
    Table("identities", "member_no", NUMBERS, "The names under which sources know the person."),
    Table("attributes", "member_no", NUMBERS, "The latest attributes that sources stated."),
    Table("consents", "member_no", NUMBERS, "The standing statements of consent."),
    Table("accounts", "member_no", NUMBERS, "Companies or households that the person was joined to."),
    Table("timeline", "member_no", NUMBERS, "The index of the person's events by time."),
)
WITHOUT_PERSONS = frozenset(
    {"meta", "receipts", "duplicates", "notes", "counters", "arrivals", "erasures", "quarantine", "recent"}
) | {"sources", "source_keys", "undos"}
"""Hashes, numbers, counts and operators' keys; `recent`, `quarantine` and `arrivals` are treated on their own."""

_log = SqliteLogWriter(LOG)


def ids_of(connection: Connection, customer_id: str) -> dict[str, Ids]:
    """The members of a customer (any of its ids will do), by id and by surrogate; empty when there is none."""
    rows = connection.exec_driver_sql(
        "SELECT member_no, member_id FROM members WHERE customer_id = (SELECT customer_id FROM members"
        " WHERE member_id = ?) ORDER BY member_no",
        (customer_id,),
    ).all()
    return {NUMBERS: [row[0] for row in rows], MEMBERS: [row[1] for row in rows]}


def erased_ids_of(connection: Connection, customer_id: str) -> dict[str, Ids]:
    """The same of a customer that was erased: to look whether anything is left."""
    rows = connection.exec_driver_sql(
        "SELECT member_nos, member_ids FROM erasures WHERE customer_id = ?", (customer_id,)
    ).all()
    numbers = [number for row in rows for number in msgspec.json.decode(row[0], type=list[int])]
    return {NUMBERS: numbers, MEMBERS: [member_id for row in rows for member_id in _strings(row[1])]}


def naming(connection: Connection, member_ids: Sequence[str], after: int) -> list[tuple[int, bytes]]:
    """Log records after a number in which an id of a member stands."""
    return _log.naming(connection, member_ids, after)


def log_end(connection: Connection) -> int:
    """The last number of the log."""
    return _log.last(connection)


def rewrite(connection: Connection, payloads: Mapping[int, bytes]) -> None:
    """Replace log records."""
    _log.rewrite(connection, payloads)


def append(connection: Connection, payload: bytes) -> int:
    """Append a record; its number."""
    return _log.append(connection, [payload])[0].number


def clear(connection: Connection, ids: Mapping[str, Ids]) -> None:
    """Delete the members' rows everywhere, and keep their surrogates from being given again."""
    put_meta(connection, LAST_MEMBER, last_member_no(connection))
    for table in TABLES:
        table.delete(connection, ids)
    connection.exec_driver_sql(
        "UPDATE identities SET joined = NULL WHERE joined IN (SELECT value FROM json_each(?))", (_json(ids[NUMBERS]),)
    )
    connection.exec_driver_sql(
        "UPDATE recent SET member_no = NULL, effective_at_us = NULL, category = NULL"
        " WHERE member_no IN (SELECT value FROM json_each(?))",
        (_json(ids[NUMBERS]),),
    )


def unsettled(connection: Connection, ids: Mapping[str, Ids]) -> int:
    """How many events of the members are not sorted into the timeline yet."""
    sql = "SELECT count(*) FROM recent WHERE member_no IN (SELECT value FROM json_each(?))"
    return int(connection.exec_driver_sql(sql, (_json(ids[NUMBERS]),)).scalar_one())


def identity_values(connection: Connection, ids: Mapping[str, Ids]) -> set[str]:
    """The values of the members' identities."""
    sql = "SELECT value FROM identities WHERE member_no IN (SELECT value FROM json_each(?))"
    return {row[0] for row in connection.exec_driver_sql(sql, (_json(ids[NUMBERS]),))}


def attribute_rows(connection: Connection, ids: Mapping[str, Ids]) -> list[tuple[str, str, str | bytes]]:
    """(member_id, name, stored value) of the members' attributes."""
    sql = (
        "SELECT m.member_id, a.name, a.value FROM attributes a JOIN members m USING (member_no)"
        " WHERE member_no IN (SELECT value FROM json_each(?))"
    )
    return [tuple(row) for row in connection.exec_driver_sql(sql, (_json(ids[NUMBERS]),))]


def quarantined(connection: Connection) -> list[tuple[int, str, str, bytes, bytes]]:
    """(id, source_id, event_id, body, message) of all that is kept in quarantine."""
    sql = "SELECT id, source_id, event_id, body, message FROM quarantine WHERE code != ? ORDER BY id"
    return [tuple(row) for row in connection.exec_driver_sql(sql, (ERASED_CODE,))]


def blank(connection: Connection, rows: Iterable[tuple[int, str, str]]) -> None:
    """Empty quarantined events, (id, source_id, event_id): what is left recognises a later copy."""
    parameters = [(mark_of(source_id, event_id), ERASED_CODE, number) for number, source_id, event_id in rows]
    if parameters:
        connection.exec_driver_sql(
            "UPDATE quarantine SET event_id = ?, code = ?, reason = '', body = x'', message = x'' WHERE id = ?",
            parameters,
        )


def put_erasure(connection: Connection, erasure: Erasure, member_nos: Sequence[Any]) -> None:
    """Remember an erasure whose keys are still to be destroyed."""
    ids = (_json(erasure.member_ids), _json(member_nos))
    row = (erasure.erasure_id, erasure.customer_id, *ids, erasure.number, erasure.at_us)
    connection.exec_driver_sql("INSERT OR REPLACE INTO erasures VALUES (?, ?, ?, ?, ?, ?, 0)", row)


def finish(connection: Connection, erasure_id: str) -> None:
    """Keys are destroyed, and no old page is left."""
    connection.exec_driver_sql("UPDATE erasures SET done = 1 WHERE erasure_id = ?", (erasure_id,))


def erasure(connection: Connection, erasure_id: str, customer_id: str) -> Erasure | None:
    """An erasure by its id, or that of the customer: nobody has a customer's id again."""
    found = _erasures(connection, "erasure_id = ?", erasure_id)
    found = found or _erasures(connection, "customer_id = ?", customer_id)
    return found[0] if found else None


def unfinished(connection: Connection) -> list[Erasure]:
    """Erasures that a crash interrupted, oldest first."""
    return _erasures(connection, "done = ? ORDER BY number", 0)


def customers_of(connection: Connection, member_ids: Sequence[str]) -> dict[str, str]:
    """The customers that have one of these members, each with one of them."""
    sql = "SELECT customer_id, member_id FROM members WHERE member_id IN (SELECT value FROM json_each(?))"
    return {row[0]: row[1] for row in connection.exec_driver_sql(sql, (_json(member_ids),))}


def _erasures(connection: Connection, condition: str, value: object) -> list[Erasure]:
    rows = connection.exec_driver_sql(
        f"SELECT erasure_id, customer_id, member_ids, number, at_us FROM erasures WHERE {condition}", (value,)
    )
    return [
        Erasure(erasure_id=row[0], customer_id=row[1], member_ids=_strings(row[2]), number=row[3], at_us=row[4])
        for row in rows
    ]


def _strings(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])


def _json(values: Sequence[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()
