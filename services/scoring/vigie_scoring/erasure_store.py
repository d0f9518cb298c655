"""SQL of everything in scoring.db that is about a person: counted, exported and erased by the same declarations.

What remains of an erased person is its random ids in `erased`, so that a hint on its way cannot bring it back.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from vigie_contracts.subjects import Place, Section
from vigie_kit.database import Connection
from vigie_kit.holdings import Ids, Table, readable
from vigie_kit.sqlite_log import SqliteLogWriter

PERSON = "person"
SCORES, SEGMENTS = "scores", "segments"
LOG_ERASED = "records emptied, numbers kept"
TABLES = (
    Table("members", "member_id", PERSON, "The person's ids, and the first and last time of an act."),
    Table("consents", "member_id", PERSON, "The latest statement of consent for each purpose."),
    Table("products", "member_id", PERSON, "Products that were opened and closed."),
    Table("outcomes", "member_id", PERSON, "When the relationship was ended."),
    Table("last_acts", "member_id", PERSON, "When the person last did something, by churn definition."),
    Table("amounts", "member_id", PERSON, "Amounts that came in, as far back as a churn definition looks."),
    Table("contacts", "member_id", PERSON, "Offers that were shown, and what the person did with them."),
    Table("pending", "customer_id", PERSON, "A score that is about to be computed."),
    Table("requests", "customer_id", PERSON, "Scores that were asked for."),
    Table("standing", "customer_id", PERSON, "The risk of leaving as it stands now, with its reasons."),
    Table("history", "customer_id", PERSON, "When the risk of leaving was computed, and how high it was."),
    Table("shadow_scores", "customer_id", PERSON, "What a model on trial said; it was shown to nobody."),
    Table("memberships", "customer_id", PERSON, "The segments that the person is in."),
    Table("work_list", "customer_id", PERSON, "The person's place on the list of customers at risk."),
    Table("decisions", "customer_id", PERSON, "Which offers were decided for, and from what."),
    Table("standing_decisions", "customer_id", PERSON, "The decisions that stand now."),
)
WITHOUT_PERSONS = frozenset({"offsets", "catalogues", "champions", "erased"})
_LOGS = {SCORES: "Every risk of leaving that was ever said.", SEGMENTS: "Segments of risk that were entered and left."}

ERASED_DDL = (
    "CREATE TABLE IF NOT EXISTS erased (member_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS decisions_by_customer ON decisions (customer_id)",
)


def erased_among(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these customers or members were erased."""
    sql = "SELECT member_id FROM erased WHERE member_id IN (SELECT value FROM json_each(?))"
    return {row[0] for row in connection.exec_driver_sql(sql, (_json(ids),))}


def erase(connection: Connection, customer_id: str, member_ids: Sequence[str]) -> dict[str, bool]:
    """Delete a person's rows and empty what the output logs said of it.

    Answers, by definition that a record was said for, whether one of them was a score: the log then needs a last word.
    """
    ids = _ids(member_ids)
    for table in TABLES:
        table.delete(connection, ids)
    told: dict[str, bool] = {}
    for log in _LOGS:
        found = naming(connection, log, member_ids)
        SqliteLogWriter(log).rewrite(connection, {number: b"" for number, _ in found})
        for said in (record["current"] for _, record in found if "current" in record):
            told[said["definition"]] = told.get(said["definition"], False) or said["type"] == "score"
    rows = [(member_id, customer_id) for member_id in member_ids]
    connection.exec_driver_sql("INSERT OR IGNORE INTO erased VALUES (?, ?)", rows)
    return told


def naming(connection: Connection, log: str, member_ids: Sequence[str]) -> list[tuple[int, Any]]:
    """(number, record) of an output log's records about a person."""
    persons, found = set(member_ids), []
    for number, payload in SqliteLogWriter(log).naming(connection, member_ids):
        record = msgspec.json.decode(payload)
        about = record.get("current", record)
        if about["customer_id"] in persons:
            found.append((number, record))
    return found


def places(connection: Connection, member_ids: Sequence[str]) -> list[Place]:
    """How much of a person lies in each place of this file."""
    found = [table.place(connection, _ids(member_ids)) for table in TABLES]
    for log in _LOGS:
        records = [record for _, record in naming(connection, log, member_ids) if not _says_only_that_it_ended(record)]
        found.append(Place(name=f"log of {log}", found=len(records), erased_by=LOG_ERASED))
    return found


def sections(connection: Connection, member_ids: Sequence[str]) -> dict[str, Section]:
    """All of it, for people."""
    found = {table.name: table.section(connection, _ids(member_ids)) for table in TABLES}
    for log, what in _LOGS.items():
        rows = [readable(record) for _, record in naming(connection, log, member_ids)]
        found[f"log of {log}"] = Section(what=what, rows=rows)
    return found


def _says_only_that_it_ended(record: dict[str, Any]) -> bool:
    return bool(record.get("current", {}).get("reason") == "CONSENT_WITHDRAWN") and record.get("previous") is None


def _ids(member_ids: Sequence[str]) -> dict[str, Ids]:
    return {PERSON: member_ids}


def _json(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
