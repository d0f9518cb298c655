"""`vigie_cli.importing.run` against a running ingest: report, resume after a kill, the Open University's files."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import pytest
from vigie_cli.importing import Progress, run
from vigie_contracts.errors import Unavailable
from vigie_contracts.instants import parse_instant

from tests.integration.ingest_process import ROOT, IngestProcess, running
from tests.mappings import LOGINS
from tests.servers import until

T = TypeVar("T")
ROWS = 2_500
CLICKS = 40_000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    lines = [f"c{n % 50},2014-02-03T12:00:00Z,{n}" for n in range(1, ROWS + 1)]
    lines[99] = "c1,2014-02-03T12:00:00Z,many"
    lines[199] = "null,2014-02-03T12:00:00Z,200"
    (folder / "logins.csv").write_text("\n".join(["id,at,n", *lines]) + "\n")
    (folder / "mapping.toml").write_text(LOGINS)
    return folder


def test_the_report_names_what_was_refused_here_and_there(files: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with running(tmp_path / "data") as process:
        report = run(files, files / "mapping.toml", process.client(), progress=seen.append, batch=1_000)
        assert (report.rows, report.accepted, report.duplicates, report.refused) == (ROWS, ROWS - 2, 0, 1)
        assert report.quarantined == 1
        assert sorted(str(refusal) for refusal in report.refusals) == [
            "logins.csv, row 100, column n: 'many' is no number",
            "logins.csv, row 200: the event's ids are placeholders that stand for nobody",
        ]
        assert [(item.rows, item.total_rows) for item in seen] == [(1_001, ROWS), (2_001, ROWS), (ROWS, ROWS)]
        again = run(files, files / "mapping.toml", process.client())
        assert (again.accepted, again.duplicates, again.quarantined, again.refused) == (0, ROWS - 2, 1, 1)
        assert len(process.events()) == ROWS - 2
        assert process.receipt("logins:1")["verdict"] == "accepted"
        assert process.receipt("logins:200")["code"] == "blocked_identity"


class _FailsAt:
    """The real client, whose server is killed before the n-th request."""

    def __init__(self, process: IngestProcess, requests: int) -> None:
        self._process = process
        self._client = process.client()
        self._requests = requests

    def post(self, path: str, body: Any, answer: type[T]) -> T:
        self._requests -= 1
        if self._requests == 0:
            self._process.kill()
            raise KeyboardInterrupt
        return self._client.post(path, body, answer)


def test_an_interrupted_import_goes_on_where_it_was(files: Path, tmp_path: Path) -> None:
    resume = tmp_path / "state"
    with running(tmp_path / "data") as process:
        with pytest.raises(KeyboardInterrupt):
            run(files, files / "mapping.toml", _FailsAt(process, 3), state=resume, batch=500)
        done = len(process.events())
        assert 500 <= done <= 1_000
        process.start()
        report = run(files, files / "mapping.toml", process.client(), state=resume, batch=500)
        assert report.tables[0].resumed_at in (501, 1_001)
        assert (report.rows, report.accepted + report.duplicates) == (ROWS, ROWS - 2)
        assert Counter(event.event_id for event in process.events()) == Counter(
            f"logins:{n}" for n in range(1, ROWS + 1) if n not in (100, 200)
        )


def test_a_server_killed_between_commit_and_answer_doubles_nothing(files: Path, tmp_path: Path) -> None:
    resume = tmp_path / "state"
    process = IngestProcess(tmp_path / "data").start("ingest.after_commit:2")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vigie_cli.importing.sending.TRIES", 1)
            with pytest.raises(Unavailable):
                run(files, files / "mapping.toml", process.client(), state=resume, batch=500)
        process.start()
        run(files, files / "mapping.toml", process.client(), state=resume, batch=500)
        assert Counter(event.event_id for event in process.events()).most_common(1)[0][1] == 1
        assert len(process.events()) == ROWS - 2
    finally:
        process.kill()


@pytest.mark.parametrize("failpoint", ["ingest.before_settle_commit", "ingest.after_settle_commit"])
def test_a_kill_while_receipts_are_sorted_loses_nothing(files: Path, tmp_path: Path, failpoint: str) -> None:
    process = IngestProcess(tmp_path / "data").start(failpoint)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Unavailable):
            patch.setattr("vigie_cli.importing.sending.TRIES", 1)
            run(files, files / "mapping.toml", process.client())
        until("the kill", lambda: process.process is not None and process.process.poll() is not None)
        process.start()
        again = run(files, files / "mapping.toml", process.client())
        assert (again.accepted, again.duplicates) == (0, ROWS - 2)
        assert len(process.events()) == ROWS - 2
    finally:
        process.kill()


@pytest.fixture
def course(test_data: Path, tmp_path: Path) -> Path:
    """The Open University's files, the clicks cut to the first 40,000 rows."""
    folder = tmp_path / "oulad"
    folder.mkdir()
    for file in (test_data / "oulad").iterdir():
        (folder / file.name).symlink_to(file)
    clicks = folder / "student_vle_part.parquet"
    first = pq.read_table(clicks).slice(0, CLICKS)
    clicks.unlink()
    pq.write_table(first, clicks)
    return folder


def test_the_open_university_is_imported_by_its_mapping(course: Path, tmp_path: Path) -> None:
    with running(tmp_path / "data", feature_repo=ROOT / "examples/oulad/feature_repo") as process:
        mapping = ROOT / "examples/oulad/mapping.toml"
        report = run(course, mapping, process.client(), variables={"courses": ["AAA-2013J"]})
        assert {table.table: table.accepted for table in report.tables} == {
            "profiles": 383,
            "registrations": 383,
            "course_starts": 383,
            "withdrawals": 60,
            "submissions": 1_633,
            "clicks": CLICKS,
        }
        assert (report.refused, report.duplicates) == (0, 0)
        events = process.events()
        student = [event for event in events if event.user_id == "30268-AAA-2013J"]
        by_name = {event.name: event for event in student if event.name != "page.viewed"}
        assert by_name["account.opened"].effective_at_us == parse_instant("2013-07-01T12:00:00Z")
        assert by_name["account.closed"].effective_at_us == parse_instant("2013-10-13T12:00:00Z")
        assert by_name["course.started"].known_at_us == parse_instant("2013-10-01T00:00:00Z")
        assert by_name["identify"].traits["imd_band"] == "30-40%"
        assert by_name["identify"].traits["disability"] is True
        clicks = [event for event in events if event.name == "page.viewed"]
        assert all(event.catalogued and event.backfilled for event in clicks)
        assert all(event.known_at_us == event.effective_at_us for event in clicks)
        expected = pq.read_table(course / "student_vle_part.parquet").column("sum_click").to_pylist()
        assert [event.measures["clicks"] for event in clicks] == expected
