"""The installation's clock as a file says it."""

import time
from pathlib import Path

import msgspec
import pytest
from vigie_contracts.errors import IncompatibleData, Unavailable
from vigie_contracts.instants import ClockSetting, Installation, parse_instant
from vigie_tiles import clock


def test_business_time_runs_from_its_base_at_its_rate(tmp_path: Path) -> None:
    base, real = parse_instant("2014-11-03T00:00:00Z"), time.time_ns() // 1000
    setting = ClockSetting(base_real_us=real, base_virtual_us=base, rate=4000.0)
    installation = Installation(clock=setting, time_zone="Asia/Tokyo")
    (tmp_path / "installation.json").write_bytes(msgspec.json.encode(installation))
    earliest = (time.time_ns() // 1000 - real) * 4000
    found = clock.now_us(tmp_path) - base
    assert earliest - 4000 <= found <= (time.time_ns() // 1000 - real) * 4000 + 4000
    assert clock.installation(tmp_path).time_zone == "Asia/Tokyo"


def test_a_missing_newer_or_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="`vigie up` sets up"):
        clock.now_us(tmp_path)
    path = tmp_path / "installation.json"
    path.write_bytes(msgspec.json.encode(Installation(format=2)))
    with pytest.raises(IncompatibleData, match="has format 2; this program reads up to 1"):
        clock.now_us(tmp_path)
    path.write_text("{")
    with pytest.raises(IncompatibleData, match="cannot be read"):
        clock.now_us(tmp_path)
