"""The batch query over an archive: what it answers where nothing was, what it refuses, and what it must not confuse."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.events import LogRecord, Position
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US, parse_instant
from vigie_tiles.batch import Batch, read_manifest

from tests.unit.tiles.histories import Label, label_table, rows_of, write_archive
from tests.unit.tiles.tile_world import NOON, event, feature, identify, table

LOGINS = feature("logins", "count", events=("app.logged_in",), window_days=7)
LAST = feature("last", "recency", events=("app.logged_in",))
SPENT = feature("spent", "sum", events=("card.used",), value_property="amount", window_days=30)
BAND = feature("band", "attribute", attribute="band", categories=("a", "b"))
EVERY = table(LOGINS, LAST, SPENT, BAND)


def log_of(*records: LogRecord) -> list[tuple[Position, LogRecord]]:
    return [(Position(0, number), record) for number, record in enumerate(records, 1)]


def read(archive: Path, *labels: Label, rows: FeatureTable = EVERY, zone: str = "UTC") -> list[list[int | None]]:
    return rows_of(Batch(archive, rows, zone).vectors(label_table(labels)))


def test_a_folder_without_a_manifest_is_an_empty_archive(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == (0, [])
    assert read(tmp_path, Label("m1", NOON)) == [[0, None, 0, None]]


def test_no_label_rows_give_no_rows_but_all_columns(tmp_path: Path) -> None:
    found = Batch(tmp_path, EVERY, "UTC").vectors(label_table([]))
    assert (found.num_rows, found.column_names) == (0, ["logins", "last", "spent", "band"])
    assert set(found.schema.types) == {pa.int64()}


def test_customers_who_never_spoke_keep_their_row_in_its_place(tmp_path: Path) -> None:
    archive = write_archive(tmp_path, log_of(event(NOON - 1), identify(NOON - 2, band="b")))
    labels = [Label("nobody", NOON), Label("m1", NOON), Label("nobody", NOON), Label("m1", NOON - 1)]
    assert read(archive, *labels) == [[0, None, 0, None], [1, 0, 0, 1], [0, None, 0, None], [0, None, 0, 1]]


def test_columns_come_as_asked(tmp_path: Path) -> None:
    paid = event(NOON - 1, "card.used", measures={"amount": 5})
    archive = write_archive(tmp_path, log_of(paid, identify(NOON - 2, band="a")))
    found = Batch(archive, EVERY, "UTC").vectors(label_table([Label("m1", NOON)]), [BAND, SPENT, LOGINS])
    assert found.to_pylist() == [{"band": 0, "spent": 5, "logins": 0}]


def test_one_batch_answers_for_other_features_and_far_instants_in_turn(tmp_path: Path) -> None:
    batch = Batch(write_archive(tmp_path, log_of(event(NOON - 1))), EVERY, "Europe/Paris")
    assert rows_of(batch.vectors(label_table([Label("m1", NOON)]), [LOGINS])) == [[1]]
    far = [Label("m1", NOON + 4000 * DAY_US), Label("m1", NOON - 9000 * DAY_US)]
    assert rows_of(batch.vectors(label_table(far), [LAST, LOGINS])) == [[366 * 24, 0], [None, 0]]


def test_large_sums_stay_exact(tmp_path: Path) -> None:
    most = 2**53 - 1
    events = [event(NOON - 1 - i, "card.used", measures={"amount": most}) for i in range(900)]
    assert read(write_archive(tmp_path, log_of(*events)), Label("m1", NOON), rows=table(SPENT)) == [[900 * most]]


def test_names_with_quotes_dots_and_accents_are_only_names(tmp_path: Path) -> None:
    rows = table(feature('it\'s "odd"', "count", events=("l'été.vu",), where={"a.b": "o'clock"}, window_days=7))
    properties = ({"a.b": "o'clock"}, {"a": {"b": "o'clock"}})
    log = log_of(*(event(NOON - 1 - i, "l'été.vu", properties=found) for i, found in enumerate(properties)))
    assert read(write_archive(tmp_path, log), Label("m1", NOON), rows=rows) == [[1]]


def test_a_property_with_a_quote_in_its_name_is_refused(tmp_path: Path) -> None:
    rows = table(feature("n", "count", events=("a",), where={'say "hi"': "x"}, window_days=7))
    with pytest.raises(InvalidInput, match="may not contain quotes"):
        read(tmp_path, Label("m1", NOON), rows=rows)


def test_more_event_sets_and_names_than_one_integer_has_bits(tmp_path: Path) -> None:
    names = [f"act.{number}" for number in range(150)]
    rows = [feature(name, "count", events=(name,), window_days=7) for name in names]
    rows.append(feature("kinds", "breadth", events=tuple(names), window_days=30))
    log = log_of(*(event(NOON - 1 - i, name) for i, name in enumerate(names)), event(NOON - 500, "act.7"))
    (found,) = read(write_archive(tmp_path, log), Label("m1", NOON), rows=table(*rows))
    assert found == [2 if name == "act.7" else 1 for name in names] + [150]


@pytest.mark.parametrize(
    ("zone", "skipped", "next_day"),
    [
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),  # the whole 30 December was skipped
    ],
)
def test_days_begin_where_clocks_jump_over_midnight(zone: str, skipped: str, next_day: str, tmp_path: Path) -> None:
    """A day's first instant is the jump: one microsecond before it is another day, and so is the next midnight."""
    start, end = parse_instant(skipped), parse_instant(next_day)
    days = table(feature("days", "active_days", events=("app.logged_in",), window_days=7))
    archive = write_archive(tmp_path, log_of(*(event(at) for at in (start - 1, start, end - 1))))
    assert read(archive, Label("m1", end), rows=days, zone=zone) == [[2]]


def test_an_archive_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "end": {}, "files": []}))
    with pytest.raises(IncompatibleData, match="has format 2"):
        Batch(tmp_path, EVERY, "UTC")


def test_a_time_zone_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'Mars/Base' is not the name of a time zone"):
        Batch(tmp_path, EVERY, "Mars/Base")


def test_a_file_that_the_manifest_does_not_name_does_not_exist(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", log_of(event(NOON - 1), event(NOON - 2)))
    stray = write_archive(tmp_path / "b", log_of(event(NOON - 3), event(NOON - 4)))
    for path in stray.glob("*.parquet"):
        (archive / f"stray-{path.name}").write_bytes(path.read_bytes())
    assert read(archive, Label("m1", NOON), rows=table(LOGINS)) == [[2]]


def test_the_tail_adds_only_what_lies_behind_the_archive(tmp_path: Path) -> None:
    log = log_of(event(NOON - 1), event(NOON - 2), event(NOON - 3))
    batch = Batch(write_archive(tmp_path, log[:2]), table(LOGINS), "UTC", tail=log)
    assert batch.end == 2
    assert rows_of(batch.vectors(label_table([Label("m1", NOON)] * 4, [None, 1, 2, 3]))) == [[3], [1], [2], [3]]


def test_a_spec_of_another_version_has_its_own_column(tmp_path: Path) -> None:
    second = feature("logins", "count", version=2, events=("card.used",), window_days=7)
    archive = write_archive(tmp_path, log_of(event(NOON - 1)))
    found = Batch(archive, table(LOGINS, second), "UTC").vectors(label_table([Label("m1", NOON)]))
    assert found.to_pylist() == [{"logins": 1, "logins@2": 0}]
