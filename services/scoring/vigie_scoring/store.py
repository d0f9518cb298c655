"""scoring.db: facts from the log "events", standing scores, decisions, memberships, the work list and the two logs.

One worker thread writes; each `Transaction` is one fsynced commit that holds state, offsets and log records together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine
from vigie_contracts.events import PURPOSES, Cursor, Purpose, SegmentMoved
from vigie_contracts.instants import DAY_US
from vigie_contracts.offers import Decision
from vigie_contracts.reads import MembershipRow, WorkListAnswer, WorkListRequest, WorkListRow
from vigie_contracts.scores import Assessment, ChurnScore, ScoreRecord, encode_score
from vigie_kit import failpoints
from vigie_kit.database import erasing as overwriting
from vigie_kit.database import execute_many, open_engine, reading, scrub, transaction
from vigie_kit.sqlite_log import SqliteLogWriter

from vigie_scoring.arbitration import Situation
from vigie_scoring.domain import Contact, CustomerFacts, denied_purposes
from vigie_scoring.erasure_store import ERASED_DDL, erased_among
from vigie_scoring.facts import FactChanges
from vigie_scoring.trails import TRAILS_DDL

SCORES_LOG, SEGMENTS_LOG = "scores", "segments"
ABSENT = -1e9
"""Stands for null in the work list's order columns, so that a row-value comparison can use the index."""

_DDL = (
    "CREATE TABLE IF NOT EXISTS offsets (log TEXT, lane INTEGER, number INTEGER, PRIMARY KEY (log, lane))",
    "CREATE TABLE IF NOT EXISTS members (member_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, first_us INTEGER,"
    " last_us INTEGER)",
    "CREATE INDEX IF NOT EXISTS members_by_customer ON members (customer_id)",
    "CREATE TABLE IF NOT EXISTS consents (member_id TEXT, purpose TEXT, state TEXT, effective_at_us INTEGER,"
    " known_at_us INTEGER, source_id TEXT, event_id TEXT, PRIMARY KEY (member_id, purpose))",
    "CREATE TABLE IF NOT EXISTS products (member_id TEXT, product TEXT, opened_us INTEGER, closed_us INTEGER,"
    " PRIMARY KEY (member_id, product))",
    "CREATE TABLE IF NOT EXISTS outcomes (member_id TEXT, name TEXT, at_us INTEGER, PRIMARY KEY (member_id, name))",
    "CREATE TABLE IF NOT EXISTS contacts (member_id TEXT, source_id TEXT, event_id TEXT, kind TEXT, offer TEXT,"
    " channel TEXT, at_us INTEGER, PRIMARY KEY (member_id, source_id, event_id))",
    "CREATE TABLE IF NOT EXISTS pending (customer_id TEXT PRIMARY KEY, ticket INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS pending_by_ticket ON pending (ticket)",
    "CREATE TABLE IF NOT EXISTS requests (idempotency_key TEXT PRIMARY KEY, customer_id TEXT, at_us INTEGER)",
    "CREATE TABLE IF NOT EXISTS standing (customer_id TEXT, definition TEXT, number INTEGER, current BLOB,"
    " last_update BLOB, change_7_days REAL, PRIMARY KEY (customer_id, definition))",
    "CREATE TABLE IF NOT EXISTS history (customer_id TEXT, definition TEXT, number INTEGER, scored_at_us INTEGER,"
    " probability REAL, PRIMARY KEY (customer_id, number))",
    "CREATE INDEX IF NOT EXISTS history_by_time ON history (customer_id, definition, scored_at_us)",
    "CREATE TABLE IF NOT EXISTS shadow_scores (customer_id TEXT, definition TEXT, model_version TEXT,"
    " scored_at_us INTEGER, probability REAL)",
    "CREATE TABLE IF NOT EXISTS memberships (customer_id TEXT, key TEXT, source TEXT, version INTEGER,"
    " since_us INTEGER, PRIMARY KEY (customer_id, key))",
    "CREATE INDEX IF NOT EXISTS memberships_by_key ON memberships (key, customer_id)",
    "CREATE TABLE IF NOT EXISTS work_list (definition TEXT, customer_id TEXT, probability REAL NOT NULL, band TEXT,"
    " change_7_days REAL NOT NULL, last_activity_us INTEGER NOT NULL, scored_at_us INTEGER,"
    " PRIMARY KEY (definition, customer_id))",
    "CREATE INDEX IF NOT EXISTS work_by_probability ON work_list (definition, probability, customer_id)",
    "CREATE INDEX IF NOT EXISTS work_by_band ON work_list (definition, band, probability, customer_id)",
    "CREATE INDEX IF NOT EXISTS work_by_change ON work_list (definition, change_7_days, customer_id)",
    "CREATE INDEX IF NOT EXISTS work_by_activity ON work_list (definition, last_activity_us, customer_id)",
    "CREATE INDEX IF NOT EXISTS work_by_customer ON work_list (customer_id)",
    "CREATE TABLE IF NOT EXISTS decisions (decision_id TEXT PRIMARY KEY, customer_id TEXT, channel TEXT,"
    " decided_at_us INTEGER, payload BLOB, situation BLOB)",
    "CREATE TABLE IF NOT EXISTS standing_decisions (customer_id TEXT, channel TEXT, decision_id TEXT,"
    " expires_at_us INTEGER, fingerprint TEXT, PRIMARY KEY (customer_id, channel))",
    "CREATE INDEX IF NOT EXISTS decisions_by_expiry ON standing_decisions (expires_at_us)",
    "CREATE TABLE IF NOT EXISTS catalogues (hash TEXT PRIMARY KEY, payload BLOB)",
    "CREATE TABLE IF NOT EXISTS champions (name TEXT PRIMARY KEY, version TEXT, rescored_after TEXT)",
)

