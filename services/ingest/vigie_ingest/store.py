"""All SQL of ingest. One file, one writer: receipts, identities, profiles, consent and the log commit together.

`recent` takes one appended row an event; `settle` moves them in sorted runs into `receipts` (deduplication, by hash)
and `timeline` (by member), because single random inserts into large trees cost more than everything else.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection as Connection
from sqlalchemy import Engine as Engine
from sqlalchemy import event
from vigie_contracts.events import mark_of
from vigie_contracts.reads import IdentityRow
from vigie_kit.database import execute_many, open_engine, transaction
from vigie_kit.sqlite_log import SqliteLogWriter

from vigie_ingest import arrival_store, link_store, quarantine_store, refusal_store, source_store
from vigie_ingest.identity import Identity, Member, Party

DATABASE = "ingest.db"
LOG = "events"
PAGE_BYTES = 8_192
LAST_MEMBER, KEYS_ID = "last_member_no", "keys_id"

_DDL = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS recent (number INTEGER PRIMARY KEY, hash INTEGER NOT NULL, member_no INTEGER,"
    " effective_at_us INTEGER, category TEXT)",
    "CREATE TABLE IF NOT EXISTS receipts (hash INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS timeline (member_no INTEGER NOT NULL, effective_at_us INTEGER NOT NULL,"
    " number INTEGER NOT NULL, category TEXT, PRIMARY KEY (member_no, effective_at_us, number)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS duplicates (hash INTEGER PRIMARY KEY, count INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS notes (hash INTEGER NOT NULL, note TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS notes_by_hash ON notes (hash)",
    *quarantine_store.DDL,
    "CREATE TABLE IF NOT EXISTS members (member_no INTEGER PRIMARY KEY, member_id TEXT NOT NULL UNIQUE,"
    " customer_id TEXT NOT NULL, minted_at_us INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS members_by_customer ON members (customer_id)",
    "CREATE TABLE IF NOT EXISTS map_history (member_no INTEGER NOT NULL, customer_id TEXT NOT NULL,"
    " from_us INTEGER NOT NULL, until_us INTEGER, because TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS map_history_by_member ON map_history (member_no)",
    "CREATE TABLE IF NOT EXISTS identities (namespace TEXT NOT NULL, value TEXT NOT NULL, member_no INTEGER NOT NULL,"
    " linked_at_us INTEGER NOT NULL, joined INTEGER, shared INTEGER NOT NULL, PRIMARY KEY (namespace, value))"
    " WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS identities_by_member ON identities (member_no)",
    "CREATE TABLE IF NOT EXISTS attributes (member_no INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,"
    " effective_at_us INTEGER NOT NULL, known_at_us INTEGER NOT NULL, source_id TEXT NOT NULL, event_id TEXT NOT NULL,"
    " PRIMARY KEY (member_no, name)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS consents (member_no INTEGER NOT NULL, purpose TEXT NOT NULL, state TEXT NOT NULL,"
    " since_us INTEGER NOT NULL, effective_at_us INTEGER NOT NULL, known_at_us INTEGER NOT NULL,"
    " source_id TEXT NOT NULL, event_id TEXT NOT NULL, PRIMARY KEY (member_no, purpose)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS accounts (member_no INTEGER NOT NULL, account_id TEXT NOT NULL,"
    " effective_at_us INTEGER NOT NULL, traits TEXT NOT NULL, PRIMARY KEY (member_no, account_id)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counters (source_id TEXT NOT NULL, verdict TEXT NOT NULL, count INTEGER NOT NULL,"
    " PRIMARY KEY (source_id, verdict)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS erasures (erasure_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL,"
    " member_ids TEXT NOT NULL, member_nos TEXT NOT NULL, number INTEGER NOT NULL, at_us INTEGER NOT NULL,"
    " done INTEGER NOT NULL) WITHOUT ROWID",
    *arrival_store.DDL,
    *link_store.DDL,
    *refusal_store.DDL,
    *source_store.DDL,
)

_LATER = (
    "(excluded.effective_at_us, excluded.known_at_us, excluded.source_id, excluded.event_id) >"
    " ({0}.effective_at_us, {0}.known_at_us, {0}.source_id, {0}.event_id)"
)
_PUT_ATTRIBUTE = (
    "INSERT INTO attributes (member_no, name, value, effective_at_us, known_at_us, source_id, event_id)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (member_no, name) DO UPDATE SET value = excluded.value,"
    " effective_at_us = excluded.effective_at_us, known_at_us = excluded.known_at_us,"
    " source_id = excluded.source_id, event_id = excluded.event_id WHERE " + _LATER.format("attributes")
)
_PUT_CONSENT = (
    "INSERT OR REPLACE INTO consents (member_no, purpose, state, since_us, effective_at_us, known_at_us, source_id,"
    " event_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_ACCOUNT = (
    "INSERT INTO accounts (member_no, account_id, effective_at_us, traits) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (member_no, account_id) DO UPDATE SET effective_at_us = excluded.effective_at_us,"
    " traits = excluded.traits WHERE excluded.effective_at_us >= accounts.effective_at_us"
)

_json = msgspec.json.encode

Recent = tuple[int, int, int | None, int | None, str | None]
"""(number, hash, member_no, effective_at_us, category) of an accepted event; minus its id, hash, nulls of a quarantined
one. A plain tuple, because one is made for each event."""


class Consent(NamedTuple):
    """A member's standing statement for a purpose."""

    state: str
    since_us: int
    effective_at_us: int
    known_at_us: int
    source_id: str
    event_id: str


