"""Weighted figures against scikit-learn on repeated rows, the bootstrap, and calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from vigie_contracts.errors import InvalidInput
from vigie_contracts.models import Calibrator
from vigie_scoring.domain import calibrate as serving_calibrate
from vigie_training import metrics
from vigie_training.bootstrap import Estimate, bootstrap, evaluate
from vigie_training.calibration import calibrate, fit_calibrator


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_weights_mean_the_same_as_repeating_rows(data: st.DataObject) -> None:
    n = data.draw(st.integers(8, 60))
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(float)
    y[:2] = 0, 1
    p = np.clip(rng.integers(0, 12, n) / 11, 0.01, 0.99)  # with ties
    w = rng.integers(0, 4, (3, n)).astype(float)
    w[:, :2] += 1
    for weights in w:
        again = np.repeat(np.arange(n), weights.astype(int))
        one = weights[None, :]
        assert metrics.auc(y, p, one)[0] == pytest.approx(roc_auc_score(y[again], p[again]), abs=1e-12)
        assert metrics.pr_auc(y, p, one)[0] == pytest.approx(average_precision_score(y[again], p[again]), abs=1e-12)
        assert metrics.log_loss(y, p, one)[0] == pytest.approx(log_loss(y[again], p[again]), abs=1e-12)
        assert metrics.brier(y, p, one)[0] == pytest.approx(brier_score_loss(y[again], p[again]), abs=1e-12)
        assert metrics.mean_over_rate(y, p, one)[0] == pytest.approx(p[again].mean() / y[again].mean(), abs=1e-12)
    np.testing.assert_allclose(metrics.auc(y, p, w), [metrics.auc(y, p, row[None, :])[0] for row in w])


def test_the_calibration_line_is_that_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(1, 8, 4_000)
    y = (rng.random(4_000) < 1 / (1 + np.exp(-(0.7 * metrics.logit(p) - 0.4)))).astype(float)
    w = rng.integers(0, 3, (2, 4_000)).astype(float)
    found = metrics.calibration_line(y, p, w)
    for weights, line in zip(w, found, strict=True):
        fitted = LogisticRegression(C=1e12, tol=1e-10, max_iter=1_000).fit(
            metrics.logit(p)[:, None], y, sample_weight=weights
        )
        np.testing.assert_allclose(line, [fitted.coef_[0, 0], fitted.intercept_[0]], atol=1e-4)


def test_a_constant_prediction_has_no_slope() -> None:
    y = np.array([0.0, 1.0, 1.0, 0.0])
    assert np.isnan(metrics.calibration_slope(y, np.full(4, 0.5), np.ones((1, 4)))[0])


def test_lift_counts_the_most_probable_and_shares_ties() -> None:
    y = np.array([1.0] * 10 + [0.0] * 90)
    ones = np.ones((1, 100))
    assert metrics.lift(0.10)(y, np.linspace(1, 0, 100), ones)[0] == pytest.approx(10)
    assert metrics.lift(0.05)(y, np.linspace(1, 0, 100), ones)[0] == pytest.approx(10)
    assert metrics.lift(0.20)(y, np.linspace(1, 0, 100), ones)[0] == pytest.approx(5)
    assert metrics.lift(0.10)(y, np.full(100, 0.1), ones)[0] == pytest.approx(1)


def test_the_noise_floor_is_what_perfect_probabilities_show() -> None:
    p = np.full(2_000, 0.09)
    floor, high = metrics.ece_noise_floor(p, seed=1)
    assert 0.005 < floor < 0.02  # about 0.8 sqrt(p (1 - p) bins / n) = 0.016
    assert high > floor


def test_intervals_are_wider_when_rows_of_a_customer_repeat() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 300).astype(float)
    p = np.clip(0.3 * y + 0.7 * rng.random(300), 0.01, 0.99)
    alone = evaluate(y, p, np.arange(300), draws=400)["auc"]
    tenfold = evaluate(np.repeat(y, 10), np.repeat(p, 10), np.repeat(np.arange(300), 10), draws=400)["auc"]
    naive = evaluate(np.repeat(y, 10), np.repeat(p, 10), np.arange(3_000), draws=400)["auc"]
    assert width(tenfold) == pytest.approx(width(alone), rel=0.15)
    assert width(naive) < width(alone) / 2
    assert alone.value == pytest.approx(roc_auc_score(y, p))


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(120):
        values = rng.normal(0, 1, 80)
        found = bootstrap(np.arange(80), lambda w, v=values: {"mean": (w @ v) / w.sum(1)}, draws=300, seed=trial)[
            "mean"
        ]
        covered += found.low <= 0 <= found.high  # type: ignore[operator]
    assert 104 <= covered <= 120


def test_an_estimate_reads_well() -> None:
    assert Estimate(0.74213, 0.7012, 0.7811).text() == "0.7421 [0.7012, 0.7811]"
    assert Estimate(None, None, None).text() == "not defined"


def margins_and_labels(n: int, rate: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    margins = rng.normal(np.log(rate), 1, n)
    return margins, (rng.random(n) < 1 / (1 + np.exp(-(0.6 * margins - 0.5)))).astype(float)


def test_few_positives_are_calibrated_by_platt_many_by_isotonic() -> None:
    few = fit_calibrator(*margins_and_labels(2_000, 0.1))
    assert few.kind == "platt"
    assert few.a == pytest.approx(0.6, abs=0.15)
    margins, labels = margins_and_labels(30_000, 0.1)
    many = fit_calibrator(margins, labels)
    assert many.kind == "isotonic"
    assert many.x == sorted(many.x)
    assert calibrate(many, margins).mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert 0 < min(many.y) < max(many.y) < 1


@pytest.mark.parametrize("n", [2_000, 30_000])
def test_training_and_serving_calibrate_alike(n: int) -> None:
    margins, labels = margins_and_labels(n, 0.1)
    calibrator = fit_calibrator(margins, labels)
    probe = np.linspace(-12, 12, 500)
    np.testing.assert_allclose(calibrate(calibrator, probe), serving_calibrate(calibrator, probe), rtol=0, atol=1e-12)


def test_calibration_needs_both_outcomes_and_survives_a_constant_margin() -> None:
    with pytest.raises(InvalidInput, match="both outcomes"):
        fit_calibrator(np.zeros(5), np.zeros(5))
    flat = fit_calibrator(np.zeros(40), np.array([1.0] * 10 + [0.0] * 30))
    assert flat == Calibrator(kind="platt", a=0.0, b=flat.b)
    assert calibrate(flat, np.zeros(1))[0] == pytest.approx(0.25, abs=0.03)


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low
