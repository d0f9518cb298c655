"""Bands, updates, eligibility, calibration and reasons, with values worked out by hand."""

import math

import msgspec
import numpy as np
import pytest
from vigie_contracts.features import FeatureSpec
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import Calibrator
from vigie_contracts.scores import BandEdges, ChurnDefinition, ChurnScore, ReadPoint, ScoreUnavailable
from vigie_scoring.domain import (
    CustomerFacts,
    Trail,
    calibrate,
    denied_purposes,
    ineligible,
    is_update,
    reasons_of,
    unavailable,
    worth_storing,
)

EDGES = BandEdges(medium=0.1, high=0.3, critical=0.6, hysteresis=0.01)
CLOSURE = ChurnDefinition(
    key="closure",
    name={"en": "Closure", "fr": "Clôture"},
    outcome="account.closed",
    gap_days=7,
    horizon_days=30,
    min_history_days=14,
    bands=EDGES,
    primary=True,
)
NOW = 100 * DAY_US


def score(probability: float, band: str | None = None) -> ChurnScore:
    return ChurnScore(
        customer_id="c",
        definition="closure",
        probability=probability,
        horizons=[(30, probability)],
        band=band or EDGES.band(probability),  # type: ignore[arg-type]
        reasons=[],
        model_name="vigie-churn-closure",
        model_version="1",
        spec_hash="0" * 16,
        read_point=ReadPoint(t_us=NOW, pos={0: 1}),
        vector=[],
        scored_at_us=NOW,
    )


def none_because(reason: str) -> ScoreUnavailable:
    return unavailable("c", "closure", reason, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probability", "previous", "band"),
    [
        (0.0999, None, "LOW"),
        (0.1, None, "MEDIUM"),
        (0.6, "LOW", "CRITICAL"),
        (0.2950, "HIGH", "HIGH"),
        (0.2899, "HIGH", "MEDIUM"),
        (0.0950, "HIGH", "MEDIUM"),
        (0.0899, "CRITICAL", "LOW"),
    ],
)
def test_a_band_is_left_downwards_only_past_its_edge_and_hysteresis(probability, previous, band):
    assert EDGES.band(probability, previous) == band


@pytest.mark.parametrize(
    ("last", "current", "expected"),
    [
        (None, score(0.02), True),
        (None, none_because("INSUFFICIENT_HISTORY"), False),
        (score(0.02), score(0.0699), False),
        (score(0.02), score(0.0701), True),
        (score(0.25), score(0.21), False),
        (score(0.25), score(0.301), True),
        (score(0.301, "HIGH"), score(0.2951, "HIGH"), False),
        (score(0.2), none_because("STALE_FEATURES"), True),
        (none_because("STALE_FEATURES"), none_because("CONSENT_WITHDRAWN"), False),
        (none_because("STALE_FEATURES"), score(0.2), True),
    ],
)
def test_an_update_is_a_moved_band_a_moved_availability_or_a_step_of_the_threshold(last, current, expected):
    assert is_update(last, current, 0.05) is expected


def test_why_there_is_no_score_is_stored_once_and_never_for_want_of_a_first_model():
    assert worth_storing(None, score(0.1))
    assert worth_storing(score(0.1), score(0.1))
    assert not worth_storing(None, none_because("MODEL_UNAVAILABLE"))
    assert worth_storing(score(0.1), none_because("MODEL_UNAVAILABLE"))
    assert worth_storing(None, none_because("CONSENT_WITHDRAWN"))
    assert not worth_storing(none_because("ALREADY_CHURNED"), none_because("ALREADY_CHURNED"))
    assert worth_storing(none_because("INSUFFICIENT_HISTORY"), none_because("ALREADY_CHURNED"))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (CustomerFacts(customer_id="c", first_seen_us=NOW - 14 * DAY_US), None),
        (CustomerFacts(customer_id="c", first_seen_us=NOW - 14 * DAY_US + 1), "INSUFFICIENT_HISTORY"),
        (CustomerFacts(customer_id="c"), "INSUFFICIENT_HISTORY"),
        (CustomerFacts(customer_id="c", first_seen_us=0, outcomes={"account.closed": NOW - 1}), "ALREADY_CHURNED"),
        (CustomerFacts(customer_id="c", first_seen_us=0, outcomes={"account.closed": NOW}), None),
        (
            CustomerFacts(customer_id="c", first_seen_us=0, outcomes={"account.closed": 1}, denied=["profiling"]),
            "CONSENT_WITHDRAWN",
        ),
        (CustomerFacts(customer_id="c", first_seen_us=0, denied=["marketing"]), None),
    ],
)
def test_who_may_be_scored(facts, reason):
    assert ineligible(CLOSURE, facts, NOW) == reason


@pytest.mark.parametrize(
    ("last_act_us", "reason"),
    [(None, "ALREADY_CHURNED"), (NOW - 30 * DAY_US - 1, "ALREADY_CHURNED"), (NOW - 30 * DAY_US, None), (NOW - 1, None)],
)
def test_who_is_silent_already_is_not_scored_for_inactivity(last_act_us, reason):
    inactivity = msgspec.structs.replace(CLOSURE, key="inactivity", kind="inactivity")
    facts = CustomerFacts(customer_id="c", first_seen_us=0)
    assert ineligible(inactivity, facts, NOW, Trail(last_act_us=last_act_us)) == reason


def test_any_denial_denies_and_unset_follows_the_setting():
    states = {"marketing": ["granted", "denied"], "profiling": ["unset"], "analytics": ["granted"]}
    assert denied_purposes(states, ()) == ["marketing"]
    assert denied_purposes(states, ("profiling", "analytics")) == ["marketing", "profiling"]


def test_calibrators_map_margins_to_probabilities():
    isotonic = Calibrator(kind="isotonic", x=[-2.0, 0.0, 2.0], y=[0.1, 0.2, 0.6])
    assert calibrate(isotonic, np.array([-5.0, -1.0, 1.0, 9.0])).tolist() == pytest.approx([0.1, 0.15, 0.4, 0.6])
    platt = Calibrator(kind="platt", a=2.0, b=-1.0)
    expected = [1 / (1 + math.exp(1.0)), 0.5, 0.0]
    assert calibrate(platt, np.array([0.0, 0.5, -900.0])).tolist() == pytest.approx(expected)


def feature(name: str, concept: str) -> FeatureSpec:
    return FeatureSpec(name=name, description="", measure="count", window_days=7, events=("a",), concept=concept)


def test_reasons_group_contributions_by_concept_and_name_the_strongest_feature():
    features = [
        feature("a1", "activity"),
        feature("a2", "activity"),
        feature("s1", "service"),
        feature("g1", "goals"),
        feature("m1", "money"),
        feature("b1", "branch"),
        feature("l1", "learning"),
        feature("f1", "feedback"),
    ]
    contributions = np.array([0.5, -0.1, 0.3, -0.4, 0.2, 0.1, -0.05, -0.02])
    found = reasons_of(contributions, features, [1, 2, 3, None, 5, 6, 7, 8], [1.5] * 8)
    assert [(reason.code, reason.direction, round(reason.contribution, 9)) for reason in found] == [
        ("activity", "INCREASES_RISK", 0.4),
        ("service", "INCREASES_RISK", 0.3),
        ("money", "INCREASES_RISK", 0.2),
        ("goals", "LOWERS_RISK", -0.4),
        ("learning", "LOWERS_RISK", -0.05),
    ]
    assert [(reason.feature, reason.value) for reason in found] == [
        ("a1", 1),
        ("s1", 3),
        ("m1", 5),
        ("g1", None),
        ("l1", 7),
    ]
