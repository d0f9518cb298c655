"""The gate on made predictions: accepted, refused by each point, non-inferior and simpler, edges of the bands."""

from typing import Any

import msgspec
import numpy as np
import pytest
from vigie_contracts.instants import DAY_US
from vigie_training import gate
from vigie_training.bootstrap import Estimate
from vigie_training.evidence import ANYTHING_ELSE, ONE_FEATURE, SHALLOW_TREES, Evidence, LeakReport
from vigie_training.gate import Contest, GatePoint
from vigie_training.splits import Slice

SPAN_US = 17 * DAY_US
NOW_US = 200 * DAY_US
N = 1_500


def part(name: str, from_day: int, to_day: int, positives: int = 90) -> Slice:
    return Slice(
        name=name, from_us=from_day * DAY_US, to_us=to_day * DAY_US, rows=N, positives=positives, customers=N // 2
    )


def evidence(**changes: Any) -> Evidence:
    slices = changes.pop("slices", [part("train", 0, 60), part("calibrate", 77, 100), part("test", 117, 150)])
    leaks = LeakReport(
        strongest_feature="login_recency",
        strongest_auc=0.71,
        shuffled_time_gain=Estimate(0.0, -0.02, 0.02),
        replayed=200,
        replay_mismatches=0,
        alarms=[],
    )
    sound = Evidence(
        kind="churn",
        definition="closure",
        primary_metric="auc",
        complexity=SHALLOW_TREES,
        split="time",
        span_us=SPAN_US,
        slices=slices,
        matures_at_us=slices[-1].to_us + SPAN_US,
        floor="recency-only",
        stored=[],
        leaks=leaks,
    )
    return msgspec.structs.replace(sound, **changes)


def truth(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-1.5, 1.3, N)))
    return p, (rng.random(N) < p).astype(float)


def contest(
    challenger: np.ndarray, rival: np.ndarray, labels: np.ndarray, rival_complexity: int = ONE_FEATURE
) -> Contest:
    return Contest(
        labels=labels,
        customers=np.arange(N) // 2,
        challenger=challenger,
        rival=rival,
        rival_name="champion version 1",
        rival_complexity=rival_complexity,
    )


def refused(points: list[GatePoint]) -> list[int]:
    return [point.number for point in points if point.status == "refused"]


def test_a_better_calibrated_challenger_is_accepted() -> None:
    p, y = truth()
    noise = np.random.default_rng(9).normal(0, 2, N)
    rival = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + noise)))
    points = gate.judge(evidence(), contest(p, rival, y), NOW_US)
    assert [point.number for point in points] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [point.status for point in points] == ["held"] * 3 + ["not judged yet"] * 4 + ["held"]
    gain = points[1].figures
    assert 0 < gain["low"] < gain["gain"] < gain["high"]  # type: ignore[operator]
    assert points[1].sentence.startswith("The gain in auc over champion version 1 is 0.")


def test_point_1_refuses_labels_that_are_not_known_yet() -> None:
    p, y = truth()
    points = gate.judge(evidence(), contest(p, p[::-1], y), (167 * DAY_US) - 1)
    assert refused(points) == [1]
    assert "known at 1970-06-17T00:00:00" in points[0].sentence
    assert refused(gate.judge(evidence(), contest(p, p[::-1], y), 167 * DAY_US)) == []


def test_point_1_refuses_slices_whose_label_windows_reach_into_the_next() -> None:
    overlapping = [part("train", 0, 61), part("calibrate", 77, 100), part("test", 117, 150)]
    point = gate.mature(evidence(slices=overlapping), NOW_US)
    assert point.status == "refused"
    assert (
        point.sentence == "Labels of the train slice (open for 1.0 d more) were not known before the next slice starts."
    )


def test_point_1_refuses_a_test_slice_without_losses() -> None:
    slices = [part("train", 0, 60), part("calibrate", 77, 100), part("test", 117, 150, positives=0)]
    assert gate.mature(evidence(slices=slices), NOW_US).status == "refused"


def test_point_1_says_that_a_cohort_split_is_an_exception() -> None:
    point = gate.mature(evidence(split="cohort", slices=[part("train", 0, 60), part("test", 0, 60)]), NOW_US)
    assert (point.status, "an exception to the time rule" in point.sentence) == ("held", True)


