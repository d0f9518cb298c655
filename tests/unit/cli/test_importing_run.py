"""What an import remembers, refuses and reports; `Rehearsal` stands where ingest would, with ingest's own rules."""

import gzip
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vigie_cli.importing import ImportReport, Progress, run
from vigie_cli.importing.rehearsal import Rehearsal
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import parse_instant
from vigie_ingest.identity import Rules
from vigie_ingest.messages import Normaliser

from tests.mappings import LOGINS

T = TypeVar("T")
NOW_US = parse_instant("2020-01-01T00:00:00Z")
BY_COLUMN = LOGINS.replace('user_id = "{id}"', 'user_id = "{id}"\nevent_id = "login:{id}:{n}"')


class Ingest(Rehearsal):
    """Ingest's rules; ends like a killed process at the `stop_at`-th request."""

    def __init__(self, feature_repo: Path, stop_at: int = 0) -> None:
        super().__init__(Normaliser(Catalogue.load(feature_repo), Rules.load(feature_repo)), NOW_US)
        self.stop_at = stop_at

    def post(self, path: str, body: object, answer: type[T]) -> T:
        self.stop_at -= 1
        if self.stop_at == 0:
            raise KeyboardInterrupt
        return super().post(path, body, answer)


class Folder:
    """A folder with one file and its mapping, imported in batches of 100."""

    def __init__(self, folder: Path, ingest: Ingest) -> None:
        self.folder = folder
        self.ingest = ingest
        self.state = folder / "state"
        self.refused = folder / "refused"
        self.file = folder / "logins.csv"
        self.map(LOGINS)

    def map(self, text: str) -> None:
        (self.folder / "mapping.toml").write_text(text)

    def rows(self, count: int, **changed: str) -> None:
        lines = [f"c{n % 50},2014-02-03T12:00:00Z,{n}" for n in range(1, count + 1)]
        for name, line in changed.items():
            lines[int(name.removeprefix("row")) - 1] = line
        self.file.write_text("\n".join(["id,at,n", *lines]) + "\n")

    def run(self, *, restart: bool = False, mended: Path | None = None) -> ImportReport:
        return run(
            self.folder, self.folder / "mapping.toml", self.ingest, state=self.state, restart=restart, mended=mended,
            refused=self.refused, batch=100,
        )  # fmt: skip

    def interrupted(self) -> None:
        self.ingest.stop_at = 3
        with pytest.raises(KeyboardInterrupt):
            self.run()


@pytest.fixture
def folder(tmp_path: Path, feature_repo: Path) -> Folder:
    return Folder(tmp_path, Ingest(feature_repo))


def test_an_interrupted_import_goes_on_and_reports_the_whole(folder: Folder) -> None:
    folder.rows(450, row7="c1,soon,7", row430="null,2014-02-03T12:00:00Z,430")
    folder.interrupted()
    report = folder.run()
    (table,) = report.tables
    assert table.resumed_at in (101, 201)
    assert (table.rows, table.accepted + table.duplicates, table.quarantined, table.refused) == (450, 448, 1, 1)
    assert [path.name for path in folder.refused.iterdir()] == ["logins.csv"]
    assert (folder.refused / "logins.csv").read_text().splitlines() == [
        "vigie_row,vigie_column,vigie_reason,id,at,n",
        "7,at,'soon' is no instant such as 2014-02-01T12:00:00Z,c1,soon,7",
        "430,,the event's ids are placeholders that stand for nobody,null,2014-02-03T12:00:00Z,430",
    ]


def test_refused_rows_that_an_interruption_left_behind_are_not_written_twice(folder: Folder) -> None:
    folder.rows(450, row120="c1,soon,120")
    folder.interrupted()
    written = folder.refused / "logins.csv"
    if not written.exists():
        folder.refused.mkdir(exist_ok=True)
        written.write_text("")
    with written.open("a") as file:
        file.write("a line that was written before the state was\n")
    folder.run()
    rows = written.read_text().splitlines()
    assert [row for row in rows if row.startswith("120,")] == [
        "120,at,'soon' is no instant such as 2014-02-01T12:00:00Z,c1,soon,120"
    ]


def test_a_file_that_changed_while_the_import_lay_still_is_noticed(folder: Folder) -> None:
    folder.map(BY_COLUMN)
    folder.rows(450)
    folder.interrupted()
    folder.rows(450, row3="c3,2014-02-04T12:00:00Z,3")
    with pytest.raises(
        InvalidInput, match=r"imported up to row 1?00 .*has changed since|up to row .* has changed since"
    ):
        folder.run()
    report = folder.run(restart=True)
    assert (report.rows, report.tables[0].resumed_at) == (450, 0)


