"""The oracle, the stream kernel and the batch query give the same values and nulls, for every form of every measure."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vigie_contracts.events import Event, LogRecord
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US
from vigie_tiles.batch import Batch
from vigie_tiles.layout import Layout

from tests.unit.tiles.histories import (
    HABITS,
    ZONES,
    History,
    Label,
    by_batch,
    by_kernel,
    by_oracle,
    differences,
    histories,
    label_table,
    online,
    perturbed,
    rows_of,
    write_archive,
)

SLOW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def table(feature_repo: Path) -> FeatureTable:
    return FeatureTable([*FeatureTable.load(feature_repo).features, *HABITS])


@pytest.fixture(scope="module")
def layouts(table: FeatureTable) -> dict[str, Layout]:
    return {zone: Layout(table, zone) for zone in ZONES}


@QUICK
@given(history=histories())
def test_the_kernel_says_what_the_oracle_says(
    history: History, table: FeatureTable, layouts: dict[str, Layout]
) -> None:
    history = online(history)
    expected = by_oracle(table.features, history)
    assert differences(table, history, by_kernel(layouts[history.time_zone], history), expected) == []


@SLOW
@given(history=histories())
def test_the_batch_over_an_archive_says_what_the_oracle_says(
    history: History, table: FeatureTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = write_archive(tmp_path_factory.mktemp("archive"), history.log)
    with Batch(archive, table, history.time_zone) as batch:
        found = by_batch(batch, history)
    assert differences(table, history, found, by_oracle(table.features, history)) == []


@SLOW
@given(history=histories(), seed=st.integers(0, 2**16))
def test_all_agree_at_any_position_with_a_part_of_the_log_behind_the_archive(
    history: History,
    seed: int,
    table: FeatureTable,
    layouts: dict[str, Layout],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rnd, history = random.Random(seed), online(history)
    positions = [rnd.choice((None, rnd.randint(0, len(history.log)))) for _ in history.labels]
    archived = rnd.randint(0, len(history.log))
    archive = write_archive(tmp_path_factory.mktemp("archive"), history.log[:archived])
    with Batch(archive, table, history.time_zone, tail=history.log[rnd.randint(0, archived) :]) as batch:
        found = by_batch(batch, history, positions)
    expected = by_oracle(table.features, history, positions)
    assert differences(table, history, found, expected) == []
    folded = by_kernel(layouts[history.time_zone], history, positions, rnd.shuffle)
    assert differences(table, history, folded, expected) == []


@SLOW
@given(history=histories(), seed=st.integers(0, 2**16))
def test_nothing_that_was_not_known_or_had_not_happened_moves_a_value(
    history: History, seed: int, table: FeatureTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Leakage: at one t, whatever events at or after t, or known after it, are turned into, the row stays."""
    rnd = random.Random(seed)
    t_us = rnd.choice(history.labels).t_us
    asked = history._replace(labels=tuple(Label(label.customer_id, t_us) for label in history.labels))
    other = asked._replace(log=tuple((position, _turned(record, t_us, rnd)) for position, record in asked.log))
    folder = tmp_path_factory.mktemp("archives")
    with Batch(write_archive(folder / "one", asked.log), table, history.time_zone) as first:
        found = by_batch(first, asked)
    with Batch(write_archive(folder / "other", other.log), table, history.time_zone) as second:
        assert differences(table, asked, found, by_batch(second, other)) == []


def _turned(record: LogRecord, t_us: int, rnd: random.Random) -> LogRecord:
    if not isinstance(record, Event) or (record.known_at_us <= t_us and record.effective_at_us < t_us):
        return record
    changes: dict[str, Any] = {
        "name": rnd.choice(("app.logged_in", "card.used", "account.opened")),
        "catalogued": True,
        "member_id": rnd.choice(("m0", "m1")),
        "measures": {"amount": rnd.randint(1, 10**6)},
        "traits": {"age_band": "18-24"},
    }
    if record.effective_at_us >= t_us:
        changes["effective_at_us"] = t_us + rnd.choice((0, 1, DAY_US))
        changes["known_at_us"] = rnd.choice((t_us, record.known_at_us))
    else:
        changes["known_at_us"] = max(record.known_at_us, t_us + 1)
    return perturbed(record, **changes)


@settings(SLOW, max_examples=5)
@given(history=histories(("Europe/Paris",)), seed=st.integers(0, 2**16))
def test_every_label_row_is_answered_in_its_own_place(
    history: History, seed: int, table: FeatureTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Row order: shuffled, doubled and cut into pieces, each row has the vector it has alone."""
    archive = write_archive(tmp_path_factory.mktemp("archive"), history.log)
    with Batch(archive, table, "Europe/Paris") as batch:
        alone = dict(zip(history.labels, by_batch(batch, history), strict=True))
    labels = [*history.labels, *history.labels]
    random.Random(seed).shuffle(labels)
    with Batch(archive, table, "Europe/Paris", labels_at_once=8) as batch:
        assert rows_of(batch.vectors(label_table(labels))) == [alone[label] for label in labels]
