"""Sources and keys: hashed, shown once, rotated with an overlap, disabled, bootstrapped by settings. A real file."""

from pathlib import Path
from typing import Any

import pytest
from vigie_contracts.errors import Conflict, Forbidden, InvalidInput, NotFound
from vigie_contracts.instants import HOUR_US
from vigie_contracts.sources import KeyRotate, SourceCreate, SourceSwitch, SourceUpdate
from vigie_ingest.admission import Admission
from vigie_ingest.bodies import KeyRing
from vigie_ingest.sources import Sources
from vigie_ingest.writer import Writer

from tests.unit.ingest.ingest_world import NOW_US, World


class House:
    """Sources on a file, with a system clock that stands still."""

    def __init__(self, folder: Path, **given: str) -> None:
        self.folder = folder
        self.now_us = NOW_US
        world = World(folder)
        self.keys = KeyRing({}, lambda: self.now_us)
        self.admission = Admission(Writer(world.appender, 100), (100, 1_000), 50)
        self.sources = Sources(world.engine, self.keys, self.admission, lambda: self.now_us)
        self.sources.bootstrap(given)

    def row(self, source_id: str) -> Any:
        return next(row for row in self.sources.rows() if row.source_id == source_id)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_source_is_made_with_a_key_that_is_told_once_and_lies_nowhere(house: House) -> None:
    made = house.sources.create(SourceCreate(source_id="web", origins=["https://App.bank.example"], weight=3))
    assert house.keys.source_of_key(made.write_key) == "web"
    assert made.source == house.row("web")
    assert (made.source.origins, made.source.weight) == (["https://app.bank.example"], 3)
    assert [key.hint for key in made.source.keys] == [f"…{made.write_key[-4:]}"]
    files = b"".join(path.read_bytes() for path in house.folder.glob("ingest.db*"))
    assert made.write_key.encode() not in files
    assert b"web" in files
    with pytest.raises(Conflict, match="'web' already"):
        house.sources.create(SourceCreate(source_id="web"))


def test_an_old_key_counts_until_the_end_of_the_overlap_to_the_microsecond(house: House) -> None:
    old = house.sources.create(SourceCreate(source_id="web")).write_key
    new = house.sources.rotate(KeyRotate(source_id="web", overlap_seconds=3_600)).write_key
    newest = house.sources.rotate(KeyRotate(source_id="web", overlap_seconds=7_200)).write_key
    for moment, valid in (
        (0, [old, new, newest]),
        (HOUR_US - 1, [old, new, newest]),
        (HOUR_US, [new, newest]),
        (2 * HOUR_US - 1, [new, newest]),
        (2 * HOUR_US, [newest]),
    ):
        house.now_us = NOW_US + moment
        assert [key for key in (old, new, newest) if house.keys.source_of_key(key)] == valid
    assert [key.expired for key in house.row("web").keys].count(True) == 2
    house.sources.rotate(KeyRotate(source_id="web", overlap_seconds=0))
    assert house.keys.source_of_key(newest) is None


def test_a_disabled_source_may_not_send_until_it_is_enabled_whatever_its_key(house: House) -> None:
    house.sources.create(SourceCreate(source_id="web"))
    for _ in range(2):
        assert house.sources.switch(SourceSwitch(source_id="web", disabled=True)).disabled_at is not None
    with pytest.raises(Forbidden, match="'web' is disabled"):
        house.admission.check("web", None)
    house.sources.switch(SourceSwitch(source_id="web", disabled=False))
    house.admission.check("web", None)


def test_an_update_changes_what_it_names_and_leaves_the_rest(house: House) -> None:
    house.sources.create(SourceCreate(source_id="web", origins=["https://a.example"], events_per_second=5))
    assert house.sources.update(SourceUpdate(source_id="web", weight=2)).events_per_second == 5
    assert house.sources.update(SourceUpdate(source_id="web", events_per_second=None)).events_per_second is None
    assert house.row("web").origins == ["https://a.example"]
    with pytest.raises(Forbidden, match=r"pages of https://b\.example may not send for the source 'web'"):
        house.admission.check("web", "https://b.example")
    for origin in ("https://A.example", None):
        house.admission.check("web", origin)
    house.sources.update(SourceUpdate(source_id="web", origins=[]))
    house.admission.check("web", "https://b.example")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (SourceCreate(source_id="a b"), "a source id is"),
        (SourceCreate(source_id="w", origins=["https://a.example/path"]), "is no origin"),
        (SourceCreate(source_id="w", origins=["*"]), "is no origin"),
        (SourceCreate(source_id="w", events_per_second=0), "at least 1"),
        (SourceCreate(source_id="w", weight=0), "between 1 and 100"),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_words_and_nothing_is_made(
    house: House, asked: SourceCreate, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        house.sources.create(asked)
    assert house.sources.rows() == []


def test_nobody_is_rotated_switched_or_updated_by_a_wrong_name(house: House) -> None:
    for change in (
        lambda: house.sources.rotate(KeyRotate(source_id="x", overlap_seconds=1)),
        lambda: house.sources.switch(SourceSwitch(source_id="x", disabled=True)),
        lambda: house.sources.update(SourceUpdate(source_id="x")),
    ):
        with pytest.raises(NotFound, match="no source 'x'"):
            change()
    with pytest.raises(InvalidInput, match="90 days"):
        house.sources.rotate(KeyRotate(source_id="x", overlap_seconds=91 * 86_400))


def test_keys_of_the_settings_follow_the_settings_and_stay_rotated_out_over_restarts(tmp_path: Path) -> None:
    house = House(tmp_path, k1="app", k2="web")
    made = house.sources.rotate(KeyRotate(source_id="app", overlap_seconds=0)).write_key
    assert [house.keys.source_of_key(key) for key in ("k1", "k2", made)] == [None, "web", "app"]
    again = House(tmp_path, k1="app", k2="app", k3="new")
    assert [again.keys.source_of_key(key) for key in ("k1", "k2", "k3", made)] == [None, "app", "new", "app"]
    last = House(tmp_path, k3="new")
    assert [last.keys.source_of_key(key) for key in ("k1", "k2", "k3", made)] == [None, None, "new", "app"]
    assert [row.source_id for row in last.sources.rows()] == ["app", "new", "web"]


def test_limits_and_switches_of_a_source_survive_a_restart(tmp_path: Path) -> None:
    house = House(tmp_path, k="app")
    house.sources.update(SourceUpdate(source_id="app", origins=["https://a.example"], events_per_second=7, weight=2))
    before = house.sources.switch(SourceSwitch(source_id="app", disabled=True))
    again = House(tmp_path, k="app")
    assert again.row("app") == before
    with pytest.raises(Forbidden):
        again.admission.check("app", None)
