"""Planted mutants: each changes one thing in the source of an engine, and the parity tests must turn red.

A mutant is loaded beside the real modules, with one text of one module replaced. Parity with the oracle then runs on
it, over a crowd of dense histories: events on, before and after every edge, late, simultaneous, of merged members, on
days of 23 and 25 hours. A mutant that nobody notices fails its test, and so does a text that the source has no more.
"""

import importlib
import importlib.abc
import importlib.machinery
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from vigie_contracts.features import FeatureSpec, FeatureTable

from tests.unit.tiles import histories as worlds
from tests.unit.tiles.histories import (
    ZONES,
    History,
    by_batch,
    by_kernel,
    by_oracle,
    differences,
    online,
    write_archive,
)

FOLD, FINALISE, MEASURES, HABITS, LAYOUT = (
    "vigie_tiles.kernel.fold", "vigie_tiles.kernel.finalise", "vigie_tiles.kernel.measures",
    "vigie_tiles.kernel.habits", "vigie_tiles.layout",
)  # fmt: skip
QUERY, PLAN = "vigie_tiles.batch.query", "vigie_tiles.batch.plan"
EVENTS, LABELS = 90, 40


class Mutant(NamedTuple):
    name: str
    module: str
    text: str
    instead: str


MUTANTS = (
    Mutant(
        "a window of the stream holds one hour or day less", LAYOUT,
        "24 * days * periods)",
        "24 * days * periods - 1)",
    ),
    Mutant(
        "the previous period is one day short", LAYOUT,
        "DAY, days * periods)",
        "DAY, days * periods - (periods > 1))",
    ),
    Mutant(
        "UTC day for local day in the fold", FOLD,
        "layout.days.day(hits.effective)",
        "hits.effective // 86_400_000_000",
    ),
    Mutant(
        "hours of age are rounded up", FOLD,
        "newest // HOUR_US - old // HOUR_US",
        "-(-newest // HOUR_US) - old // HOUR_US",
    ),
    Mutant(
        "merge of last instants without max", FOLD,
        "np.where(_GREATEST[kind], np.maximum(old, add), old + add)",
        "old + add",
    ),
    Mutant(
        "merge of first instants without min", FOLD,
        "np.where(kind == Kind.FIRST, np.minimum(old, add), joined)",
        "joined",
    ),
    Mutant(
        "uncatalogued names count", FOLD,
        "if event.catalogued and event.name in routes",
        "if event.name in routes",
    ),
    Mutant("filters are not looked at", FOLD, "if where and not accepts(where, event.properties)", "if False"),
    Mutant("ties of an attribute go to the first", FOLD, "attribute[1:5] > held[1:5]", "attribute[1:2] > held[1:2]"),
    Mutant("one rank too few is kept", FOLD, "rank <= layout.spans", "rank < layout.spans"),
    Mutant("members are not joined", FINALISE, "        fold.at(table, at, found)", "        table[at] = found"),
    Mutant("a streak must hold today", MEASURES, "late = (low & _ONE) == 0", "late = (low & _ONE) == 2"),
    Mutant(
        "recency in UTC days", MEASURES,
        "days = cells.day - plan.layout.days.day(last)",
        "days = (cells.t_us - last) // 86_400_000_000",
    ),
    Mutant(
        "ratios are rounded up", MEASURES,
        "1000 * above // np.maximum(below, 1)",
        "-(-1000 * above // np.maximum(below, 1))",
    ),
    Mutant(
        "nothing of nothing is a whole", MEASURES,
        'above == 0, plan.parameters(measure, "zero_over_zero")',
        'above != 0, plan.parameters(measure, "zero_over_zero")',
    ),
    Mutant("a gap may leave its window", MEASURES, "back <= windows", "back < windows"),
    Mutant("the habit is a quarter", MEASURES, "1000 * BASELINE_DAYS * recent", "1000 * 91 * recent"),
    Mutant("the week begins on Sunday", HABITS, "+ 3) % 7", "+ 4) % 7"),
    Mutant("hours of UTC", HABITS, "(begun - days.midnight(days.day(begun))) // HOUR_US", "begun // HOUR_US % 24"),
    Mutant("the last use instead of the nth", HABITS, "begun + nth - 1", "begun + nth - 2"),
    Mutant("<= for < at the read instant", QUERY, "AND e.eff < l.t", "AND e.eff <= l.t"),
    Mutant("dropped known_at", QUERY, "AND e.known <= l.t ", " "),
    Mutant("< for <= at the known instant", QUERY, "e.known <= l.t", "e.known < l.t"),
    Mutant("the position is ignored", QUERY, " AND (l.pos IS NULL OR e.number <= l.pos)", ""),
    Mutant("merges count before they were known", QUERY, "m.known <= c.t AND ", ""),
    Mutant("> for >= at a window's left edge", PLAN, "AND e.eff >= l.{edge}", "AND e.eff > l.{edge}"),
    Mutant("the edge belongs to both periods", PLAN, "AND e.eff < l.{near}", "AND e.eff <= l.{near}"),
    Mutant(
        "the last value is the greatest", PLAN,
        "arg_max({column}, (e.eff, e.known, e.source_id, e.event_id))",
        "max({column})",
    ),
    Mutant("a gap begins a day later", PLAN, "today - {days + 1}", "today - {days}"),
)  # fmt: skip