class SentAs(msgspec.Struct, frozen=True):
    """As what an event was sent; of an erased one only the mark is left."""

    source_id: str = ""
    event_id: str = ""
    received_at_us: int = 0
    mark: str = ""

    def is_of(self, source_id: str, event_id: str) -> bool:
        """Whether this is the event that a source sent under an id."""
        if self.mark:
            return self.mark == mark_of(source_id, event_id)
        return (self.source_id, self.event_id) == (source_id, event_id)


_SENT = msgspec.json.Decoder(SentAs)


def open_database(data: Path) -> Engine:
    """The engine of `ingest.db`, its tables made."""
    engine = open_engine(data / DATABASE)
    event.listen(engine, "connect", _shape, insert=True)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for statement in _DDL:
            connection.exec_driver_sql(statement)
        SqliteLogWriter(LOG).create(connection)
        arrival_store.adopt(connection)
        quarantine_store.adopt(connection)
        link_store.adopt(connection, f"log_{LOG}")
        connection.exec_driver_sql("COMMIT")
    return engine


def bind_keys(engine: Engine, keys_id: int) -> int:
    """The id of the keys' file that this log is sealed with: the one given, unless there is another already."""
    with transaction(engine) as connection:
        bound = meta(connection, KEYS_ID) or keys_id
        put_meta(connection, KEYS_ID, bound)
    return bound


