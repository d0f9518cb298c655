"""The archive holds exactly the log's rows, and only what its manifest names exists."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import ConsentStated, Event, LogRecord, MapChanged
from vigie_features.archive import Archive, Archivist, load_manifest
from vigie_kit.log import Entry
from vigie_kit.sqlite_log import SqliteLogReader

from tests.unit.features.features_world import EventsLog, entries, records


def archived(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows by kind, in the manifest's order."""
    found: dict[str, list[dict[str, Any]]] = {"events": [], "map": [], "consent": []}
    for file in load_manifest(folder).files:
        found[file.kind].extend(pq.read_table(folder / file.name).to_pylist())
    return found


def expected(log: list[Entry], found: list[LogRecord]) -> dict[str, list[tuple[Any, ...]]]:
    """What the archive must say of the log, in short."""
    pairs = [(entry.position.number, record) for entry, record in zip(log, found, strict=True)]
    return {
        "events": [
            (n, r.event_id, r.effective_at_us, sorted(r.measures.items()), r.properties, r.traits)
            for n, r in pairs
            if isinstance(r, Event)
        ],
        "map": [
            (n, move.member_id, move.from_customer_id, move.to_customer_id, r.known_at_us)
            for n, r in pairs
            if isinstance(r, MapChanged)
            for move in r.moves
        ],
        "consent": [(n, r.member_id, r.purpose, r.state, r.event_id) for n, r in pairs if isinstance(r, ConsentStated)],
    }


def shortened(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        "events": [
            (
                row["number"],
                row["event_id"],
                row["effective_at_us"],
                sorted(row["measures"]),
                msgspec.json.decode(row["properties"]),
                msgspec.json.decode(row["traits"]),
            )
            for row in rows["events"]
        ],
        "map": [
            (row["number"], row["member_id"], row["from_customer_id"], row["to_customer_id"], row["known_at_us"])
            for row in rows["map"]
        ],
        "consent": [
            (row["number"], row["member_id"], row["purpose"], row["state"], row["event_id"]) for row in rows["consent"]
        ],
    }


def test_the_archive_holds_exactly_the_rows_of_the_log(tmp_path: Path) -> None:
    found = records(3)
    log = entries(found)
    archive = Archive(tmp_path / "archive")
    archive.open()
    for at in range(0, len(log), 90):
        archive.append(log[at : at + 90])
    assert shortened(archived(archive.folder)) == expected(log, found)
    manifest = load_manifest(archive.folder)
    assert manifest.end == {0: len(log)}
    assert [(file.first, file.last) for file in manifest.files if file.kind == "events"] == [
        (1, 90),
        (91, 180),
        (181, 270),
        (271, 360),
        (361, 400),
    ]
    assert sum(file.rows for file in manifest.files if file.kind == "events") == len(expected(log, found)["events"])


def test_a_file_that_the_manifest_does_not_name_is_removed_at_the_start(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.open()
    archive.append(entries(records(3, count=20)))
    (tmp_path / "events-00-000000000021-000000000030.parquet").write_bytes(b"half")
    (tmp_path / ".events-00-000000000021-000000000030.parquet.part").write_bytes(b"half")
    again = Archive(tmp_path)
    again.open()
    listed = {file.name for file in again.manifest.files} | {"manifest.json"}
    assert {path.name for path in tmp_path.iterdir()} == listed
    assert again.manifest == archive.manifest


@pytest.mark.parametrize("text", ['{"format": 2, "end": {}, "files": []}', "{"])
def test_a_newer_or_damaged_manifest_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(IncompatibleData, match=r"manifest\.json"):
        Archive(tmp_path).open()


def test_a_small_batch_waits_for_its_time_and_a_full_one_does_not(tmp_path: Path) -> None:
    log, clock = EventsLog(tmp_path), [0.0]
    archive = Archive(tmp_path / "archive")
    archive.open()
    reader = SqliteLogReader(log.path, "events")
    archivist = Archivist(archive, reader, records=10, seconds=5.0, system_seconds=lambda: clock[0])
    found = records(3, count=40)
    ends = []
    for at, (first, last) in enumerate([(0, 3), (3, 6), (6, 30), (30, 30), (30, 32)]):
        log.append(found[first:last])
        clock[0] = float(at)
        while archivist.step():
            pass
        ends.append(archive.manifest.end.get(0, 0))
    clock[0] = 8.0
    assert archivist.step()
    assert (ends, archive.manifest.end) == ([3, 3, 23, 23, 23], {0: 32})
    reader.close()


def test_many_small_files_are_joined_and_the_old_ones_go_at_the_next_start(tmp_path: Path) -> None:
    found = records(3, count=70)
    log = entries(found)
    archive = Archive(tmp_path)
    archive.open()
    for entry in log:
        archive.append([entry])
        assert not archive.compact() or len(archive.manifest.files) < 70
    assert len([file for file in archive.manifest.files if file.kind == "events"]) < 10
    assert shortened(archived(tmp_path)) == expected(log, found)
    assert len(list(tmp_path.iterdir())) > 70
    Archive(tmp_path).open()
    assert shortened(archived(tmp_path)) == expected(log, found)
    assert len(list(tmp_path.iterdir())) == len(archive.manifest.files) + 1