class Engines(NamedTuple):
    kernel: ModuleType
    layout: ModuleType
    batch: ModuleType


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Finds one module, with a text of its source replaced."""

    def __init__(self, mutant: Mutant, path: str) -> None:
        self._mutant = mutant
        self._path = path

    def find_spec(self, name: str, _path: object, _target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._mutant.module:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self._path)

    def get_filename(self, _name: str) -> str:
        return self._path

    def get_data(self, _path: str) -> bytes:
        return Path(self._path).read_text().replace(self._mutant.text, self._mutant.instead).encode()


@contextmanager
def planted(mutant: Mutant) -> Iterator[Engines]:
    """The engines with the mutant in them; the real ones are back afterwards."""
    path = importlib.import_module(mutant.module).__file__
    assert path is not None
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "vigie_tiles"}
    finder = _Mutated(mutant, path)
    for name in real:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield Engines(*(importlib.import_module(f"vigie_tiles.{name}") for name in ("kernel", "layout", "batch")))
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == "vigie_tiles"]:
            del sys.modules[name]
        sys.modules.update(real)


@pytest.fixture(scope="module")
def table(feature_repo: Path) -> FeatureTable:
    """A shipped feature of every measure and window, and every form of the measures of habit."""
    chosen: dict[tuple[str, int | None], FeatureSpec] = {}
    for row in FeatureTable.load(feature_repo).features:
        chosen.setdefault((row.measure, row.window_days), row)
    filtered = [row for row in FeatureTable.load(feature_repo).features if row.where and row.measure == "sum"]
    return FeatureTable([*{row.key: row for row in (*chosen.values(), *filtered[:2])}.values(), *worlds.HABITS])


class Crowd(NamedTuple):
    """A history, asked with and without positions, and what the oracle says."""

    history: History
    positions: list[int | None]
    expected: list[worlds.Row]


@pytest.fixture(scope="module")
def crowds(table: FeatureTable) -> list[Crowd]:
    """One a time zone."""
    found = []
    for seed, zone in enumerate(ZONES):
        history = worlds.dense(zone, random.Random(seed), EVENTS, LABELS)
        positions = [None if row % 3 else len(history.log) - row for row in range(len(history.labels))]
        found.append(Crowd(history, positions, by_oracle(table.features, history, positions)))
    return found


def _stream_differs(engines: Engines, table: FeatureTable, crowd: Crowd) -> bool:
    """Only where tiles can be read: after everything that is visible was known."""
    asked = set(online(crowd.history).labels)
    rows = [row for row, label in enumerate(crowd.history.labels) if label in asked]
    history = crowd.history._replace(labels=tuple(crowd.history.labels[row] for row in rows))
    layout = engines.layout.Layout(table, history.time_zone)
    found = by_kernel(layout, history, [crowd.positions[row] for row in rows], random.Random(7).shuffle)
    return bool(differences(table, history, found, [crowd.expected[row] for row in rows]))


def _batch_differs(engines: Engines, table: FeatureTable, crowd: Crowd, folder: Path) -> bool:
    archive = write_archive(folder, crowd.history.log)
    with engines.batch.Batch(archive, table, crowd.history.time_zone) as batch:
        found = by_batch(batch, crowd.history, crowd.positions)
    return bool(differences(table, crowd.history, found, crowd.expected))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_mutant_turns_parity_red(
    mutant: Mutant, table: FeatureTable, crowds: list[Crowd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = importlib.import_module(mutant.module).__file__
    assert path is not None
    assert mutant.text in Path(path).read_text(), "the source has changed: plant the mutant anew"
    with planted(mutant) as engines:
        monkeypatch.setattr(worlds, "kernel", engines.kernel)
        if mutant.module in (QUERY, PLAN):
            noticed = any(
                _batch_differs(engines, table, crowd, tmp_path / str(row)) for row, crowd in enumerate(crowds)
            )
        else:
            noticed = any(_stream_differs(engines, table, crowd) for crowd in crowds)
    assert noticed


def test_without_a_mutant_the_reloaded_engines_agree(
    table: FeatureTable, crowds: list[Crowd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with planted(Mutant("none", FOLD, "", "")) as engines:
        assert engines.kernel is not worlds.kernel
        monkeypatch.setattr(worlds, "kernel", engines.kernel)
        for row, crowd in enumerate(crowds):
            assert not _stream_differs(engines, table, crowd)
            assert not _batch_differs(engines, table, crowd, tmp_path / str(row))