def _shape(connection: Any, _record: object) -> None:
    """Larger pages in a new file, as an event fills a quarter of a usual one; a file keeps those it was made with."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA cache_size = -32768")


# ---- receipts and deduplication --------------------


def find_receipts(connection: Connection, hashes: Sequence[int]) -> dict[int, int]:
    """Settled hash -> log number, or minus the number of a quarantined event. Sought in the order in which they lie."""
    sql = "SELECT hash, number FROM json_each(?) CROSS JOIN receipts ON hash = value"
    rows = connection.exec_driver_sql(sql, (_json(sorted(hashes)).decode(),))
    return {row[0]: row[1] for row in rows}


def recent_receipts(connection: Connection) -> dict[int, int]:
    """The hashes that are not settled yet; a later row of the same hash replaces an earlier one."""
    rows = connection.exec_driver_sql("SELECT hash, number FROM recent ORDER BY number > 0, number")
    return {row[0]: row[1] for row in rows}


def sent_as(connection: Connection, numbers: Iterable[int]) -> dict[int, SentAs]:
    """By number, as what accepted (positive) and quarantined (negative) events were sent."""
    wanted = list(numbers)
    accepted = payloads(connection, [n for n in wanted if n > 0])
    found = {number: _SENT.decode(payload) for number, payload in accepted.items()}
    rows = connection.exec_driver_sql(
        "SELECT -id, source_id, event_id, received_at_us, code FROM quarantine"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (_json([-n for n in wanted if n < 0]).decode(),),
    )
    for number, source_id, event_id, received_us, code in rows:
        is_erased = code == quarantine_store.ERASED_CODE
        found[number] = SentAs(mark=event_id) if is_erased else SentAs(source_id, event_id, received_us)
    return found


def payloads(connection: Connection, numbers: Sequence[int]) -> dict[int, bytes]:
    """Log records by number."""
    sql = f"SELECT number, payload FROM log_{LOG} WHERE number IN (SELECT value FROM json_each(?))"
    return {row[0]: row[1] for row in connection.exec_driver_sql(sql, (_json(numbers).decode(),))}


def put_recent(connection: Connection, rows: Sequence[Recent]) -> None:
    """What was accepted and quarantined, to be settled later."""
    execute_many(connection, "INSERT INTO recent VALUES (?, ?, ?, ?, ?)", rows)


def settle(connection: Connection) -> None:
    """Move `recent` into its trees in sorted runs."""
    connection.exec_driver_sql(
        "INSERT OR REPLACE INTO receipts SELECT hash, number FROM recent ORDER BY hash, number > 0, number"
    )
    connection.exec_driver_sql(
        "INSERT OR IGNORE INTO timeline SELECT member_no, effective_at_us, number, category FROM recent"
        " WHERE member_no IS NOT NULL ORDER BY member_no, effective_at_us, number"
    )
    connection.exec_driver_sql("DELETE FROM recent")


def put_duplicates(connection: Connection, hashes: Sequence[int]) -> None:
    """Count later copies."""
    sql = "INSERT INTO duplicates VALUES (?, 1) ON CONFLICT (hash) DO UPDATE SET count = count + 1"
    execute_many(connection, sql, [(value,) for value in hashes])


def put_notes(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    """What the receipt says beside the verdict."""
    execute_many(connection, "INSERT INTO notes VALUES (?, ?)", rows)


def count(connection: Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    """Add to (source_id, verdict)."""
    sql = (
        "INSERT INTO counters VALUES (?, ?, ?)"
        " ON CONFLICT (source_id, verdict) DO UPDATE SET count = count + excluded.count"
    )
    execute_many(connection, sql, rows)


def meta(connection: Connection, key: str) -> int:
    """A number kept with the state, 0 when absent."""
    found = connection.exec_driver_sql("SELECT value FROM meta WHERE key = ?", (key,)).scalar()
    return int(found or 0)


def put_meta(connection: Connection, key: str, value: int) -> None:
    """Keep a number."""
    connection.exec_driver_sql("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def add_meta(connection: Connection, counts: Iterable[tuple[str, int]]) -> None:
    """Add to numbers kept with the state."""
    sql = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value"
    execute_many(connection, sql, list(counts))


# ---- identities --------------------


def find_identities(connection: Connection, namespace: str, values: Sequence[str]) -> list[Identity]:
    """The known identities among these values."""
    sql = (
        "SELECT i.value, i.member_no, m.member_id, i.joined, i.shared, EXISTS (SELECT 1 FROM links l"
        " WHERE l.one_no = min(i.member_no, i.joined) AND l.other_no = max(i.member_no, i.joined)"
        " AND l.undone_number IS NULL) FROM identities i JOIN members m"
        " ON m.member_no = i.member_no WHERE i.namespace = ? AND i.value IN (SELECT value FROM json_each(?))"
    )
    rows = connection.exec_driver_sql(sql, (namespace, _json(values).decode()))
    return [
        Identity(namespace, value, Member(no, name), joined, bool(shared), bool(linked))
        for value, no, name, joined, shared, linked in rows
    ]


def last_member_no(connection: Connection) -> int:
    """The greatest surrogate given."""
    standing = int(connection.exec_driver_sql("SELECT coalesce(max(member_no), 0) FROM members").scalar_one())
    return max(standing, meta(connection, LAST_MEMBER))


def put_members(connection: Connection, rows: Sequence[tuple[int, str, str, int]]) -> None:
    """(member_no, member_id, customer_id, minted_at_us)."""
    execute_many(connection, "INSERT INTO members VALUES (?, ?, ?, ?)", rows)


def put_identities(connection: Connection, rows: Sequence[tuple[str, str, int, int, int | None, bool]]) -> None:
    """(namespace, value, member_no, linked_at_us, joined, shared); an identity that is there is changed."""
    sql = (
        "INSERT INTO identities VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, value) DO UPDATE SET"
        " member_no = excluded.member_no, joined = excluded.joined, shared = excluded.shared"
    )
    execute_many(connection, sql, rows)


def party_of(connection: Connection, member_no: int) -> Party:
    """The customer of a member, with all its members and counts of identities."""
    rows = connection.exec_driver_sql(
        "SELECT customer_id, member_no, member_id FROM members WHERE customer_id ="
        " (SELECT customer_id FROM members WHERE member_no = ?) ORDER BY member_no",
        (member_no,),
    ).all()
    members = [Member(no, name) for _, no, name in rows]
    counts = connection.exec_driver_sql(
        "SELECT namespace, count(*) FROM identities WHERE member_no IN (SELECT value FROM json_each(?)) GROUP BY 1",
        (_json([member.number for member in members]).decode(),),
    )
    return Party(rows[0][0], members, {row[0]: row[1] for row in counts})


def minted(connection: Connection, customer_id: str) -> list[tuple[Member, int]]:
    """The members of a customer, oldest first, and when each was minted."""
    sql = "SELECT member_no, member_id, minted_at_us FROM members WHERE customer_id = ? ORDER BY member_no"
    return [(Member(no, name), at_us) for no, name, at_us in connection.exec_driver_sql(sql, (customer_id,))]


def member_names(connection: Connection, members: Iterable[int]) -> dict[int, str]:
    """Surrogate -> member id."""
    sql = "SELECT member_no, member_id FROM members WHERE member_no IN (SELECT value FROM json_each(?))"
    return {row[0]: row[1] for row in connection.exec_driver_sql(sql, (_json(sorted(members)).decode(),))}


def move(connection: Connection, members: Sequence[Member], to: str, known_at_us: int, because: str) -> None:
    """Put members under another customer, keeping the history."""
    numbers = [(member.number,) for member in members]
    execute_many(
        connection,
        "INSERT INTO map_history SELECT member_no, customer_id, minted_at_us, NULL, 'minted' FROM members"
        " WHERE member_no = ?1 AND NOT EXISTS (SELECT 1 FROM map_history WHERE member_no = ?1)",
        numbers,
    )
    execute_many(
        connection,
        "UPDATE map_history SET until_us = max(from_us, ?) WHERE member_no = ? AND until_us IS NULL",
        [(known_at_us, member.number) for member in members],
    )
    execute_many(
        connection,
        "INSERT INTO map_history VALUES (?, ?, ?, NULL, ?)",
        [(member.number, to, known_at_us, because) for member in members],
    )
    execute_many(
        connection, "UPDATE members SET customer_id = ? WHERE member_no = ?", [(to, m.number) for m in members]
    )


# ---- profiles and consent --------------------


def put_attributes(connection: Connection, rows: Sequence[tuple[int, str, str | bytes, int, int, str, str]]) -> None:
    """(member_no, name, JSON or sealed, effective_at_us, known_at_us, source_id, event_id); the latest stays."""
    execute_many(connection, _PUT_ATTRIBUTE, rows)


def standing_consents(connection: Connection, members: Iterable[int]) -> dict[tuple[int, str], Consent]:
    """(member_no, purpose) -> statement."""
    sql = (
        "SELECT member_no, purpose, state, since_us, effective_at_us, known_at_us, source_id, event_id FROM consents"
        " WHERE member_no IN (SELECT value FROM json_each(?))"
    )
    rows = connection.exec_driver_sql(sql, (_json(sorted(members)).decode(),))
    return {(row[0], row[1]): Consent(*row[2:]) for row in rows}


def put_consents(connection: Connection, rows: dict[tuple[int, str], Consent]) -> None:
    """Replace statements."""
    execute_many(connection, _PUT_CONSENT, [(*key, *consent) for key, consent in rows.items()])


def put_accounts(connection: Connection, rows: Sequence[tuple[int, str, int, str | bytes]]) -> None:
    """(member_no, account_id, effective_at_us, sealed traits)."""
    execute_many(connection, _PUT_ACCOUNT, rows)


# ---- reads --------------------


def customers_of_members(connection: Connection, member_ids: Sequence[str]) -> dict[str, str]:
    """Member id -> id of its customer now."""
    sql = "SELECT member_id, customer_id FROM members WHERE member_id IN (SELECT value FROM json_each(?))"
    return {row[0]: row[1] for row in connection.exec_driver_sql(sql, (_json(member_ids).decode(),))}


def accounts_of(connection: Connection, members: Sequence[int]) -> list[tuple[int, str, int]]:
    """(member_no, account_id, effective_at_us of the latest statement), latest first."""
    sql = (
        "SELECT member_no, account_id, effective_at_us FROM accounts"
        " WHERE member_no IN (SELECT value FROM json_each(?)) ORDER BY effective_at_us DESC, account_id"
    )
    return [tuple(row) for row in connection.exec_driver_sql(sql, (_json(members).decode(),))]


def customer_of_identity(connection: Connection, namespace: str, value: str) -> str | None:
    """Id of the customer that an identity belongs to now."""
    sql = (
        "SELECT m.customer_id FROM identities i JOIN members m ON m.member_no = i.member_no"
        " WHERE i.namespace = ? AND i.value = ?"
    )
    return connection.exec_driver_sql(sql, (namespace, value)).scalar()


class MemberRow(NamedTuple):
    """A member of a customer, with its first and last effective instants."""

    customer_id: str
    number: int
    member_id: str
    first_us: int
    last_us: int


def members_of(connection: Connection, customer_ids: Sequence[str]) -> list[MemberRow]:
    """The members of customers, oldest first."""
    rows = connection.exec_driver_sql(
        "SELECT m.customer_id, m.member_no, m.member_id, m.minted_at_us,"
        " (SELECT min(effective_at_us) FROM timeline t WHERE t.member_no = m.member_no),"
        " (SELECT max(effective_at_us) FROM timeline t WHERE t.member_no = m.member_no)"
        " FROM members m WHERE m.customer_id IN (SELECT value FROM json_each(?)) ORDER BY m.member_no",
        (_json(customer_ids).decode(),),
    ).all()
    unsettled = {
        row[0]: (row[1], row[2])
        for row in connection.exec_driver_sql(
            "SELECT member_no, min(effective_at_us), max(effective_at_us) FROM recent"
            " WHERE member_no IN (SELECT value FROM json_each(?)) GROUP BY member_no",
            (_json([row[1] for row in rows]).decode(),),
        )
    }
    return [_with_bounds(row, unsettled.get(row[1], (None, None))) for row in rows]


def _with_bounds(row: Any, unsettled: tuple[int | None, int | None]) -> MemberRow:
    customer_id, number, member_id, minted_us, first, last = row
    firsts = [value for value in (first, unsettled[0]) if value is not None]
    lasts = [value for value in (last, unsettled[1]) if value is not None]
    return MemberRow(customer_id, number, member_id, min(firsts, default=minted_us), max(lasts, default=minted_us))


class IdentityOf(NamedTuple):
    """An identity of a member, for reads."""

    member_no: int
    namespace: str
    value: str
    linked_at_us: int
    shared: bool

    def row(self, member_id: str) -> IdentityRow:
        """As others are told it."""
        return IdentityRow(
            namespace=self.namespace,
            value=self.value,
            member_id=member_id,
            linked_at_us=self.linked_at_us,
            shared=bool(self.shared),
        )


def identities_of(connection: Connection, members: Sequence[int]) -> list[IdentityOf]:
    """The identities of members in the order of linking."""
    sql = (
        "SELECT member_no, namespace, value, linked_at_us, shared FROM identities"
        " WHERE member_no IN (SELECT value FROM json_each(?)) ORDER BY linked_at_us, namespace, value"
    )
    return [IdentityOf(*row) for row in connection.exec_driver_sql(sql, (_json(members).decode(),))]


def attributes_of(connection: Connection, members: Sequence[int]) -> list[tuple[int, str, str | bytes, int, str]]:
    """(member_no, name, JSON or sealed, effective_at_us, source_id); of equal names the later statement comes last."""
    sql = (
        "SELECT member_no, name, value, effective_at_us, source_id FROM attributes WHERE member_no IN"
        " (SELECT value FROM json_each(?)) ORDER BY name, effective_at_us, known_at_us, source_id, event_id"
    )
    return [tuple(row) for row in connection.exec_driver_sql(sql, (_json(members).decode(),))]


def timeline_page(
    connection: Connection, members: Sequence[int], before: tuple[int, int], limit: int, categories: Sequence[str]
) -> list[int]:
    """Log numbers, newest first by (effective_at, number), strictly before `before`; no categories means all."""
    chosen = " AND category IN (SELECT value FROM json_each(?))" if categories else ""
    extra = (_json(categories).decode(),) if categories else ()
    found: list[tuple[int, int]] = []
    for table in ("timeline", "recent"):
        sql = (
            f"SELECT effective_at_us, number FROM {table} WHERE member_no = ? AND (effective_at_us, number) < (?, ?)"
            f"{chosen} ORDER BY effective_at_us DESC, number DESC LIMIT ?"
        )
        for member in members:
            rows = connection.exec_driver_sql(sql, (member, *before, *extra, limit))
            found.extend((row[0], row[1]) for row in rows)
    return [number for _, number in sorted(found, reverse=True)[:limit]]


def receipt_number(connection: Connection, value: int) -> int | None:
    """The number under a hash, settled or not."""
    recent = recent_number(connection, value)
    return recent if recent is not None else find_receipts(connection, [value]).get(value)


def recent_number(connection: Connection, value: int) -> int | None:
    """The number under a hash among what is not settled."""
    sql = "SELECT number FROM recent WHERE hash = ? ORDER BY number > 0 DESC, number DESC LIMIT 1"
    return connection.exec_driver_sql(sql, (value,)).scalar()


def duplicate_count(connection: Connection, value: int) -> int:
    """How many later copies came."""
    return int(connection.exec_driver_sql("SELECT count FROM duplicates WHERE hash = ?", (value,)).scalar() or 0)


def notes_of(connection: Connection, value: int) -> list[str]:
    """Notes on a receipt."""
    return [row[0] for row in connection.exec_driver_sql("SELECT note FROM notes WHERE hash = ?", (value,))]


def counters(connection: Connection) -> dict[str, dict[str, int]]:
    """Source -> verdict -> count."""
    found: dict[str, dict[str, int]] = {}
    for source_id, verdict, number in connection.exec_driver_sql("SELECT source_id, verdict, count FROM counters"):
        found.setdefault(source_id, {})[verdict] = number
    return found
