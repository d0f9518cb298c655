"""What a definition's own eligibility needs of a customer: the last act (inactivity), amounts (balance_attrition).

A trail is folded from the log "events" and has its own offset there under a name that holds the definition's meaning.
So a definition that is new or changed reads the log again from its beginning, a page a step, and is not served before
it has caught up; one that has caught up is folded in the transaction that moves past the same records.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from vigie_contracts.events import Cursor, Event, LogRecord
from vigie_contracts.instants import DAY_US
from vigie_contracts.scores import Amount, ChurnDefinition
from vigie_kit.database import Connection, execute_many
from vigie_tiles.layout import accepts

from vigie_scoring.domain import Trail
from vigie_scoring.erasure_store import erased_among

TRAILS_DDL = (
    "CREATE TABLE IF NOT EXISTS last_acts (member_id TEXT, definition TEXT, at_us INTEGER,"
    " PRIMARY KEY (member_id, definition))",
    "CREATE TABLE IF NOT EXISTS amounts (member_id TEXT, definition TEXT, source_id TEXT, event_id TEXT,"
    " at_us INTEGER, known_us INTEGER, amount INTEGER, PRIMARY KEY (member_id, definition, source_id, event_id))",
    "CREATE INDEX IF NOT EXISTS amounts_by_time ON amounts (definition, at_us)",
)
_OF_CUSTOMERS = (
    "FROM members m JOIN {table} f USING (member_id)"
    " WHERE m.customer_id IN (SELECT value FROM json_each(?)) AND f.definition = ?"
)

AmountRow = tuple[str, str, str, str, int, int, int]


@dataclass
class Found:
    """What a page of the log says of one definition: the last act of members, and rows of `amounts`."""

    last_acts: dict[str, int] = field(default_factory=dict)
    amounts: list[AmountRow] = field(default_factory=list)


class TrailReader:
    """Reads and keeps the trail of one definition that needs one."""

    def __init__(self, definition: ChurnDefinition) -> None:
        self.definition = definition
        self.offset_name = f"trail {definition.key} {_digest(definition)}"
        self._acts = frozenset(definition.activity) if definition.kind == "inactivity" else frozenset[str]()
        self._amounts = definition.attrition.amounts if definition.attrition else ()
        periods = definition.attrition.periods + 1 if definition.attrition else 1
        self._reach_us = periods * definition.horizon_days * DAY_US

    def collect(self, records: Iterable[LogRecord], now_us: int) -> Found:
        """What a page of records says; amounts that no period reaches any more are left out."""
        found = Found()
        for record in records:
            if not isinstance(record, Event) or not record.catalogued:
                continue
            at_us = record.effective_at_us
            if record.name in self._acts:
                found.last_acts[record.member_id] = max(found.last_acts.get(record.member_id, at_us), at_us)
            if self._amounts and at_us >= now_us - self._reach_us:
                amount = _amount(record, self._amounts)
                if amount is not None:
                    of = (record.member_id, self.definition.key, record.source_id, record.event_id)
                    found.amounts.append((*of, at_us, record.known_at_us, amount))
        return found

    def fold(self, connection: Connection, found: Found, now_us: int) -> None:
        """Add what was found, of nobody who was erased, and drop what no period reaches any more."""
        key = self.definition.key
        erased = erased_among(connection, [*found.last_acts, *(row[0] for row in found.amounts)])
        execute_many(
            connection,
            "INSERT INTO last_acts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at_us = MAX(at_us, excluded.at_us)",
            [(member, key, at_us) for member, at_us in found.last_acts.items() if member not in erased],
        )
        rows = [row for row in found.amounts if row[0] not in erased]
        execute_many(connection, "INSERT OR IGNORE INTO amounts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        if rows:
            bound = now_us - self._reach_us
            connection.exec_driver_sql("DELETE FROM amounts WHERE definition = ? AND at_us < ?", (key, bound))

    def begin(self, connection: Connection) -> None:
        """Forget what a former meaning of the definition has left."""
        key = self.definition.key
        for table in ("last_acts", "amounts"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE definition = ?", (key,))
        connection.exec_driver_sql("DELETE FROM offsets WHERE log LIKE ?", (f"trail {key} %",))

    def trails(self, connection: Connection, customer_ids: Sequence[str]) -> Mapping[str, Trail]:
        """The trail of each customer that has one, over all its members."""
        ids = msgspec.json.encode(list(customer_ids)).decode()
        if self.definition.kind == "inactivity":
            sql = f"SELECT m.customer_id, MAX(f.at_us) {_OF_CUSTOMERS.format(table='last_acts')} GROUP BY m.customer_id"
            rows = connection.exec_driver_sql(sql, (ids, self.definition.key)).fetchall()
            return {customer_id: Trail(last_act_us=at_us) for customer_id, at_us in rows}
        sql = (
            f"SELECT m.customer_id, f.at_us, f.amount {_OF_CUSTOMERS.format(table='amounts')}"
            " ORDER BY f.at_us, f.known_us, f.source_id, f.event_id"
        )
        found: dict[str, list[tuple[int, int]]] = {}
        for customer_id, at_us, amount in connection.exec_driver_sql(sql, (ids, self.definition.key)).fetchall():
            found.setdefault(customer_id, []).append((at_us, amount))
        return {customer_id: Trail(amounts=tuple(amounts)) for customer_id, amounts in found.items()}


def trail_readers(definitions: Iterable[ChurnDefinition]) -> list[TrailReader]:
    """One for each definition that needs more than outcome and history."""
    return [TrailReader(definition) for definition in definitions if definition.kind != "closure"]


def is_behind(offset: Cursor, events: Cursor) -> bool:
    """Whether a trail has not seen all that was tailed."""
    return any(offset.get(lane, 0) < number for lane, number in events.items())


def _amount(event: Event, amounts: Sequence[Amount]) -> int | None:
    """By the first of the amounts that the event is one of: it counts once."""
    for amount in amounts:
        value = event.measures.get(amount.value_property)
        if value is not None and event.name in amount.events and accepts(amount.where.items(), event.properties):
            return value
    return None


def _digest(definition: ChurnDefinition) -> str:
    meaning = (definition.kind, definition.activity, definition.attrition, definition.horizon_days)
    return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:16]