def test_a_file_that_only_grew_is_gone_on_with(folder: Folder) -> None:
    folder.rows(450)
    folder.interrupted()
    folder.rows(460)
    report = folder.run()
    assert report.tables[0].resumed_at > 0
    assert report.rows == 460


def test_other_rows_under_row_numbers_are_refused_even_after_a_whole_import(folder: Folder) -> None:
    folder.rows(50)
    folder.run()
    assert folder.run().rows == 50
    folder.rows(60)
    assert folder.run().rows == 60
    folder.rows(60, row2="c9,2014-02-04T12:00:00Z,2")
    for restart in (False, True):
        with pytest.raises(InvalidInput, match="the event ids of the table 'logins' count rows"):
            folder.run(restart=restart)
    folder.map(BY_COLUMN.replace('name = "logins"', 'name = "february"'))
    assert folder.run().rows == 60


def test_another_mapping_does_not_go_on_with_an_import(folder: Folder) -> None:
    folder.rows(450)
    folder.interrupted()
    folder.map(LOGINS.replace("{ n =", "{ number ="))
    with pytest.raises(InvalidInput, match="the mapping of this table has changed since"):
        folder.run()
    folder.map(LOGINS)
    assert folder.run().tables[0].resumed_at > 0


def test_mended_rows_are_imported_under_the_ids_that_they_had(folder: Folder, feature_repo: Path) -> None:
    folder.rows(20, row5='c5,"soon, perhaps",5', row7="c7,2014-02-03T12:00:00Z", row9='c9,"x"y,9')
    seen: list[str] = []

    class Told(Ingest):
        def _new(self, event_id: str) -> bool:
            seen.append(event_id)
            return super()._new(event_id)

    folder.ingest = Told(feature_repo)
    report = folder.run()
    assert (report.accepted, report.refused) == (17, 3)
    assert report.refused_files == [str(folder.refused / "logins.csv")]
    mended = folder.refused / "logins.csv"
    text = mended.read_text()
    assert text.splitlines()[2:] == [
        '7,,"has 2 cells, but the header has 3",c7,2014-02-03T12:00:00Z',
        "9,,\"line 10: the quotation marks do not match (',' expected after '\"\"');"
        ' inside quotes a mark is written twice",'
        'c9,"x"y,9',
    ]
    first_try = text.replace('"soon, perhaps"', "2014-02-03T12:00:00Z").replace("00Z\n9,", "00Z,7\n9,")
    mended.write_text(first_try)
    seen.clear()
    folder.refused = folder.folder / "again"
    again = folder.run(mended=mended.parent)
    assert (again.accepted, again.refused, seen) == (2, 1, ["logins:5", "logins:7"])
    (row,) = (folder.refused / "logins.csv").read_text().splitlines()[1:]
    assert row.startswith("9,,")
    assert row.endswith(',c9,"x"y,9')
    mended.write_text(first_try.replace('"x"y', "2014-02-03T12:00:00Z"))
    assert folder.run(mended=mended.parent).accepted == 1
    assert seen[-1] == "logins:9"


def test_an_older_file_of_refused_rows_is_kept(folder: Folder) -> None:
    folder.rows(20, row5="c5,soon,5")
    folder.run()
    mended = (folder.refused / "logins.csv").read_text().replace("soon", "2014-02-03T12:00:00Z")
    (folder.refused / "logins.csv").write_text(mended)
    folder.run()
    assert (folder.refused / "logins.csv.before").read_text() == mended
    folder.run()
    assert (folder.refused / "logins.csv.before").read_text() == mended
    assert (folder.refused / "logins.csv.before1").exists()
    assert (folder.refused / "logins.csv").stat().st_mode & 0o077 == 0
    assert "soon" not in "".join(path.read_text() for path in folder.state.glob("*.json"))


def test_a_file_of_refused_rows_that_was_touched_in_between_is_kept_aside(folder: Folder) -> None:
    folder.rows(450, row5="c5,soon,5", row420="c20,soon,420")
    folder.interrupted()
    (folder.refused / "logins.csv").write_text("mine\n")
    folder.run()
    assert (folder.refused / "logins.csv.before").read_text() == "mine\n"
    header, row = (folder.refused / "logins.csv").read_text().splitlines()
    assert header == "vigie_row,vigie_column,vigie_reason,id,at,n"
    assert row.startswith("420,at,")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_refused_rows_of_other_formats_are_lines_of_json(folder: Folder, suffix: str) -> None:
    rows = [{"id": "1", "at": "2014-02-03T12:00:00Z", "n": 1}, {"id": "2", "at": "soon", "n": 2}]
    path = folder.folder / f"logins.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(msgspec.json.encode(row).decode() + "\n" for row in rows) + '{"id":\n')
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    folder.map(LOGINS.replace("logins.csv", path.name))
    report = folder.run()
    assert (report.accepted, report.refused) == (1, 2 if suffix == "jsonl" else 1)
    written = folder.refused / "logins.jsonl"
    first, *others = [msgspec.json.decode(line) for line in written.read_text().splitlines()]
    reason = "'soon' is no instant such as 2014-02-01T12:00:00Z"
    assert first == {"vigie_row": 2, "vigie_column": "at", "vigie_reason": reason, "id": "2", "at": "soon", "n": 2}
    assert [(row["vigie_row"], row["vigie_line"]) for row in others] == ([(3, '{"id":')] if suffix == "jsonl" else [])
    mended = written.read_text().replace('"at":"soon"', '"at":"2014-02-03T12:00:00Z"')
    written.write_text(mended.replace('{\\"id\\":', '{\\"id\\":\\"3\\",\\"at\\":\\"2014-02-03T12:00:00Z\\"}'))
    folder.refused = folder.folder / "again"
    assert folder.run(mended=written.parent).accepted == len(others) + 1
    assert not folder.refused.exists()