def test_point_2_refuses_an_equal_challenger() -> None:
    p, y = truth()
    point = gate.better(evidence(), contest(p, p, y, SHALLOW_TREES))
    assert (point.status, point.figures["gain"], point.figures["low"]) == ("refused", 0.0, 0.0)
    assert "must be above 0" in point.sentence


def test_point_2_accepts_an_equal_challenger_of_a_lower_complexity_class() -> None:
    p, y = truth()
    assert gate.better(evidence(), contest(p, p, y, ANYTHING_ELSE)).status == "held"
    assert gate.better(evidence(complexity=ANYTHING_ELSE), contest(p, p, y, ANYTHING_ELSE)).status == "refused"


def test_point_2_refuses_a_simpler_challenger_that_is_inferior() -> None:
    p, y = truth()
    worse = np.where(np.arange(N) % 3 == 0, p.mean(), p)
    point = gate.better(evidence(), contest(worse, p, y, ANYTHING_ELSE))
    assert point.status == "refused"
    assert point.figures["low"] < -gate.NON_INFERIORITY["auc"]  # type: ignore[operator]


def test_point_2_turns_losses_around() -> None:
    p, y = truth()
    flat = np.full(N, y.mean())
    assert gate.better(evidence(primary_metric="log_loss"), contest(p, flat, y)).status == "held"
    assert gate.better(evidence(primary_metric="log_loss"), contest(flat, p, y)).status == "refused"


def test_point_2_refuses_what_cannot_be_compared() -> None:
    points = gate.judge(evidence(), "champion version 1 holds no booster.ubj", NOW_US)
    assert refused(points) == [2, 3]
    assert "holds no booster.ubj" in points[1].sentence


def test_point_3_refuses_only_what_surely_lies_outside() -> None:
    p, y = truth()
    margins = np.log(p / (1 - p))
    assert gate.calibrated(contest(p, p, y)).status == "held"
    doubled = gate.calibrated(contest(1 / (1 + np.exp(-(margins + 0.8))), p, y))
    assert doubled.status == "refused"
    assert "mean over rate" in doubled.sentence.split("the interval of")[1]
    confident = gate.calibrated(contest(1 / (1 + np.exp(-2.2 * margins)), p, y))
    assert "slope" in confident.sentence.split("the interval of")[1]
    slightly = gate.calibrated(contest(1 / (1 + np.exp(-(margins + 0.25))), p, y))
    assert slightly.status == "held"


@pytest.mark.parametrize(
    ("low", "high", "outside"),
    [
        (0.5, 0.8, False),
        (0.5, 0.7999, True),
        (1.25, 2.0, False),
        (1.2501, 2.0, True),
        (0.5, 2.0, False),
        (0.9, 1.1, False),
        (None, None, True),
    ],
)
def test_the_edges_of_the_calibration_band_are_inside(low: float | None, high: float | None, outside: bool) -> None:
    assert gate.lies_outside(Estimate(1.0, low, high)) is outside


def test_point_8_refuses_when_an_alarm_rings() -> None:
    p, y = truth()
    leaky = msgspec.structs.replace(evidence().leaks, alarms=["branch_visits_90d alone reaches AUC 0.990"])
    points = gate.judge(evidence(leaks=leaky), contest(p, p[::-1], y), NOW_US)
    assert refused(points) == [8]
    assert points[7].sentence == "branch_visits_90d alone reaches AUC 0.990."


def test_the_same_predictions_are_judged_the_same_every_time() -> None:
    p, y = truth()
    one = gate.judge(evidence(), contest(p, p[::-1], y), NOW_US)
    assert one == gate.judge(evidence(), contest(p, p[::-1], y), NOW_US)


def test_an_a_a_comparison_promotes_seldom() -> None:
    """Two predictions of the same skill: the lower bound is above 0 in about one of forty."""
    promoted = 0
    for seed in range(60):
        p, y = truth(seed)
        rng = np.random.default_rng(1_000 + seed)
        margins = np.log(p / (1 - p))
        one, two = (1 / (1 + np.exp(-(margins + rng.normal(0, 0.5, N)))) for _ in range(2))
        promoted += gate.better(evidence(), contest(one, two, y, SHALLOW_TREES), draws=200).status == "held"
    assert promoted <= 5
