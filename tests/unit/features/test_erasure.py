"""After an erasure state, output logs and archive are what a replay of the log with its tombstones gives."""

import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from vigie_contracts.events import (
    ConsentStated,
    Erased,
    Event,
    LogRecord,
    MapChanged,
    Tombstone,
    encode_record,
)
from vigie_contracts.subjects import Subject
from vigie_features import archive as archive_module
from vigie_features.archive import Archive
from vigie_features.store import TABLES, WITHOUT_PERSONS
from vigie_kit.sqlite_log import SqliteLogReader

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import NOW_US, entries, records
from tests.unit.features.test_reading import reading


def owners(found: list[LogRecord]) -> dict[str, str]:
    """The customer of each member at the end."""
    owner: dict[str, str] = {}
    for record in found:
        if isinstance(record, Event):
            owner.setdefault(record.member_id, record.member_id)
        elif isinstance(record, MapChanged):
            owner |= {move.member_id: move.to_customer_id for move in record.moves}
    return owner


def buried(found: list[LogRecord], customer_id: str) -> tuple[list[LogRecord], list[str]]:
    """The log as ingest leaves it, with its last record, and the members that are gone."""
    members = sorted(member for member, owner in owners(found).items() if owner == customer_id)

    def left(record: LogRecord) -> LogRecord:
        if isinstance(record, Event | ConsentStated) and record.member_id in members:
            return Tombstone()
        if isinstance(record, MapChanged) and {move.member_id for move in record.moves} <= set(members):
            return Tombstone()
        return record

    last = Erased(erasure_id="e", customer_id=customer_id, member_ids=members, known_at_us=NOW_US)
    return [*map(left, found), last], members


def dump(state: FeatureState) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(state.store.path) as db:
        return {
            table: sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in ("tiles", "customers", "members", "memberships", "applied")
        } | {"sizes": sorted(db.execute("SELECT * FROM segment_sizes WHERE size != 0").fetchall())}


@pytest.mark.parametrize(("seed", "customer_id"), [(5, "m00"), (6, "m03"), (7, "m00")])
@pytest.mark.parametrize("split", [400, 333])
def test_state_after_an_erasure_equals_a_replay_and_nobody_else_changed(
    tmp_path: Path, seed: int, customer_id: str, split: int
) -> None:
    found = records(seed)
    left, members = buried(found, customer_id)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    live, replayed = FeatureState(tmp_path / "a"), FeatureState(tmp_path / "b")
    live.consume(found[:split])
    before = live.vectors(NOW_US)
    live.consume(left[split:])
    replayed.consume(left)
    assert dump(live) == dump(replayed)
    after = live.vectors(NOW_US)
    assert customer_id not in after
    assert not set(members) & set(after)
    if split == len(found):
        assert after == {customer: vector for customer, vector in before.items() if customer != customer_id}
    subject = Subject(customer_id=customer_id, member_ids=members, number=len(left))
    assert {place.name: place.found for place in reading(live).holdings(subject).places} == {
        **dict.fromkeys(("tiles", "tiles_next", "members", "customers", "memberships", "segment_moves"), 0),
        **dict.fromkeys(("log of changes", "log of segments", "archive"), 0),
    }


def test_emptied_records_keep_their_numbers_and_those_of_others_their_content(tmp_path: Path) -> None:
    state, found = FeatureState(tmp_path), records(5)
    state.consume(found)
    reader = SqliteLogReader(state.store.path, "changes")
    before = reader.read({}, 10_000)
    subject = Subject(customer_id="m00", member_ids=[m for m, owner in owners(found).items() if owner == "m00"])
    held = {place.name: place.found for place in reading(state).holdings(subject).places}
    assert min(held["tiles"], held["log of changes"], held["log of segments"]) > 0
    state.consume(buried(found, "m00")[0][-1:])
    after = reader.read({}, 10_000)
    assert [entry.position for entry in after] == [entry.position for entry in before]
    changed = [one for one, other in zip(after, before, strict=True) if one != other]
    assert {entry.payload for entry in changed} == {b""}
    assert len(changed) == held["log of changes"]
    reader.close()


def rows_of(folder: Path) -> dict[str, list[dict[str, object]]]:
    archive = Archive(folder)
    archive.open()
    found: dict[str, list[dict[str, object]]] = {"events": [], "map": [], "consent": []}
    for file in archive.manifest.files:
        found[file.kind] += pq.read_table(folder / file.name).to_pylist()
    return {kind: sorted(rows, key=repr) for kind, rows in found.items()}


@pytest.mark.parametrize("killed_at", ["", "features.archive_before_manifest", "features.archive_before_unlink"])
def test_the_archive_after_an_erasure_equals_one_of_the_log_with_its_tombstones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    class Killed(BaseException):
        pass

    def hit(name: str) -> None:
        if name == killed_at:
            raise Killed

    found = records(5)
    left, members = buried(found, "m00")
    archive = Archive(tmp_path / "live")
    archive.open()
    for at in range(0, len(found), 90):
        archive.append(entries(found[at : at + 90], at + 1))
    assert archive.count(members) > 0
    last = entries(left[-1:], len(left))
    if killed_at:
        with monkeypatch.context() as patch:
            patch.setattr(archive_module, "hit", hit)
            with pytest.raises(Killed):
                archive.append(last)
        archive = Archive(tmp_path / "live")
        archive.open()
    if archive.manifest.end[0] < len(left):
        archive.append(last)
    assert archive.count(members) == 0
    fresh = Archive(tmp_path / "fresh")
    fresh.open()
    fresh.append(entries(left))
    assert rows_of(tmp_path / "live") == rows_of(tmp_path / "fresh")
    assert {file.name for file in archive.manifest.files} == {path.name for path in archive.folder.glob("*.parquet")}


def test_what_was_joined_and_is_still_on_disk_goes_too(tmp_path: Path) -> None:
    found = records(5, count=200)
    left, members = buried(found, "m00")
    archive = Archive(tmp_path)
    archive.open()
    for entry in entries(found):
        archive.append([entry])
    while archive.compact():
        pass
    archive.append(entries(left[-1:], len(left)))
    assert archive.count(members) == 0
    assert not [path for path in tmp_path.glob("*.parquet") if members[0].encode() in path.read_bytes()]


def test_every_table_is_declared_as_somebodys_or_nobodys(tmp_path: Path) -> None:
    state = FeatureState(tmp_path)
    with sqlite3.connect(state.store.path) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables - {"log_changes", "log_segments"} == {table.name for table in TABLES} | WITHOUT_PERSONS


def test_a_record_of_the_log_reads_as_it_was_written() -> None:
    left, _ = buried(records(5), "m00")
    assert b'"type":"erased"' in encode_record(left[-1])
