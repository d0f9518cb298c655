"""Files as people have them: other encodings, byte order marks, ragged rows, broken quotes, damaged files."""

import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vigie_cli.importing import RowRefusal, read_records
from vigie_cli.importing.mapping import Instant, Join, Lookup, Mapping, Table, Value
from vigie_cli.importing.sources import MAX_CELL_CHARACTERS, Broken, Damaged, Source
from vigie_contracts.errors import InvalidInput
from vigie_contracts.imports import ImportRecord

NOON = datetime(2014, 2, 3, 12)  # noqa: DTZ001 (a column without offset)
AT = Instant(constant="2014-02-03T12:00:00Z")


def table(file: str, **more: Any) -> Table:
    fields: dict[str, Any] = {"kind": "event", "event": "act", "user_id": "{id}", "effective_at": AT, **more}
    return Table(file=file, **fields)


def read(folder: Path, file: str, **more: Any) -> list[ImportRecord | RowRefusal]:
    return list(read_records(folder, Mapping(source="s", table=[table(file, **more)])))


def people(found: list[ImportRecord | RowRefusal]) -> list[str | None]:
    return [record.user_id for record in found if isinstance(record, ImportRecord)]


def refusals(found: list[ImportRecord | RowRefusal]) -> list[tuple[int, str | None, str]]:
    return [(row.row, row.column, row.reason) for row in found if isinstance(row, RowRefusal)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text("id,n\né,1\n", encoding=encoding)
    (tmp_path / "a.jsonl").write_text('{"id":"é"}\n', encoding=encoding)
    assert people(read(tmp_path, "a.csv")) == ["é"]
    assert people(read(tmp_path, "a.jsonl")) == ["é"]


def test_another_encoding_is_stated(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;ville\nzoé;Nîmes\n", encoding="cp1252")
    found = read(tmp_path, "a.csv", encoding="cp1252", delimiter=";", properties={"v": "ville"})
    assert people(found) == ["zoé"]
    with pytest.raises(InvalidInput, match="'cp-1252x' is no encoding"):
        read(tmp_path, "a.csv", encoding="cp-1252x")


def test_bytes_that_are_no_text_are_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,v\n1,ok\n2,N\xeemes\n3,N\xc3\xaemes\n")
    found = read(tmp_path, "a.csv")
    assert people(found) == ["1", "3"]
    reason = 'has bytes that are not UTF-8; if the file has another encoding, say `encoding = "cp1252"` in the mapping'
    assert refusals(found) == [(2, None, reason)]
    (tmp_path / "b.csv").write_bytes(b"id,pr\xe9nom\n1,x\n")
    with pytest.raises(InvalidInput, match=r"b\.csv: the header has bytes that are not UTF-8"):
        read(tmp_path, "b.csv")
    (tmp_path / "c.csv").write_bytes("id,v\n1,x\n".encode("utf-16-le"))
    with pytest.raises(InvalidInput, match="seems to be UTF-16"):
        read(tmp_path, "c.csv")


def test_a_file_without_a_header_line_gets_its_names_from_the_mapping(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,x\n2,y\n3\n")
    found = read(tmp_path, "a.csv", header=["id", "v"], properties={"v": "v"})
    assert [(record.user_id, record.properties) for record in found if isinstance(record, ImportRecord)] == [
        ("1", {"v": "x"}),
        ("2", {"v": "y"}),
    ]
    assert refusals(found) == [(3, None, "has 1 cell, but the header has 2")]
    assert Source(tmp_path, table("a.csv", header=["id", "v"])).count() == 3


def test_rows_with_too_few_or_too_many_cells_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,n\n1\n2,5,extra\n\n4,5\n")
    found = read(tmp_path, "a.csv")
    assert people(found) == ["4"]
    assert refusals(found) == [
        (1, None, "has 1 cell, but the header has 2"),
        (2, None, "has 3 cells, but the header has 2"),
    ]


def test_quoted_newlines_and_doubled_quotes_are_one_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,v\r\n1,"two\r\nlines, ""quoted"""\r\n2,x\r\n', newline="")
    first, second = read(tmp_path, "a.csv", properties={"v": "v"})
    assert isinstance(first, ImportRecord)
    assert isinstance(second, ImportRecord)
    assert (first.properties, second.properties) == ({"v": 'two\r\nlines, "quoted"'}, {"v": "x"})


def test_a_quotation_mark_that_is_not_closed_costs_one_row(tmp_path: Path) -> None:
    lines = ["id,v", '1,"never closed', "2,x", '3,"y"', "4,z"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    found = read(tmp_path, "a.csv")
    assert people(found) == ["2", "3", "4"]
    ((row, column, reason),) = refusals(found)
    assert (row, column) == (1, None)
    assert reason.startswith("line 2: the quotation marks do not match")
    (tmp_path / "b.csv").write_text('id,v\n1,x\n2,"open\n3,y\n')
    found = read(tmp_path, "b.csv")
    assert people(found) == ["1", "3"]
    assert refusals(found) == [(2, None, "line 3: a quotation mark is not closed")]


def test_a_huge_cell_is_refused_and_the_next_row_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,v\n1,{'x' * (MAX_CELL_CHARACTERS + 1)}\n2,y\n")
    found = read(tmp_path, "a.csv")
    assert people(found) == ["2"]
    assert refusals(found) == [
        (1, None, "line 2: a cell has more than 262,144 characters, or a quotation mark is not closed")
    ]


def test_a_broken_row_keeps_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,v\n1,"a"b\n2,\xe9,3\n')
    rows = list(Source(tmp_path, table("a.csv")).rows())
    assert [row.text for row in rows if isinstance(row, Broken)] == ['1,"a"b', "2,\udce9,3"]


def test_a_header_with_a_name_twice_is_refused_where_the_mapping_uses_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,n,n\n1,2,3\n")
    assert people(read(tmp_path, "a.csv")) == ["1"]
    with pytest.raises(InvalidInput, match=r"table 'a.csv': two columns are called 'n'; rename one of them"):
        read(tmp_path, "a.csv", properties={"n": "n"})


def test_a_wrong_delimiter_is_guessed_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;n\n1;2\n")
    with pytest.raises(InvalidInput, match=r"no column 'id' \(there are: id;n\); is ';' the `delimiter` of the file"):
        read(tmp_path, "a.csv")


@pytest.mark.parametrize(
    ("file", "content"), [("a.csv", b""), ("b.csv", b"id\n"), ("c.jsonl", b""), ("d.jsonl", b"\n")]
)
def test_files_without_rows_have_none(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    assert read(tmp_path, file) == []


def test_broken_lines_of_json_are_refused_by_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id":1}\n{"id":\n[1]\n\n{"id":"\xe9"}\n{"id":"5"}\n')
    found = read(tmp_path, "a.jsonl")
    assert people(found) == ["1", "5"]
    assert [(row, reason.split(":")[0]) for row, _column, reason in refusals(found)] == [
        (2, "is no JSON object"),
        (3, "is no JSON object"),
        (4, "is no JSON object"),
    ]


def test_mixed_types_of_json_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id":1,"n":5}\n{"id":"1","n":"5"}\n{"id":[1],"n":5}\n{"id":2,"n":{"a":1}}\n')
    found = read(tmp_path, "a.jsonl", properties={"n": Value(column="n", type="integer")})
    assert people(found) == ["1", "1"]
    assert refusals(found) == [(3, "id", "is a list, and text is needed here"), (4, "n", "{'a': 1} is no number")]


def test_parquet_numbers_with_gaps_are_whole_and_nan_is_empty(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([17850.0, None, float("nan"), 1.5], pa.float64()),
        "at": pa.array([NOON] * 4, pa.timestamp("ns")),
        "n": pa.array([1.0, 2.0, float("nan"), 4.0]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    at = Instant(column="at", time_zone="UTC")
    found = read(tmp_path, "a.parquet", effective_at=at, properties={"n": "n"})
    assert people(found) == ["17850", "1.5"]
    assert refusals(found) == [(row, "user_id", "is empty: the row belongs to nobody") for row in (2, 3)]


def test_parquet_values_that_are_no_json_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "b": pa.array([b"\x00"]), "l": [[1, 2]]}), tmp_path / "a.parquet")
    reason = "a value of the type bytes cannot be kept; leave the column out"
    assert refusals(read(tmp_path, "a.parquet", properties={"b": "b"})) == [(1, "b", reason)]
    (found,) = read(tmp_path, "a.parquet", properties={"l": "l"})
    assert isinstance(found, ImportRecord)
    assert found.properties == {"l": [1, 2]}


def test_what_is_no_parquet_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"id\n1\n")
    with pytest.raises(InvalidInput, match=r"a\.parquet is no Parquet file"):
        read(tmp_path, "a.parquet")


def test_a_cut_archive_is_damaged_where_it_ends(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * 7919 % 10_007}\n" for n in range(20_000))
    whole = gzip.compress(("id,n\n" + rows).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    read_rows: list[Any] = []
    source = Source(tmp_path, table("a.csv.gz"))
    with pytest.raises(Damaged, match="end-of-stream marker"):
        read_rows.extend(source.rows())
    assert 1_000 < len(read_rows) < 20_000
    (tmp_path / "b.csv.gz").write_bytes(b"id\n1\n")
    with pytest.raises(InvalidInput, match=r"b\.csv\.gz cannot be read: Not a gzipped file"):
        read(tmp_path, "b.csv.gz")


def test_a_lookup_must_be_whole(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "sites.csv").write_text("site,type\n1,forum,x\n")
    lookup = Lookup(name="site", file="sites.csv", key=["site"], columns=["type"])
    own = table("a.csv", join=[Join(lookup="site", key=["{id}"])])
    with pytest.raises(InvalidInput, match=r"lookup 'site': sites.csv, row 1: has 3 cells"):
        list(read_records(tmp_path, Mapping(source="s", table=[own], lookup=[lookup])))


@pytest.mark.parametrize("value", ["99999999999999999999", "1e300", "-1e30"])
def test_numbers_that_are_no_instants_are_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,at\n1,{value}\n")
    found = read(tmp_path, "a.csv", effective_at=Instant(column="at", unit="seconds"))
    assert refusals(found) == [(1, "at", f"'{value}' is no instant in seconds")]


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,n\n1,{'x' * 5_000}\n")
    ((_row, _column, reason),) = refusals(read(tmp_path, "a.csv", properties={"n": Value(column="n", type="integer")}))
    assert len(reason) < 100