def test_reasons_are_counted_without_their_values(folder: Folder) -> None:
    folder.rows(200, **{f"row{n}": f"c1,2014-02-03T12:00:00Z,x{n}" for n in range(1, 101)})
    report = folder.run()
    ((file, reason),) = report.reasons("refused")
    assert (file, reason.column, reason.reason, reason.count) == ("logins.csv", "n", "… is no number", 100)
    assert [str(row) for row in reason.examples] == [
        f"logins.csv, row {n}, column n: 'x{n}' is no number" for n in (1, 2, 3)
    ]
    told = msgspec.json.decode(report.as_json())
    assert (told["rows"], told["accepted"], told["refused"], told["quarantined"]) == (200, 100, 100, 0)
    assert told["refused_by_reason"][0]["count"] == 100
    assert told["refused_files"] == [str(folder.refused / "logins.csv")]


def test_a_mapping_that_does_not_fit_says_so_for_every_table_before_anything_is_sent(folder: Folder) -> None:
    folder.rows(10)
    other = LOGINS.replace('source = "file"', "").replace('name = "logins"', 'name = "others"')
    third = other.replace("others", "third").replace('column = "at"', 'column = "att"')
    folder.map(LOGINS + other.replace('"{id}"', '"{customer}"') + third)
    folder.ingest.stop_at = 1
    with pytest.raises(InvalidInput) as caught:
        folder.run()
    first, second = caught.value.message.splitlines()
    assert first == "table 'others' (logins.csv): no column 'customer' (there are: id, at, n)"
    assert second == "table 'third' (logins.csv): no column 'att' (there are: id, at, n); did you mean 'at'?"


def test_a_cut_archive_is_a_problem_and_what_was_read_is_imported(folder: Folder) -> None:
    folder.rows(20_000)
    whole = gzip.compress(folder.file.read_bytes())
    (folder.folder / "logins.csv.gz").write_bytes(whole[: len(whole) // 2])
    folder.map(BY_COLUMN.replace("logins.csv", "logins.csv.gz"))
    report = folder.run()
    assert 1_000 < report.accepted == report.rows < 20_000
    (problem,) = report.problems
    assert problem.startswith(f"logins.csv.gz cannot be read on after row {report.rows:,} (Compressed file ended")
    (folder.folder / "logins.csv.gz").write_bytes(whole)
    with pytest.raises(InvalidInput, match="has changed since"):
        folder.run()
    assert folder.run(restart=True).rows == 20_000


def test_progress_is_told_while_filters_leave_rows_out(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigie_cli.importing.sending.BATCH_ROWS", 50)
    folder.rows(200)
    folder.map(LOGINS + 'where = [{ value = "{id}", among = ["nobody"] }]\n')
    seen: list[Progress] = []
    report = run(folder.folder, folder.folder / "mapping.toml", folder.ingest, progress=seen.append)
    assert [now.rows for now in seen] == [50, 100, 150, 200, 200]
    assert (report.skipped, report.accepted) == (200, 0)


def test_a_record_that_is_too_large_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigie_cli.importing.sending.RECORD_BYTES", 300)
    folder.rows(5, row2=f"{'x' * 200},2014-02-03T12:00:00Z,2")
    report = folder.run()
    assert (report.accepted, report.refused) == (4, 1)
    assert report.refusals[0].reason.endswith("bytes as a record; at most 300 are taken")


def test_empty_files_are_noted(folder: Folder) -> None:
    folder.file.write_text("")
    assert folder.run().notes == ["logins.csv is empty"]
    folder.file.write_text("id,at,n\n")
    folder.map(LOGINS.replace('name = "logins"', 'name = "other"'))
    assert folder.run().notes == ["logins.csv has no rows (table 'other')"]