_ASSESSMENT = msgspec.json.Decoder(Assessment)
_DECISION = msgspec.json.Decoder(Decision)
_SITUATION = msgspec.json.Decoder(Situation)
_ORDER_COLUMNS = {
    "CHURN_PROBABILITY": "probability",
    "SCORE_CHANGE_7_DAYS": "change_7_days",
    "LAST_ACTIVITY_AT": "last_activity_us",
}


@dataclass(frozen=True)
class Standing:
    """The last stored assessment of (customer, definition), and the last one that was an update."""

    number: int
    current: Assessment
    last_update: Assessment | None
    change_7_days: float | None


@dataclass(frozen=True)
class StandingDecision:
    """Which decision stands for a channel, until when, and what it was made from in short."""

    decision_id: str
    expires_at_us: int
    fingerprint: str


@dataclass(frozen=True)
class WorkRow:
    """A customer's row of the work list for one definition; null where there is no score."""

    definition: str
    customer_id: str
    probability: float | None
    band: str | None
    change_7_days: float | None
    last_activity_us: int | None
    scored_at_us: int | None


@dataclass(frozen=True)
class Rescoring:
    """How far the known customers were re-scored under a champion; `after` is null when all were."""

    version: str | None
    after: str | None


class Store:
    """Opens scoring.db, creating its tables."""

    def __init__(self, path: Path, unset_denied: Sequence[str] = ()) -> None:
        self.path = path
        self._engine: Engine = open_engine(path)
        self._unset_denied = tuple(unset_denied)
        with transaction(self._engine) as conn:
            for statement in (*_DDL, *ERASED_DDL, *TRAILS_DDL):
                conn.exec_driver_sql(statement)
            SqliteLogWriter(SCORES_LOG).create(conn)
            SqliteLogWriter(SEGMENTS_LOG).create(conn)

    @contextmanager
    def transaction(self, *, erasing: bool = False) -> "Iterator[Transaction]":
        """A write: everything done in it is committed at once, or nothing is. `erasing` overwrites the deleted."""
        with (overwriting if erasing else transaction)(self._engine) as conn:
            yield Transaction(conn, self._unset_denied)

    @contextmanager
    def reading(self) -> "Iterator[Snapshot]":
        """Reads of one consistent moment."""
        with reading(self._engine) as conn:
            yield Snapshot(conn, self._unset_denied)

    def scrub(self) -> bool:
        """Empty the write-ahead log, which may hold what was erased; False while a reader stands in the way."""
        return scrub(self._engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


class Snapshot:
    """Reads over one connection."""

    def __init__(self, conn: Connection, unset_denied: tuple[str, ...]) -> None:
        self.connection = self._conn = conn
        self._unset_denied = unset_denied

    def _rows(self, sql: str, *parameters: Any) -> Sequence[Any]:
        return self._conn.exec_driver_sql(sql, tuple(parameters)).fetchall()

    # ---- progress

    def offset(self, log: str) -> Cursor:
        """Lane -> last number consumed of a log."""
        return {lane: number for lane, number in self._rows("SELECT lane, number FROM offsets WHERE log = ?", log)}

    def pending(self, limit: int) -> list[str]:
        """Customers to score without a change record, oldest ticket first."""
        return [row[0] for row in self._rows("SELECT customer_id FROM pending ORDER BY ticket LIMIT ?", limit)]

    def tickets(self, customer_ids: Iterable[str]) -> list[tuple[str, int]]:
        """(customer, ticket) of those who wait to be scored."""
        sql = "SELECT customer_id, ticket FROM pending WHERE customer_id IN (SELECT value FROM json_each(?))"
        return [(customer_id, ticket) for customer_id, ticket in self._rows(sql, _ids(customer_ids))]

    def deniers(self, customer_ids: Sequence[str]) -> dict[str, list[Purpose]]:
        """The purposes that each customer denies; re-checked whenever something is returned."""
        return {customer_id: facts.denied for customer_id, facts in self.facts(customer_ids).items()}

    def count(self, table: str) -> int:
        """Rows of one of this file's tables."""
        return int(self._rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    def rescoring(self, name: str) -> Rescoring:
        """How far the customers were re-scored under the champion of a registered model."""
        rows = self._rows("SELECT version, rescored_after FROM champions WHERE name = ?", name)
        return Rescoring(*rows[0]) if rows else Rescoring(None, None)

    def customers_after(self, customer_id: str, limit: int) -> list[str]:
        """The next known customers by id."""
        sql = "SELECT DISTINCT customer_id FROM members WHERE customer_id > ? ORDER BY customer_id LIMIT ?"
        return [row[0] for row in self._rows(sql, customer_id, limit)]

    def expired_decisions(self, now_us: int, limit: int) -> list[str]:
        """Customers with a decision that expired by `now_us`, longest ago first."""
        sql = "SELECT customer_id FROM standing_decisions WHERE expires_at_us <= ? ORDER BY expires_at_us LIMIT ?"
        return list(dict.fromkeys(row[0] for row in self._rows(sql, now_us, limit)))

    # ---- facts

    def customers_of(self, member_ids: Iterable[str]) -> dict[str, str]:
        """Member -> customer; a member never seen is its own customer."""
        ids = list(member_ids)
        sql = "SELECT member_id, customer_id FROM members WHERE member_id IN (SELECT value FROM json_each(?))"
        return {**{member_id: member_id for member_id in ids}, **{m: c for m, c in self._rows(sql, _ids(ids))}}

    def facts(self, customer_ids: Sequence[str]) -> dict[str, CustomerFacts]:
        """What is known of each customer, over all its members; unknown ones have empty facts, erased ones deny all."""
        ids = _ids(customer_ids)
        span = {row[0]: row[1:] for row in self._rows(_SPAN, ids)}
        states: dict[str, dict[Purpose, list[str]]] = defaultdict(lambda: defaultdict(list))
        for customer_id, purpose, state in self._rows(_CONSENTS, ids):
            states[customer_id][purpose].append(state)
        for customer_id in erased_among(self._conn, customer_ids):
            states[customer_id].update({purpose: ["denied"] for purpose in PURPOSES})
        owned = _grouped(self._rows(_OWNED, ids))
        outcomes: dict[str, dict[str, int]] = defaultdict(dict)
        for customer_id, name, at_us in self._rows(_OUTCOMES, ids):
            outcomes[customer_id][name] = at_us
        contacts: dict[str, list[Contact]] = defaultdict(list)
        for customer_id, kind, offer, at_us in self._rows(_CONTACTS, ids):
            contacts[customer_id].append(Contact(kind, offer, at_us))
        return {
            customer_id: CustomerFacts(
                customer_id=customer_id,
                first_seen_us=span.get(customer_id, (None, None))[0],
                last_activity_us=span.get(customer_id, (None, None))[1],
                denied=denied_purposes(states[customer_id], self._unset_denied),
                outcomes=outcomes[customer_id],
                owned=[row[0] for row in owned[customer_id]],
                contacts=contacts[customer_id],
            )
            for customer_id in customer_ids
        }

    def memberless(self, customer_ids: Iterable[str]) -> list[str]:
        """Those customers that no member belongs to any more (merged into another, or erased)."""
        sql = (
            "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM members WHERE customer_id = value)"
            " AND (EXISTS (SELECT 1 FROM members WHERE member_id = value)"
            " OR EXISTS (SELECT 1 FROM erased WHERE member_id = value))"
        )
        return [row[0] for row in self._rows(sql, _ids(customer_ids))]

    # ---- scores

    def standing(self, customer_ids: Sequence[str], definition: str) -> dict[str, Standing]:
        """The standing assessment of each customer that has one."""
        sql = (
            "SELECT customer_id, number, current, last_update, change_7_days FROM standing"
            " WHERE customer_id IN (SELECT value FROM json_each(?)) AND definition = ?"
        )
        return {
            row[0]: Standing(row[1], _ASSESSMENT.decode(row[2]), _ASSESSMENT.decode(row[3]) if row[3] else None, row[4])
            for row in self._rows(sql, _ids(customer_ids), definition)
        }

    def probabilities_before(self, customer_ids: Sequence[str], definition: str, instant_us: int) -> dict[str, float]:
        """The probability of each customer's last score at or before an instant, where there is one."""
        sql = (
            "SELECT h.customer_id, h.probability FROM json_each(?) JOIN history h ON h.customer_id = value"
            " AND h.number = (SELECT number FROM history WHERE customer_id = value AND definition = ?"
            " AND scored_at_us <= ? AND probability IS NOT NULL ORDER BY scored_at_us DESC, number DESC LIMIT 1)"
        )
        return {row[0]: row[1] for row in self._rows(sql, _ids(customer_ids), definition, instant_us)}

    def changes_over_7_days(self, scores: Sequence[ChurnScore]) -> dict[str, float]:
        """By customer, the probability minus that of the last score at least 7 days older. Scores of one pass."""
        if not scores:
            return {}
        ids, first = [score.customer_id for score in scores], scores[0]
        before = self.probabilities_before(ids, first.definition, first.scored_at_us - 7 * DAY_US)
        return {c: score.probability - before[c] for score in scores if (c := score.customer_id) in before}

    def history(
        self, customer_id: str, definition: str | None, limit: int, before: int | None
    ) -> list[tuple[int, bytes]]:
        """(number, ScoreRecord as JSON) of a customer, newest first."""
        sql = (
            "SELECT h.number, l.payload FROM history h JOIN log_scores l ON l.number = h.number"
            " WHERE h.customer_id = ? AND h.number < ? AND (? IS NULL OR h.definition = ?)"
            " ORDER BY h.number DESC LIMIT ?"
        )
        found = self._rows(sql, customer_id, before or 2**62, definition, definition, limit)
        return [(number, bytes(payload)) for number, payload in found]

    # ---- segments

    def memberships(self, customer_ids: Sequence[str], source: str) -> list[MembershipRow]:
        """Memberships of customers in segments evaluated by `source` (scoring or features)."""
        sql = (
            "SELECT customer_id, key, since_us FROM memberships WHERE source = ?"
            " AND customer_id IN (SELECT value FROM json_each(?)) ORDER BY customer_id, key"
        )
        found = self._rows(sql, source, _ids(customer_ids))
        return [MembershipRow(customer_id=c, key=k, since_us=s) for c, k, s in found]

    def members_of(self, key: str, after: str | None, limit: int) -> list[MembershipRow]:
        """Customers of one segment, keyset by customer id."""
        sql = (
            "SELECT customer_id, since_us FROM memberships WHERE key = ? AND customer_id > ?"
            " ORDER BY customer_id LIMIT ?"
        )
        return [MembershipRow(customer_id=c, key=key, since_us=s) for c, s in self._rows(sql, key, after or "", limit)]

    def sizes(self) -> dict[str, int]:
        """Segment key -> number of customers."""
        return {key: size for key, size in self._rows("SELECT key, COUNT(*) FROM memberships GROUP BY key")}

    # ---- decisions

    def standing_decisions(self, customer_ids: Sequence[str]) -> dict[tuple[str, str], StandingDecision]:
        """(customer, channel) -> what stands."""
        sql = (
            "SELECT customer_id, channel, decision_id, expires_at_us, fingerprint FROM standing_decisions"
            " WHERE customer_id IN (SELECT value FROM json_each(?))"
        )
        return {(row[0], row[1]): StandingDecision(*row[2:]) for row in self._rows(sql, _ids(customer_ids))}

    def decisions(self, customer_ids: Sequence[str], now_us: int) -> dict[tuple[str, str], Decision]:
        """(customer, channel) -> standing decision that has not expired at `now_us`."""
        sql = (
            "SELECT s.customer_id, s.channel, d.payload FROM standing_decisions s JOIN decisions d USING (decision_id)"
            " WHERE s.customer_id IN (SELECT value FROM json_each(?)) AND s.expires_at_us > ?"
        )
        found = self._rows(sql, _ids(customer_ids), now_us)
        return {(customer_id, channel): _DECISION.decode(payload) for customer_id, channel, payload in found}

    def decision(self, decision_id: str) -> tuple[Decision, Situation] | None:
        """A decision ever made, with the situation it was made from."""
        rows = self._rows("SELECT payload, situation FROM decisions WHERE decision_id = ?", decision_id)
        return (_DECISION.decode(rows[0][0]), _SITUATION.decode(rows[0][1])) if rows else None

    def decision_ids(self) -> list[str]:
        """Every decision ever made, oldest first."""
        return [row[0] for row in self._rows("SELECT decision_id FROM decisions ORDER BY decided_at_us, decision_id")]

    def catalogue(self, hash_: str) -> bytes | None:
        """The offer file (JSON) of a catalogue hash."""
        rows = self._rows("SELECT payload FROM catalogues WHERE hash = ?", hash_)
        return rows[0][0] if rows else None

    # ---- work list

    def work_list(self, request: WorkListRequest, definition: str, now_us: int) -> WorkListAnswer:
        """One page in (order value, customer id) order; nulls are the smallest. `total` only when asked for."""
        column = _ORDER_COLUMNS[request.order_by]
        where, parameters = _work_filter(request, definition, now_us)
        total = None
        if request.with_total:
            total = int(self._rows(f"SELECT COUNT(*) FROM work_list w WHERE {where}", *parameters)[0][0])
        if request.after is not None:
            value = ABSENT if request.after[0] is None else request.after[0]
            where += f" AND (w.{column}, w.customer_id) {'<' if request.descending else '>'} (?, ?)"
            parameters += [value, request.after[1]]
        way = "DESC" if request.descending else "ASC"
        sql = (
            f"SELECT w.customer_id, w.{column} FROM work_list w WHERE {where}"
            f" ORDER BY w.{column} {way}, w.customer_id {way} LIMIT ?"
        )
        found = self._rows(sql, *parameters, request.limit + 1)
        rows = [WorkListRow(customer_id=c, order_value=None if v == ABSENT else v) for c, v in found[: request.limit]]
        return WorkListAnswer(rows=rows, has_next=len(found) > request.limit, total=total)


class Transaction(Snapshot):
    """Writes of one commit; also reads what it wrote."""

    def _many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        execute_many(self._conn, sql, rows)

    def move_offset(self, log: str, cursor: Cursor) -> None:
        """Remember how far a log was consumed."""
        self._many("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", [(log, *pair) for pair in cursor.items()])

    def enqueue(self, customer_ids: Iterable[str]) -> None:
        """Ask for scoring of customers without a change record; a later request renews the ticket."""
        last = self._rows("SELECT COALESCE(MAX(ticket), 0) FROM pending")[0][0]
        rows = [(customer_id, last + 1 + place) for place, customer_id in enumerate(dict.fromkeys(customer_ids))]
        self._many("INSERT OR REPLACE INTO pending VALUES (?, ?)", rows)

    def settle(self, tickets: Iterable[tuple[str, int]]) -> None:
        """Drop what was scored, unless it was asked for again meanwhile."""
        self._many("DELETE FROM pending WHERE customer_id = ? AND ticket = ?", tickets)

    def request(self, idempotency_key: str, customer_id: str, now_us: int) -> bool:
        """Whether a refresh with this key is new."""
        sql = "INSERT OR IGNORE INTO requests VALUES (?, ?, ?)"
        return bool(self._conn.exec_driver_sql(sql, (idempotency_key, customer_id, now_us)).rowcount)

    def set_rescoring(self, name: str, version: str, after: str | None) -> None:
        """Remember how far the known customers were re-scored under a champion."""
        self._many("INSERT OR REPLACE INTO champions VALUES (?, ?, ?)", [(name, version, after)])

    # ---- facts

    def apply_facts(self, changes: FactChanges) -> set[str]:
        """Fold what the log "events" said; returns customers whose members or denials changed."""
        touched = changes.members_of_interest
        moved = [member_id for member_id, _ in changes.moves]
        before = sorted(set(self.customers_of(touched).values()))
        denied = self.deniers(before)
        merged = set(self.customers_of(moved).values())
        self._many(_SEE_MEMBER, ((m, m, first, last) for m, (first, last) in changes.seen.items()))
        self._many(
            "INSERT INTO members VALUES (?, ?, NULL, NULL)"
            " ON CONFLICT DO UPDATE SET customer_id = excluded.customer_id",
            changes.moves,
        )
        self._many(_STATE_CONSENT, (msgspec.structs.astuple(stated) for stated in changes.consents))
        self._many(_OPEN_PRODUCT, changes.products)
        self._many(
            "INSERT INTO outcomes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at_us = MIN(at_us, excluded.at_us)",
            changes.outcomes,
        )
        self._many("INSERT OR IGNORE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?)", changes.contacts)
        merged.update(self.customers_of(moved).values())
        after = self.deniers(sorted(set(self.customers_of(touched).values())))
        return merged | {customer_id for customer_id, now in after.items() if denied.get(customer_id, []) != now}

    # ---- scores

    def append_scores(self, records: Sequence[ScoreRecord], *, indexed: bool = True) -> list[int]:
        """Append to the log "scores" and to the customers' histories; returns the numbers."""
        failpoints.hit("scoring.before_append")
        positions = SqliteLogWriter(SCORES_LOG).append(self._conn, [encode_score(record) for record in records])
        failpoints.hit("scoring.after_append")
        numbers = [position.number for position in positions]
        rows = (_history_row(record.current, number) for record, number in zip(records, numbers, strict=True))
        self._many("INSERT INTO history VALUES (?, ?, ?, ?, ?)", rows if indexed else ())
        return numbers

    def set_standing(self, rows: Iterable[tuple[str, Standing]]) -> None:
        """Replace standing assessments of customers."""
        self._many(
            "INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    customer_id,
                    standing.current.definition,
                    standing.number,
                    msgspec.json.encode(standing.current),
                    msgspec.json.encode(standing.last_update) if standing.last_update else None,
                    standing.change_7_days,
                )
                for customer_id, standing in rows
            ),
        )

    def add_shadow_scores(self, rows: Iterable[tuple[str, str, str, int, float]]) -> None:
        """Keep what a shadow model said: (customer, definition, version, scored_at_us, probability)."""
        self._many("INSERT INTO shadow_scores VALUES (?, ?, ?, ?, ?)", rows)

    def set_work_list(self, rows: Iterable[WorkRow]) -> None:
        """Replace rows of the work list."""
        self._many("INSERT OR REPLACE INTO work_list VALUES (?, ?, ?, ?, ?, ?, ?)", (_work_values(row) for row in rows))

    def move_memberships(self, moves: Sequence[SegmentMoved], source: str) -> None:
        """Apply enter and leave records to the current memberships; nobody who was erased enters."""
        erased = erased_among(self._conn, [move.customer_id for move in moves])
        for move in moves:
            if move.entered and move.customer_id not in erased:
                row = (move.customer_id, move.key, source, move.version, move.at_us)
                self._many("INSERT OR REPLACE INTO memberships VALUES (?, ?, ?, ?, ?)", [row])
            else:
                self._many("DELETE FROM memberships WHERE customer_id = ? AND key = ?", [(move.customer_id, move.key)])

    def append_segments(self, moves: Sequence[SegmentMoved]) -> None:
        """Append to scoring's own log "segments"."""
        if moves:
            SqliteLogWriter(SEGMENTS_LOG).append(self._conn, [msgspec.json.encode(move) for move in moves])

    def withdraw_decisions(self, customer_ids: Iterable[str]) -> None:
        """End the standing decisions of customers who deny offers."""
        self._many("DELETE FROM standing_decisions WHERE customer_id = ?", [(c,) for c in customer_ids])

    def withdraw_work(self, customer_ids: Iterable[str]) -> None:
        """Take the scores of customers who deny profiling out of the work list."""
        sql = f"UPDATE work_list SET probability = {ABSENT}, change_7_days = {ABSENT}, band = NULL, scored_at_us = NULL"
        self._many(f"{sql} WHERE customer_id = ?", [(c,) for c in customer_ids])

    def forget(self, customer_ids: Sequence[str]) -> None:
        """Remove what stands for customers that were merged into others; facts and logs stay."""
        for table in ("standing", "work_list", "standing_decisions", "pending"):
            self._many(f"DELETE FROM {table} WHERE customer_id = ?", [(c,) for c in customer_ids])

    # ---- decisions

    def add_decision(self, decision: Decision, situation: Situation, fingerprint: str) -> None:
        """Keep a decision for ever and let it stand."""
        channel = decision.channel
        kept = (decision.decision_id, decision.customer_id, channel, decision.decided_at_us)
        self._many(
            "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?, ?)",
            [(*kept, msgspec.json.encode(decision), msgspec.json.encode(situation))],
        )
        self._many(
            "INSERT OR REPLACE INTO standing_decisions VALUES (?, ?, ?, ?, ?)",
            [(decision.customer_id, channel, decision.decision_id, decision.expires_at_us, fingerprint)],
        )

    def add_catalogue(self, hash_: str, payload: bytes) -> None:
        """Keep an offer file, so that its decisions can be replayed."""
        self._many("INSERT OR IGNORE INTO catalogues VALUES (?, ?)", [(hash_, payload)])


