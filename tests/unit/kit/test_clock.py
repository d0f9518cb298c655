import time
from pathlib import Path

import pytest
from vigie_contracts.errors import IncompatibleData, InvalidInput, NotFound
from vigie_contracts.instants import ClockSetting, parse_instant
from vigie_kit import installation
from vigie_kit.clock import Clock


def test_the_default_clock_is_system_time() -> None:
    before = time.time_ns() // 1_000
    assert before <= Clock().now_us() <= time.time_ns() // 1_000


def test_a_virtual_clock_runs_at_its_rate_from_its_base() -> None:
    setting = ClockSetting(base_real_us=1_000_000, base_virtual_us=parse_instant("2014-11-03T00:00:00Z"), rate=4000.0)
    assert setting.at(1_000_000) == parse_instant("2014-11-03T00:00:00Z")
    assert setting.at(1_000_000 + 21_600_000) == parse_instant("2014-11-04T00:00:00Z")


def test_all_processes_compute_the_same_instant_from_the_installation(tmp_path: Path) -> None:
    setting = ClockSetting(base_real_us=time.time_ns() // 1_000, base_virtual_us=0, rate=0.0)
    installation.create(tmp_path, time_zone="Europe/Paris", clock=setting)
    found = installation.load(tmp_path)
    assert (found.time_zone, found.clock, found.format) == ("Europe/Paris", setting, 1)
    assert Clock(found.clock).now_us() == 0


def test_no_installation_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="vigie up --data"):
        installation.load(tmp_path)


def test_an_unknown_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'Mars/Olympus' is no time zone; use a name such as Europe/Paris"):
        installation.create(tmp_path, time_zone="Mars/Olympus")
    assert not (tmp_path / "installation.json").exists()


def test_a_newer_format_and_a_damaged_file_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "installation.json").write_text('{"format": 99}')
    with pytest.raises(IncompatibleData, match="has format 99; this Vigie reads up to 1"):
        installation.load(tmp_path)
    (tmp_path / "installation.json").write_text("{")
    with pytest.raises(IncompatibleData, match="is damaged"):
        installation.load(tmp_path)
