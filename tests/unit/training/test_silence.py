"""Horizons suggested by gaps: against plain shares, a naive product, and gaps counted one customer at a time."""

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.instants import DAY_US
from vigie_training.silence import FEWEST_AT_RISK, returning, silences, suggest


def counts(days: list[int], longest: int) -> np.ndarray:
    return np.bincount(np.array(days, dtype=np.int64), minlength=longest + 1)


@settings(max_examples=60, deadline=None)
@given(
    ended=st.lists(st.integers(0, 40), max_size=200),
    still_open=st.lists(st.integers(0, 60), min_size=FEWEST_AT_RISK, max_size=120),
)
def test_the_curve_is_a_naive_kaplan_meier(ended: list[int], still_open: list[int]) -> None:
    curve = returning(counts(ended, 60), counts(still_open, 60))
    both = ended + still_open
    seen = max(day for day in range(61) if sum(one >= day for one in both) >= FEWEST_AT_RISK) + 1
    survival = [1.0]
    for day in range(seen):
        survival.append(survival[-1] * (1 - ended.count(day) / sum(one >= day for one in both)))
    expected = [1 - survival[-1] / one if one > 0 else 0.0 for one in survival]
    assert curve == pytest.approx(np.array(expected), abs=1e-9)


def test_without_silences_cut_short_it_is_the_share_that_came_back() -> None:
    ended = [1] * 500 + [5] * 60 + [12] * 30 + [20] * 10
    still_open = [60] * 100
    found = suggest(counts(ended, 60), counts(still_open, 60), at_most=0.25)
    assert found.returning_after(6) == pytest.approx(40 / 140)
    assert found.returning_after(13) == pytest.approx(10 / 110)
    assert (found.days, found.returning) == (13, pytest.approx(10 / 110))
    assert (found.silences, found.open, found.seen_days) == (700, 100, 61)


def test_no_horizon_is_suggested_where_everybody_comes_back_or_too_little_is_seen() -> None:
    everybody = suggest(counts(list(range(40)) * 10, 40), counts([], 40))
    assert (everybody.days, everybody.returning) == (None, None)
    few = suggest(counts([1, 2], 2), counts([2], 2))
    assert (few.days, few.seen_days, few.returning_after(1)) == (None, 0, None)


def test_gaps_are_those_between_a_customers_events_within_the_data() -> None:
    with duckdb.connect() as db:
        db.execute("CREATE TABLE acts (customer_id VARCHAR, effective_at_us BIGINT)")
        at = {"a": [-5.0, 1.0, 1.5, 4.4], "b": [2.0], "gone": [1.0, 2.0], "later": [12.0]}
        for who, days in at.items():
            db.executemany("INSERT INTO acts VALUES (?, ?)", [(who, int(day * DAY_US)) for day in days])
        ended, still_open = silences(db, "acts", 0, 10 * DAY_US, frozenset({"gone"}))
    assert ended.tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0]
    assert still_open.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1]
