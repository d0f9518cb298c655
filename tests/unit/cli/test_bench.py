"""`vigie bench` finds its benchmarks in the checkout and shows them to people."""

from pathlib import Path

import pytest
from vigie_cli.commands.bench import bar, load, number
from vigie_cli.commands.status import _pairs
from vigie_contracts.errors import NotFound


def test_a_benchmark_is_loaded_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text("def run():\n    yield {'case': 'one'}\n")
    assert list(load("quick", tmp_path)()) == [{"case": "one"}]


def test_an_unknown_benchmark_lists_what_there_is(tmp_path: Path) -> None:
    for name in ("ingest", "fold", "floors"):
        (tmp_path / f"{name}.py").touch()
    with pytest.raises(NotFound, match=r"there is no benchmark 'nothing' in .*; there are: fold, ingest"):
        load("nothing", tmp_path)


def test_a_bar_is_full_at_the_floor() -> None:
    assert bar(0.5, 10) == "█████·····"
    assert bar(1.4, 10) == "██████████"


def test_figures_are_short() -> None:
    assert [number(value) for value in (None, 123456.7, 99.96, 0.01234)] == ["", "123,457", "100", "0.0123"]


def test_offsets_are_told_in_words() -> None:
    assert _pairs({"events": {"0": 12}, "changes": {"0": 7}}) == "events 12, changes 7"
    assert _pairs({"seconds": 0.25, "records": 3}) == "seconds 0.2, records 3"
    assert _pairs({"lanes": {"0": 1, "1": 2}}) == "lanes 0 1, 1 2"
