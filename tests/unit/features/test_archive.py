"""The archive holds exactly the log's rows, and only what its manifest names exists."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.events import ConsentStated, Erased, Event, LogRecord, MapChanged
from vigie_features import archive as archive_module
from vigie_features.archive import Archive, Archivist, load_manifest
from vigie_features.failpoints import FAILPOINTS
from vigie_kit.log import Entry
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_tiles.batch import Batch
from vigie_tiles.kernel import finalise, fold

from tests.unit.features.features_world import LAYOUT, NOW_US, TABLE, EventsLog, entries, records

MEMBERS = [f"m{number:02d}" for number in range(12)]


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


def records_of(folder: Path) -> list[Event]:
    """The archive's events as records again, in the order of their positions."""
    rows = sorted(archived(folder)["events"], key=lambda row: (row["lane"], row["number"]))
    found = []
    for row in rows:
        fields = {name: value for name, value in row.items() if name not in ("lane", "number", "partition")}
        for name in ("properties", "traits", "context"):
            fields[name] = msgspec.json.decode(fields[name])
        found.append(Event(**fields | {"measures": dict(row["measures"])}))
    return found


def folded(events: list[Event]) -> dict[str, bytes]:
    """Every member's state."""
    return {member: row.blob for member, row in fold(LAYOUT, {row.member_id: None for row in events}, events).items()}


@pytest.mark.parametrize("size", [9, 37, 1_000])
def test_a_replay_of_the_archive_gives_the_state_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(archive_module, "MOST_SMALL_FILES", 3)
    found = records(8)
    log = entries(found)
    archive = Archive(tmp_path)
    archive.open()
    for at in range(0, len(log), size):
        archive.append(log[at : at + size])
        archive.compact()
    events = [record for record in found if isinstance(record, Event)]
    assert records_of(tmp_path) == events
    assert folded(records_of(tmp_path)) == folded(events)


def test_files_of_an_older_vigie_are_read_joined_and_erased_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MOST_SMALL_FILES", 2)
    found = [*records(8, count=150), Erased(erasure_id="e", customer_id="m01", member_ids=["m01"], known_at_us=NOW_US)]
    log = entries(found)
    archive = Archive(tmp_path)
    archive.open()
    for first, last in ((0, 60), (60, 80), (80, 100)):
        archive.append(log[first:last])
        if first < 80:
            older(tmp_path, archive)
    expected_values = values(tmp_path)
    assert expected_values.column("login_count_30d").to_pylist() == values_of_kernel(found[:100])
    assert archive.compact()
    assert values(tmp_path) == expected_values
    rows = archived(tmp_path)["events"]
    assert {row["channel"] for row in rows if row["number"] <= 80} == {None}
    assert [row["number"] for row in rows] == [
        n for n, record in enumerate(found[:100], 1) if isinstance(record, Event)
    ]
    archive.append(log[100:])
    assert archive.count(["m01"]) == 0
    assert {row["member_id"] for row in archived(tmp_path)["events"]} == {f"m{n:02d}" for n in range(12)} - {"m01"}


def test_a_file_of_a_newer_vigie_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MOST_SMALL_FILES", 0)
    archive = Archive(tmp_path)
    archive.open()
    archive.append(entries(records(8, count=20)))
    path = tmp_path / archive.manifest.files[0].name
    table = pq.read_table(path)
    pq.write_table(table.append_column("mood", table["name"]), path)
    with pytest.raises(IncompatibleData, match=r"has columns of a newer Vigie \(mood\)\. Upgrade Vigie\."):
        archive.compact()
    assert load_manifest(tmp_path) == archive.manifest


@pytest.mark.parametrize("place", [name for name in FAILPOINTS if ".archive_" in name])
def test_stopped_while_joining_no_row_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(archive_module, "MOST_SMALL_FILES", 3)
    found = records(8, count=120)
    log = entries(found)
    archive = Archive(tmp_path)
    archive.open()
    for at in range(0, len(log), 20):
        archive.append(log[at : at + 20])

    def stop(name: str) -> None:
        if name == place:
            raise InterruptedError(name)

    with monkeypatch.context() as stopping:
        stopping.setattr(archive_module, "hit", stop)
        with pytest.raises(InterruptedError):
            archive.compact()
    again = Archive(tmp_path)
    again.open()
    assert shortened(archived(tmp_path)) == expected(log, found)
    while again.compact():
        pass
    assert shortened(archived(tmp_path)) == expected(log, found)
    assert again.manifest.end == {0: 120}


def expected_numbers(found: list[LogRecord]) -> list[int]:
    """The numbers of the events in a log."""
    return [number for number, record in enumerate(found, 1) if isinstance(record, Event)]


def older(folder: Path, archive: Archive) -> None:
    """Make the newest events file one of a Vigie that knew no channel and no backfilled mark."""
    newest = [file for file in archive.manifest.files if file.kind == "events"][-1]
    table = pq.read_table(folder / newest.name)
    pq.write_table(table.drop_columns(["channel", "backfilled"]), folder / newest.name)


def values(folder: Path) -> pa.Table:
    """What the batch engine answers from the archive, a row a member."""
    labels = pa.table({"customer_id": MEMBERS, "t_us": [NOW_US] * len(MEMBERS)})
    with Batch(folder, TABLE, "Europe/Paris") as batch:
        return batch.vectors(labels, TABLE.select(["login_count_30d", "login_recency", "active_days_30d"]))


def values_of_kernel(found: list[LogRecord]) -> list[int]:
    """Logins in 30 days of the same members, from the log; merged members count with their customer."""
    owner: dict[str, str] = {}
    for record in found:
        if isinstance(record, MapChanged):
            owner |= {move.member_id: move.to_customer_id for move in record.moves}
    blobs = folded([record for record in found if isinstance(record, Event)])
    own = [
        [blob for member, blob in sorted(blobs.items()) if owner.get(member, member) == customer]
        for customer in MEMBERS
    ]
    matrix = finalise(LAYOUT, TABLE.select(["login_count_30d"]), own, NOW_US)
    return [int(value) for value in matrix.values[:, 0]]