_OF_CUSTOMERS = "WHERE m.customer_id IN (SELECT value FROM json_each(?))"
_SPAN = f"SELECT m.customer_id, MIN(m.first_us), MAX(m.last_us) FROM members m {_OF_CUSTOMERS} GROUP BY m.customer_id"
_CONSENTS = f"SELECT m.customer_id, c.purpose, c.state FROM members m JOIN consents c USING (member_id) {_OF_CUSTOMERS}"
_OWNED = (
    f"SELECT m.customer_id, p.product FROM members m JOIN products p USING (member_id) {_OF_CUSTOMERS}"
    " GROUP BY m.customer_id, p.product HAVING MAX(p.opened_us) > COALESCE(MAX(p.closed_us), -1) ORDER BY 1, 2"
)
_OUTCOMES = (
    f"SELECT m.customer_id, o.name, MIN(o.at_us) FROM members m JOIN outcomes o USING (member_id) {_OF_CUSTOMERS}"
    " GROUP BY m.customer_id, o.name"
)
_CONTACTS = (
    f"SELECT m.customer_id, c.kind, c.offer, c.at_us FROM members m JOIN contacts c USING (member_id) {_OF_CUSTOMERS}"
    " ORDER BY c.at_us, c.source_id, c.event_id"
)
_SEE_MEMBER = (
    "INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " first_us = MIN(COALESCE(first_us, excluded.first_us), COALESCE(excluded.first_us, first_us)),"
    " last_us = COALESCE(MAX(last_us, excluded.last_us), last_us, excluded.last_us)"
)
_STATE_CONSENT = (
    "INSERT INTO consents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state,"
    " effective_at_us = excluded.effective_at_us, known_at_us = excluded.known_at_us,"
    " source_id = excluded.source_id, event_id = excluded.event_id"
    " WHERE (excluded.effective_at_us, excluded.known_at_us, excluded.source_id, excluded.event_id)"
    " >= (consents.effective_at_us, consents.known_at_us, consents.source_id, consents.event_id)"
)
_OPEN_PRODUCT = (
    "INSERT INTO products VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " opened_us = COALESCE(MAX(opened_us, excluded.opened_us), opened_us, excluded.opened_us),"
    " closed_us = COALESCE(MAX(closed_us, excluded.closed_us), closed_us, excluded.closed_us)"
)


