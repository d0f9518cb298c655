"""The course data as Vigie takes them: file names, landmarks with labels, and the two weeks that are played live."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from vigie_cli.importing import Mapping as ImportMapping
from vigie_cli.importing import load_mapping, read_records
from vigie_contracts.features import FeatureTable
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import DAY_US, format_instant, to_micros
from vigie_tiles.batch import Batch

HERE = Path(__file__).resolve().parent
FEATURE_REPO = HERE / "feature_repo"
MAPPING = HERE / "mapping.toml"
TRAIN, TEST = ("AAA-2013J", "BBB-2013B"), ("AAA-2014J", "BBB-2013J")
SMALL_TRAIN, SMALL_TEST = ("AAA-2013J",), ("AAA-2014J",)
LIVE = "AAA-2014J"
LANDMARK_DAYS = tuple(range(7, 106, 7))
HORIZON_DAYS = 28
MONTHS = {"B": 2, "J": 10}
"""A presentation's letter -> the month on whose first day it starts."""

PUBLIC_NAMES = {
    "student.csv.gz": "studentInfo.csv",
    "student_registration.csv.gz": "studentRegistration.csv",
    "student_assessment.csv.gz": "studentAssessment.csv",
    "student_vle_part.parquet": "studentVle.csv",
    "assessment.csv": "assessments.csv",
    "vle.csv.gz": "vle.csv",
}
"""The mapping's file names -> those of the public download."""


def mapping_for(folder: Path, courses: Sequence[str]) -> ImportMapping:
    """The mapping of these courses over the files that are in `folder`, by either set of names."""
    mapping = load_mapping(MAPPING).with_variables({"courses": courses})
    tables = [msgspec.structs.replace(table, file=_present(folder, table.file)) for table in mapping.table]
    lookups = [msgspec.structs.replace(lookup, file=_present(folder, lookup.file)) for lookup in mapping.lookup]
    return msgspec.structs.replace(mapping, table=tables, lookup=lookups)


def start_us(course: str) -> int:
    """When a course such as AAA-2013J starts: 1 October (J) or 1 February (B), 00:00 UTC."""
    presentation = course.rpartition("-")[2]
    return to_micros(datetime(int(presentation[:4]), MONTHS[presentation[4]], 1, tzinfo=UTC))


def landmarks(archive: Path, train: Sequence[str], test: Sequence[str]) -> pa.Table:
    """The label table of the study, from the system's archive: `customer_id`, `as_of_us`, `label`, `test`.

    A row is a student at a landmark day L, 00:00 UTC of day L + 1: registered by then and not withdrawn. The label is 1
    when the withdrawal lies in the 28 days from there.
    """
    rows = list(_rows(_students(archive), train, test))
    names = ("customer_id", "as_of_us", "label", "test")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def records_of(folder: Path, course: str) -> list[ImportRecord]:
    """All of a course's records in the order in which they become known."""
    found = read_records(folder, mapping_for(folder, [course]))
    return sorted((record for record in found if isinstance(record, ImportRecord)), key=known_us)


def known_us(record: ImportRecord) -> int:
    """When a record can be sent: what it tells has happened, and is known."""
    return max(record.effective_at_us, record.known_at_us or record.effective_at_us)


def item(record: ImportRecord) -> dict[str, Any]:
    """A record as an item of `POST /v1/batch`, in Segment's shape."""
    stamped = {
        "type": record.kind,
        "messageId": record.event_id,
        "userId": record.user_id,
        "timestamp": format_instant(record.effective_at_us),
    }
    if record.kind == "identify":
        return {**stamped, "traits": record.traits}
    return {**stamped, "event": record.name, "properties": record.properties}


def _present(folder: Path, name: str) -> str:
    """The file's name as the mapping has it; the public one (also gzipped) where only that is there."""
    public = PUBLIC_NAMES[name]
    there = [found for found in (name, public, f"{public}.gz") if (folder / found).is_file()]
    return there[0] if there else name


def _students(archive: Path) -> dict[str, tuple[str, int, int | None]]:
    """Student in a course (the user id) -> customer, registered at, withdrew at.

    The archive knows nobody's name; whose customer a user id is stands in ingest's identity map.
    """
    with Batch(archive, FeatureTable.load(FEATURE_REPO), "UTC") as batch:
        rows = batch.connection.execute(
            "SELECT coalesce(m.to_customer_id, e.member_id) AS customer_id,"
            " min(e.effective_at_us) FILTER (WHERE e.name = 'account.opened') AS opened_us,"
            " min(e.effective_at_us) FILTER (WHERE e.name = 'account.closed') AS closed_us"
            " FROM all_events e LEFT JOIN (SELECT member_id, arg_max(to_customer_id, number) AS to_customer_id"
            " FROM all_moves GROUP BY member_id) m USING (member_id) GROUP BY 1 HAVING opened_us IS NOT NULL"
        ).fetchall()
    times = {customer: (opened, closed) for customer, opened, closed in rows}
    return {user: (customer, *times[customer]) for user, customer in _identities(archive.parent) if customer in times}


def _identities(data: Path) -> list[tuple[str, str]]:
    """(user id, customer), by user id."""
    with contextlib.closing(sqlite3.connect(f"{(data / 'ingest.db').resolve().as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(
            "SELECT i.value, m.customer_id FROM identities i JOIN members m USING (member_no)"
            " WHERE i.namespace = 'user_id' ORDER BY 1"
        ).fetchall()


def _rows(
    students: Mapping[str, tuple[str, int, int | None]], train: Sequence[str], test: Sequence[str]
) -> Iterator[tuple[str, int, int, bool]]:
    for user, (customer, opened_us, closed_us) in students.items():
        course = user.partition("-")[2]
        if course not in (*train, *test):
            continue
        for day in LANDMARK_DAYS:
            as_of_us = start_us(course) + (day + 1) * DAY_US
            if opened_us < as_of_us and (closed_us is None or closed_us >= as_of_us):
                leaves = closed_us is not None and closed_us < as_of_us + HORIZON_DAYS * DAY_US
                yield customer, as_of_us, int(leaves), course in test
