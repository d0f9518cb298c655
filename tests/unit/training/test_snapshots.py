"""Weekly rows, their labels and the observed population, against naive counting."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US, SECOND_US, parse_instant
from vigie_contracts.scores import BandEdges, ChurnDefinition
from vigie_training import snapshots, splits
from vigie_training.fates import fates
from vigie_training.population import NEVER, WEEK_US, Population, archive_views, read_population
from vigie_training.snapshots import LabelledRows, Snapshots

from tests.integration.training_world import START_US, act, denial, merge, write_archive

MONDAY_US = parse_instant("2026-01-05T00:00:00Z")


def definition(gap: int = 3, horizon: int = 14, history: int = 7) -> ChurnDefinition:
    return ChurnDefinition(
        key="closure",
        name={},
        outcome="account.closed",
        gap_days=gap,
        horizon_days=horizon,
        min_history_days=history,
        bands=BandEdges(medium=0.1, high=0.2, critical=0.3),
    )


def population(outcomes: list[int | None], eligible: list[int] | None = None, days: int = 120) -> Population:
    n = len(outcomes)
    return Population(
        customer_ids=np.array([f"c{number}" for number in range(n)], dtype=object),
        eligible_from_us=np.array(eligible or [MONDAY_US] * n, dtype=np.int64),
        outcome_us=np.array([NEVER if at is None else at for at in outcomes], dtype=np.int64),
        observed_from_us=MONDAY_US,
        observed_until_us=MONDAY_US + days * DAY_US,
        denied=0,
    )


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(st.one_of(st.none(), st.integers(0, 130 * 86_400)), min_size=1, max_size=12),
    gap=st.integers(0, 10),
    horizon=st.integers(1, 30),
    history=st.integers(0, 20),
)
def test_rows_and_labels_are_those_of_a_naive_loop(
    outcomes: list[int | None], gap: int, horizon: int, history: int
) -> None:
    at = [None if second is None else MONDAY_US + second * SECOND_US for second in outcomes]
    churn = definition(gap, horizon, history)
    everyone = population(at)
    rows = closures(snapshots.weekly(everyone, churn, everyone.observed_until_us + DAY_US), churn)
    found = {
        (who, int(when)): int(label)
        for who, when, label in zip(rows.customer_ids, rows.as_of_us, rows.labels, strict=True)
    }
    assert found == naive(everyone, churn)


def closures(rows: Snapshots, churn: ChurnDefinition) -> LabelledRows:
    """Labels of a closure, which needs no events but the outcome."""
    with duckdb.connect() as db:
        found = fates(db, churn, rows)
    return rows.labelled(found.lost, found.eligible)


def naive(everyone: Population, churn: ChurnDefinition) -> dict[tuple[str, int], int]:
    expected = {}
    for who, outcome in zip(everyone.customer_ids, everyone.outcome_us.tolist(), strict=True):
        for week in range(40):
            as_of = instant(str(who), MONDAY_US + week * WEEK_US)
            closes = as_of + (churn.gap_days + churn.horizon_days) * DAY_US
            if as_of < MONDAY_US + churn.min_history_days * DAY_US or closes > everyone.observed_until_us:
                continue
            if outcome < as_of:
                continue
            opens = as_of + churn.gap_days * DAY_US
            expected[str(who), as_of] = int(opens <= outcome < closes)
    return expected


def instant(who: str, week_start_us: int) -> int:
    """One week of one customer at a time."""
    hashes = np.array([snapshots._hash(who)], dtype=np.uint64)
    week = (week_start_us - snapshots.MONDAY_US) // WEEK_US
    return int(snapshots.as_of_instants(hashes, np.array([week]))[0])


def test_as_of_instants_spread_over_the_whole_week_and_never_move() -> None:
    hashes = np.array([snapshots._hash(f"c{number}") for number in range(2_000)], dtype=np.uint64)
    weeks = np.array([2_900, 2_901], dtype=np.int64)
    found = snapshots.as_of_instants(hashes[:, None], weeks[None, :])
    offsets = (found - snapshots.MONDAY_US) % WEEK_US
    assert ((found - snapshots.MONDAY_US) // WEEK_US == weeks).all()
    assert (offsets % SECOND_US == 0).all()
    share_a_day = np.bincount((offsets // DAY_US).ravel(), minlength=7) / offsets.size
    assert share_a_day.min() > 0.12
    assert abs(np.corrcoef(offsets[:, 0], offsets[:, 1])[0, 1]) < 0.06
    assert int(found[0, 0]) == 1_754_555_132_000_000


def test_the_label_window_is_closed_on_the_left_and_open_on_the_right() -> None:
    as_of = np.array([MONDAY_US] * 4)
    opens, closes = MONDAY_US + 3 * DAY_US, MONDAY_US + 17 * DAY_US
    rows = Snapshots(np.array(list("abcd"), dtype=object), as_of, np.array([opens - 1, opens, closes - 1, closes]))
    assert closures(rows, definition()).labels.tolist() == [0, 1, 1, 0]


def test_too_young_data_are_refused_with_what_they_lack() -> None:
    with pytest.raises(InvalidInput, match="7 days of history and 17 more"):
        snapshots.weekly(population([None], days=20), definition(), MONDAY_US + 20 * DAY_US)


def test_many_customers_are_sampled_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MOST_ROWS", 2_000)
    rows = snapshots.weekly(population([None] * 1_000), definition(), MONDAY_US + 400 * DAY_US)
    again = snapshots.weekly(population([None] * 1_000), definition(), MONDAY_US + 400 * DAY_US)
    assert 1_200 < len(rows) < 2_400
    assert set(rows.customer_ids) == set(again.customer_ids)


def rows_at(days: list[float], labels: list[int] | None = None) -> LabelledRows:
    n = len(days)
    return LabelledRows(
        customer_ids=np.array([f"c{number % 50}" for number in range(n)], dtype=object),
        as_of_us=np.array([MONDAY_US + int(day * DAY_US) for day in days], dtype=np.int64),
        labels=np.array(labels or [number % 2 for number in range(n)], dtype=np.int8),
    )


@settings(max_examples=40, deadline=None)
@given(span_days=st.integers(1, 40), days=st.integers(30, 300))
def test_each_label_window_closes_before_the_next_slice_starts(span_days: int, days: int) -> None:
    rows = rows_at(np.linspace(0, days, 1_500).tolist())
    if days <= 2 * span_days:
        with pytest.raises(InvalidInput, match="wait, import more history"):
            splits.by_time(rows, span_days * DAY_US)
        return
    try:
        split = splits.by_time(rows, span_days * DAY_US)
    except InvalidInput as error:
        if "positive labels" not in error.message:
            raise
        return
    assert not (split.train & split.calibrate).any()
    assert not (split.calibrate & split.test).any()
    for earlier, later in (("train", "calibrate"), ("calibrate", "test")):
        closes = rows.as_of_us[split.of(earlier)].max() + span_days * DAY_US
        assert closes <= rows.as_of_us[split.of(later)].min()
    assert split.test[-1]


def test_a_slice_with_too_few_losses_is_named() -> None:
    labels = [1] * 40 + [0] * 1_460
    with pytest.raises(InvalidInput, match="the calibrate slice has 0 positive labels in"):
        splits.by_time(rows_at(np.linspace(0, 120, 1_500).tolist(), labels), 10 * DAY_US)


def test_the_population_follows_merges_consent_and_what_was_known(tmp_path: Path) -> None:
    weeks = [act("busy", "app.logged_in", START_US + hour * 3_600 * SECOND_US) for hour in range(24 * 28)]
    records = [
        *weeks,
        act("old", "account.opened", START_US - 900 * DAY_US, product="account"),
        act("anon", "page.viewed", START_US + DAY_US),
        act("joined", "app.logged_in", START_US + 2 * DAY_US),
        merge("anon", "joined", START_US + 2 * DAY_US),
        act("joined", "account.closed", START_US + 20 * DAY_US, product="account"),
        act("quiet", "app.logged_in", START_US + DAY_US),
        denial("quiet", START_US + 2 * DAY_US),
        act("again", "app.logged_in", START_US + DAY_US),
        denial("again", START_US + 2 * DAY_US),
        denial("again", START_US + 3 * DAY_US, state="granted"),
        act("shy", "app.logged_in", START_US + DAY_US),
        denial("shy", START_US + 2 * DAY_US, purpose="marketing"),
    ]
    write_archive(tmp_path, records)
    with archive_views(tmp_path / "archive") as db:
        found = read_population(db, outcome="account.closed", min_history_days=7)
    assert found.customer_ids.tolist() == ["again", "busy", "joined", "old", "shy"]
    assert found.denied == 1
    at = dict(zip(found.customer_ids, found.eligible_from_us.tolist(), strict=True))
    assert at["joined"] == START_US + 8 * DAY_US
    assert at["old"] == START_US - 893 * DAY_US
    left = dict(zip(found.customer_ids, found.outcome_us.tolist(), strict=True))
    assert left["joined"] == START_US + 20 * DAY_US
    assert left["busy"] == NEVER
    assert (found.observed_from_us, found.observed_until_us) == (START_US, START_US + (24 * 28 - 1) * 3_600 * SECOND_US)


def test_an_explicit_label_table_may_not_mix_cohorts() -> None:
    table = pa.table({"customer_id": ["a", "a"], "as_of_us": [1, 2], "label": [0, 1], "test": [False, True]})
    with pytest.raises(InvalidInput, match="1 customers are in the training and the test cohort, for example a"):
        snapshots.from_table(table)
    with pytest.raises(InvalidInput, match="needs columns test"):
        snapshots.from_table(table.drop_columns(["test"]))
    rows, test = snapshots.from_table(table.slice(0, 1))
    assert (rows.customer_ids.tolist(), rows.as_of_us.tolist(), rows.labels.tolist(), test.tolist()) == (
        ["a"], [1], [0], [False],
    )  # fmt: skip
