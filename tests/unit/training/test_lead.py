"""Lead time: alerts within a budget, and days between the first one and the loss, against one customer at a time."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.instants import DAY_US
from vigie_training.lead import alerts, lead_times
from vigie_training.population import MONDAY_US, NEVER, WEEK_US
from vigie_training.snapshots import LabelledRows

GAP_US = 3 * DAY_US


def rows(customers: list[str], days: list[float], labels: list[int], lost: list[float | None] | None) -> LabelledRows:
    """Days count from a Monday; `lost` is when each row's customer is lost."""
    at = None if lost is None else [NEVER if day is None else MONDAY_US + int(day * DAY_US) for day in lost]
    return LabelledRows(
        customer_ids=np.array(customers, dtype=object),
        as_of_us=np.array([MONDAY_US + int(day * DAY_US) for day in days], dtype=np.int64),
        labels=np.array(labels, dtype=np.int8),
        lost_at_us=None if at is None else np.array(at, dtype=np.int64),
    )


@settings(max_examples=60, deadline=None)
@given(
    weeks=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    chances=st.randoms(use_true_random=False),
    share=st.sampled_from([0.1, 0.2]),
)
def test_a_weeks_alerts_are_its_highest_within_the_budget(weeks, chances, share) -> None:  # type: ignore[no-untyped-def]
    probabilities = np.array([chances.choice([0.1, 0.2, chances.random()]) for _ in weeks])
    found = rows(["c"] * len(weeks), [7 * week + chances.random() * 6.9 for week in weeks], [0] * len(weeks), None)
    chosen = alerts(found, probabilities, share)
    for week in set(weeks):
        inside = (found.as_of_us - MONDAY_US) // WEEK_US == week
        assert chosen[inside].sum() == math.ceil(share * inside.sum())
        taken, left = probabilities[inside & chosen], probabilities[inside & ~chosen]
        assert len(left) == 0 or taken.min() >= left.max()


@settings(max_examples=25, deadline=None)
@given(
    lost=st.lists(st.one_of(st.none(), st.integers(-40, 360).map(lambda day: day / 4)), min_size=1, max_size=12),
    chances=st.randoms(use_true_random=False),
)
def test_the_figures_are_those_of_a_naive_loop(lost, chances) -> None:  # type: ignore[no-untyped-def]
    table = [
        (f"c{number}", 7 * week + chances.random() * 6, day) for week in range(6) for number, day in enumerate(lost)
    ]
    table = [row for row in table if row[2] is None or row[1] < row[2]] or [("c0", 1.0, None)]
    found = rows([who for who, _, _ in table], [at for _, at, _ in table], [0] * len(table), [day for *_, day in table])
    probabilities = np.array([chances.random() for _ in table])
    alerted = alerts(found, probabilities, 0.2)
    leads: list[float | None] = []
    seen: list[float] = []
    for who in {who for who, _, day in table if day is not None}:
        mine = [(at, day, bool(hit)) for (one, at, day), hit in zip(table, alerted, strict=True) if one == who]
        seen.append(max(day - at for at, day, _ in mine))
        leads.append(max((day - at for at, day, hit in mine if hit), default=None))
    told = lead_times(found, probabilities, GAP_US)
    warned = sorted(lead for lead in leads if lead is not None)
    assert told["warned_20"].value == (pytest.approx(len(warned) / len(leads)) if leads else None)
    low = statistics.median_low(warned) if warned else None
    assert told["lead_days_20"].value == (None if low is None else pytest.approx(low, abs=1e-6))
    reached = {who for (who, *_), hit in zip(table, alerted, strict=True) if hit}
    assert told["alerted_20"].value == pytest.approx(len(reached) / len({who for who, *_ in table}))
    early = [(lead or 0) >= 30 for lead, days in zip(leads, seen, strict=True) if days >= 30]
    assert told["warned_30_days_20"].value == (pytest.approx(sum(early) / len(early)) if early else None)


def test_without_the_instant_of_a_loss_it_is_where_the_first_positive_interval_begins() -> None:
    quiet = [f"q{number}" for number in range(9)]
    found = rows(["a", *quiet, "a", *quiet], [1.0, *[2.0] * 9, 8.0, *[9.0] * 9], [0, *[0] * 9, 1, *[0] * 9], None)
    told = lead_times(found, np.array([0.9, *[0.1] * 9, 0.1, *[0.2] * 9]), GAP_US)
    assert told["warned_10"].value == 1.0
    assert told["lead_days_10"].value == pytest.approx(10.0)
    assert told["warned_30_days_10"].value is None
