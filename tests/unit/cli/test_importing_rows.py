"""Rows -> records: formats, templates, joins, filters, instants; each refusal with its row, column and reason."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vigie_cli.importing import RowRefusal, load_mapping, read_records
from vigie_contracts.errors import InvalidInput
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import parse_instant

NOON_US = parse_instant("2014-02-03T12:00:00Z")


def read(folder: Path, mapping: str) -> list[ImportRecord | RowRefusal]:
    path = folder / "mapping.toml"
    path.write_text('source = "s"\n' + mapping)
    return list(read_records(folder, load_mapping(path)))


def table(file: str, *more: str, kind: str = "event") -> str:
    head = ["[[table]]", f'file = "{file}"', f'kind = "{kind}"', 'user_id = "{id}"']
    event = ['event = "act"'] if kind == "event" and not any(line.startswith("event_column") for line in more) else []
    return "\n".join([*head, *event, *more]) + "\n"


def test_csv_gzip_jsonl_and_parquet_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,at,n\n7,2014-02-03T12:00:00Z,5\n")
    with gzip.open(tmp_path / "b.csv.gz", "wt") as stream:
        stream.write("id,at,n\n7,2014-02-03T12:00:00Z,5\n")
    (tmp_path / "c.jsonl").write_text('{"id":7,"at":"2014-02-03T12:00:00Z","n":5}\n\n')
    stamp = pa.array([datetime(2014, 2, 3, 12, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"id": [7], "at": stamp, "n": [5]}), tmp_path / "d.parquet")
    for file in ("a.csv", "b.csv.gz", "c.jsonl", "d.parquet"):
        properties = 'properties = { n = { column = "n", type = "integer" } }'
        found = read(tmp_path, table(file, 'effective_at = { column = "at" }', properties))
        assert found == [
            ImportRecord(
                kind="track",
                event_id=f"{file}:1",
                effective_at_us=NOON_US,
                name="act",
                user_id="7",
                properties={"n": 5},
            )
        ]


def test_a_day_counts_from_a_mapped_date_at_a_time_of_day(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,course,day\n1,B,2\n2,B,-1\n3,B,\n4,X,0\n5,B,two\n")
    mapping = '[maps.start]\nB = "2014-02-01"\n' + table(
        "a.csv", 'effective_at = { base = "start", key = "{course}", days = "day", time = "12:00" }'
    )
    first, second, *refused = read(tmp_path, mapping)
    assert isinstance(first, ImportRecord)
    assert isinstance(second, ImportRecord)
    assert first.effective_at_us == NOON_US
    assert second.effective_at_us == parse_instant("2014-01-31T12:00:00Z")
    assert refused == [
        RowRefusal("a.csv", 3, "day", "is empty, and the row needs a day"),
        RowRefusal("a.csv", 4, "{course}", "'X' is not in the map 'start'"),
        RowRefusal("a.csv", 5, "day", "'two' is no number"),
    ]
    assert str(refused[0]) == "a.csv, row 3, column day: is empty, and the row needs a day"


def test_an_empty_day_may_have_a_default_and_known_at_the_latest_of_two(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,course,day\n1,B,\n2,B,2\n")
    day = '{ base = "start", key = "{course}", days = "day", empty_days = -1, time = "12:00" }'
    known = f'known_at = {{ latest_of = [{{ base = "start", key = "{{course}}" }}, {day}], delay_hours = 1 }}'
    mapping = '[maps.start]\nB = "2014-02-01"\n' + table("a.csv", f"effective_at = {day}", known)
    found = [
        (record.effective_at_us, record.known_at_us)
        for record in read(tmp_path, mapping)
        if isinstance(record, ImportRecord)
    ]
    assert found == [
        (parse_instant("2014-01-31T12:00:00Z"), parse_instant("2014-02-01T01:00:00Z")),
        (NOON_US, parse_instant("2014-02-03T13:00:00Z")),
    ]


@pytest.mark.parametrize(
    ("cell", "rule", "expected"),
    [
        ("2014-02-03T13:00:00+01:00", "", NOON_US),
        ("2014-02-03 12:00:00", 'time_zone = "UTC"', NOON_US),
        ("2014-02-03 13:00:00", 'time_zone = "Europe/Paris"', NOON_US),
        (str(NOON_US // 1_000), 'unit = "milliseconds"', NOON_US),
        (
            "2014-02-03 12:00:00",
            "",
            "'2014-02-03 12:00:00' has no offset from UTC; the mapping can state a `time_zone`",
        ),
        ("soon", "", "'soon' is no instant such as 2014-02-01T12:00:00Z"),
        ("soon", 'unit = "seconds"', "'soon' is no number"),
        ("", "", "is empty, and the row needs an instant"),
    ],
)
def test_instants_of_columns(tmp_path: Path, cell: str, rule: str, expected: Any) -> None:
    (tmp_path / "a.csv").write_text(f'id,at\n1,"{cell}"\n')
    (found,) = read(tmp_path, table("a.csv", f'effective_at = {{ column = "at"{", " + rule if rule else ""} }}'))
    if isinstance(found, ImportRecord):
        assert found.effective_at_us == expected
    else:
        assert found == RowRefusal("a.csv", 1, "at", expected)


AT = 'effective_at = { constant = "2014-02-03T12:00:00Z" }'


def test_lookups_add_columns_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,site\n1,10\n2,11\n")
    (tmp_path / "sites.csv").write_text("site,type\n10,forum\n12,quiz\n")
    lookup = '[[lookup]]\nname = "site"\nfile = "sites.csv"\nkey = ["site"]\ncolumns = ["type"]\n'
    rest = table("a.csv", AT, 'join = [{ lookup = "site", key = ["{site}"] }]', 'properties = { type = "site.type" }')
    first, second = read(tmp_path, lookup + rest)
    assert isinstance(first, ImportRecord)
    assert first.properties == {"type": "forum"}
    assert second == RowRefusal("a.csv", 2, "{site}", "'11' is not in the lookup 'site'")
    _, optional = read(tmp_path, lookup + rest.replace('["{site}"] }', '["{site}"], optional = true }'))
    assert isinstance(optional, ImportRecord)
    assert optional.properties == {}


def test_a_lookup_with_two_rows_of_one_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "sites.csv").write_text("site,type\n10,forum\n10,quiz\n")
    lookup = '[[lookup]]\nname = "site"\nfile = "sites.csv"\nkey = ["site"]\ncolumns = ["type"]\n'
    with pytest.raises(InvalidInput, match="row 2: the key '10' has two different rows"):
        read(tmp_path, lookup + table("a.csv", AT, 'join = [{ lookup = "site", key = ["{id}"] }]'))


def test_filters_choose_rows_before_and_after_the_join(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,site,end\n1,10,x\n2,12,x\n3,10,\n")
    (tmp_path / "sites.csv").write_text("site,type\n10,forum\n12,quiz\n")
    mapping = (
        '[variables]\ntypes = ["forum"]\n'
        '[[lookup]]\nname = "site"\nfile = "sites.csv"\nkey = ["site"]\ncolumns = ["type"]\n'
        + table(
            "a.csv", AT, 'join = [{ lookup = "site", key = ["{site}"] }]',
            'where = [{ not_empty = "end" }, { value = "{site.type}", among = "$types" }]',
        )
    )  # fmt: skip
    assert [record.user_id for record in read(tmp_path, mapping) if isinstance(record, ImportRecord)] == ["1"]


def test_values_are_typed_and_empty_cells_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,i,d,b,s\n1,5.0,2.5,Y,007\n2,,,,\n3,5.5,2,true,x\n4,5,2,perhaps,x\n")
    types = {"i": "integer", "d": "decimal", "b": "boolean", "s": "string"}
    rules = ", ".join(f'{name} = {{ column = "{name}", type = "{type_}" }}' for name, type_ in types.items())
    more = "properties = { " + rules + ', k = { constant = 1 }, t = { template = "{id}-{s}" } }'
    first, empty, *refused = read(tmp_path, table("a.csv", AT, more))
    assert isinstance(first, ImportRecord)
    assert isinstance(empty, ImportRecord)
    assert first.properties == {"i": 5, "d": 2.5, "b": True, "s": "007", "k": 1, "t": "1-007"}
    assert empty.properties == {"k": 1}
    assert refused == [
        RowRefusal("a.csv", 3, "i", "'5.5' is no whole number"),
        RowRefusal("a.csv", 4, "b", "'perhaps' is neither true nor false"),
    ]


def test_a_profile_may_be_effective_from_the_first_event(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,age,ads\n1,30,no\n2,40,\n")
    (tmp_path / "a.csv").write_text("id,at\n1,2014-02-04T12:00:00Z\n1,2014-02-03T12:00:00Z\n")
    rules = ('attributes = { age = "age" }', 'consent = { marketing = "ads" }')
    profile = table("p.csv", 'effective_at = "first_event"', *rules, kind="profile")
    found = read(tmp_path, profile + table("a.csv", 'effective_at = { column = "at" }'))
    assert found[2:] == [
        ImportRecord(
            kind="identify", event_id="p.csv:1", effective_at_us=NOON_US, user_id="1", traits={"age": "30"},
            consent={"marketing": False},
        ),
        RowRefusal("p.csv", 2, None, "the customer has no event in this import, so there is no `first_event`"),
    ]  # fmt: skip


def test_event_names_and_owners_may_come_from_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,what\n1,login\n,login\n3,\n")
    first, *refused = read(tmp_path, table("a.csv", AT, 'event_column = "what"', 'event_id = "{id}/{what}"'))
    assert isinstance(first, ImportRecord)
    assert (first.name, first.event_id) == ("login", "1/login")
    assert [(row.row, row.column) for row in refused if isinstance(row, RowRefusal)] == [
        (2, "user_id"),
        (3, "event_id"),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('properties = { n = "absent" }', r"table 'a.csv': no column 'absent' \(there are: id\)$"),
        ('properties = { n = "ID" }', r"no column 'ID' \(there are: id\); did you mean 'id'\?"),
        ('event_id = "{absent}"', "no column 'absent'"),
        ('file = "b.csv"', r"b\.csv does not exist"),
    ],
)
def test_a_mapping_that_does_not_fit_its_file_is_refused_at_once(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    mapping = table("a.csv", AT, more) if "file" not in more else table("b.csv", AT)
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path, mapping)