def _ids(values: Iterable[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _grouped(rows: Iterable[Any]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(tuple(row[1:]))
    return found


def _history_row(assessment: Assessment, number: int) -> tuple[str, str, int, int, float | None]:
    probability = assessment.probability if isinstance(assessment, ChurnScore) else None
    return (assessment.customer_id, assessment.definition, number, assessment.scored_at_us, probability)


def _work_values(row: WorkRow) -> tuple[Any, ...]:
    return (
        row.definition,
        row.customer_id,
        ABSENT if row.probability is None else row.probability,
        row.band,
        ABSENT if row.change_7_days is None else row.change_7_days,
        int(ABSENT) if row.last_activity_us is None else row.last_activity_us,
        row.scored_at_us,
    )


def _work_filter(request: WorkListRequest, definition: str, now_us: int) -> tuple[str, list[Any]]:
    clauses, parameters = ["w.definition = ?"], [definition]
    for clause, value in _work_clauses(request, now_us):
        if value is not None:
            clauses.append(clause)
            parameters.append(value)
    return " AND ".join(clauses), parameters


def _work_clauses(request: WorkListRequest, now_us: int) -> Iterator[tuple[str, Any]]:
    inactive = request.inactive_for_days
    yield "w.band IN (SELECT value FROM json_each(?))", _ids(request.bands) if request.bands else None
    yield "w.probability >= ?", request.probability_min
    yield "w.probability BETWEEN 0 AND ?", request.probability_max
    yield "w.scored_at_us >= ?", request.scored_since_us
    yield "w.last_activity_us <= ?", None if inactive is None else now_us - inactive * DAY_US
    yield (
        "EXISTS (SELECT 1 FROM memberships s WHERE s.customer_id = w.customer_id"
        " AND s.key IN (SELECT value FROM json_each(?)))",
        _ids(request.segment_keys) if request.segment_keys else None,
    )
