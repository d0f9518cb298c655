"""Leak alarms on small matrices, propensity rows, evidence files, and the ledger that nothing changes."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError
from vigie_contracts.errors import IncompatibleData
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_kit.database import transaction
from vigie_training import evidence as papers
from vigie_training import leak, store
from vigie_training.bootstrap import Estimate
from vigie_training.evidence import TestSlice
from vigie_training.population import archive_views
from vigie_training.propensity import shown_offers
from vigie_training.snapshots import LabelledRows
from vigie_training.store import Ledger, LedgerRow
from vigie_training.train import boost, fit, fit_out_of_fold, importance, margins

from tests.integration.training_world import OFFERS, START_US, act, denial, merge, write_archive
from tests.unit.training.test_gate import evidence


def labelled(n: int, labels: np.ndarray, a_customer: int = 4) -> LabelledRows:
    return LabelledRows(
        customer_ids=np.array([f"c{row // a_customer}" for row in range(n)], dtype=object),
        as_of_us=np.arange(n, dtype=np.int64) * DAY_US,
        labels=labels.astype(np.int8),
    )


def test_a_feature_that_knows_the_outcome_rings_whichever_way_it_points() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 400).astype(float)
    noise, knows = rng.random(400), 5 - 5 * y + rng.random(400)
    found = leak.single_features(np.column_stack([noise, knows]), y, ["noise", "knows"])
    assert found[0] == ("knows", 1.0)
    assert found[1][1] < 0.6
    null_knows = np.where(y == 1, np.nan, 3.0)
    assert leak.single_features(null_knows[:, None], y, ["null"])[0] == ("null", 1.0)


def test_alarms_say_what_rings() -> None:
    quiet = Estimate(0.01, -0.02, 0.04)
    assert leak.alarms(("login_recency", 0.95), quiet, 200, 0) == []
    assert leak.alarms(("x", 0.951), quiet, 200, 0) == ["x alone reaches AUC 0.951: it knows the outcome"]
    assert "time shuffled" in leak.alarms(("x", 0.6), Estimate(0.2, 0.051, 0.3), 200, 0)[0]
    assert leak.alarms(("x", 0.6), Estimate(0.2, 0.05, 0.3), 200, 0) == []
    assert "3 values of 200 rows differ" in leak.alarms(("x", 0.6), quiet, 200, 3)[0]
    assert "0 values of 0 rows" in leak.alarms(("x", 0.6), quiet, 0, 0)[0]


def test_shuffled_time_gains_where_a_feature_means_the_outcome_only_later() -> None:
    rng = np.random.default_rng(3)
    n = 1_600
    y = rng.integers(0, 2, n).astype(float)
    rows, test = labelled(n, y), np.arange(n) >= 800
    turned = np.where(test, y, 1 - y) + rng.normal(0, 0.8, n)
    steady = y + rng.normal(0, 0.8, n)
    for column, gains in ((turned, True), (steady, False)):
        matrix = column[:, None]
        booster = boost(matrix[~test], y[~test], 30)
        gain = leak.shuffled_time_gain(matrix, rows, test, margins(booster, matrix[test]), 30)
        assert (gain.low is not None and gain.low > leak.SHUFFLED_TIME_GAIN) is gains


def test_training_twice_gives_the_same_trees() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (900, 6))
    x[::7, 2] = np.nan
    y = (rng.random(900) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
    one, two = (fit(x[:600], y[:600], x[600:], y[600:]) for _ in range(2))
    np.testing.assert_array_equal(one.probabilities(x), two.probabilities(x))
    assert one.booster.num_boosted_rounds() <= 300
    assert importance(one.booster, x, list("abcdef"))[0][0] == "a"


def test_out_of_fold_calibration_does_not_believe_the_training_rows() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(0, 1, (800, 20)), (rng.random(800) < 0.2).astype(float)
    model = fit_out_of_fold(x, y, np.arange(800) // 2)
    found = model.probabilities(rng.normal(0, 1, (2_000, 20)))
    assert found.mean() == pytest.approx(0.2, abs=0.04)
    assert found.std() < 0.05


def test_an_offer_s_own_rate_is_learned_before_the_customer() -> None:
    rng = np.random.default_rng(7)
    offer = rng.integers(0, 3, 1_500)
    x = np.hstack([rng.normal(0, 1, (1_500, 30)), np.eye(3)[offer]])
    y = (rng.random(1_500) < np.array([0.05, 0.2, 0.5])[offer]).astype(float)
    model = fit(x[:1_000], y[:1_000], x[1_000:], y[1_000:], offers=3)
    rates = [model.probabilities(x[offer == number]).mean() for number in range(3)]
    assert rates == pytest.approx([y[offer == number].mean() for number in range(3)], abs=0.05)


def test_shown_offers_are_joined_with_the_answer_to_the_same_recommendation(tmp_path: Path) -> None:
    t = START_US
    records = [
        act("a", "offer.shown", t, offer="premium_card", recommendation_id="r1"),
        act("a", "offer.accepted", t + 14 * DAY_US - 1, offer="premium_card", recommendation_id="r1"),
        act("a", "offer.shown", t + 1, offer="premium_card", recommendation_id="r2"),
        act("b", "offer.shown", t + 2, offer="fee_waiver", recommendation_id="r3"),
        act("b", "offer.accepted", t + 2 + 14 * DAY_US, offer="fee_waiver", recommendation_id="r3"),
        act("c", "offer.shown", t + 3, offer="fee_waiver"),
        act("c", "offer.accepted", t + 3 + HOUR_US, offer="fee_waiver"),
        act("d", "offer.shown", t + 4, offer="gone", recommendation_id="r4"),
        act("e", "offer.shown", t + 5, offer="fee_waiver", recommendation_id="r5"),
        denial("e", t + DAY_US),
        act("anon", "offer.shown", t + 6, offer="fee_waiver", recommendation_id="r6"),
        merge("anon", "f", t + HOUR_US),
        act("f", "offer.accepted", t + 2 * HOUR_US, offer="fee_waiver", recommendation_id="r6"),
        act("a", "offer.shown", t + 20 * DAY_US, offer="premium_card", recommendation_id="r7"),
        act("a", "app.logged_in", t + 30 * DAY_US),
    ]
    write_archive(tmp_path, records)
    with archive_views(tmp_path / "archive") as db:
        rows, excluded = shown_offers(db, OFFERS, t + 60 * DAY_US)
    found = list(zip(rows.customer_ids, (rows.as_of_us - t).tolist(), rows.labels.tolist(), strict=True))
    assert found == [("a", 0, 1), ("a", 1, 0), ("b", 2, 0), ("c", 3, 1), ("f", 6, 1)]
    assert list(excluded.values()) == [1, 1, 1]


def test_evidence_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = labelled(4, np.array([0, 1, 0, 1]))
    vectors = np.array([[1.0, np.nan], [2.0**50, 3], [-1, 0], [np.nan, 4]])
    test = TestSlice(rows, np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.5), vectors)
    kept = papers.Evidence(**{name: getattr(evidence(), name) for name in papers.Evidence.__struct_fields__})
    stored = papers.msgspec.structs.replace(kept, stored=[("login_count_7d", "aa"), ("login_recency", "bb")])
    papers.write(tmp_path, stored, test)
    back, again = papers.read(tmp_path)
    assert back == stored
    np.testing.assert_array_equal(again.vectors, vectors)
    assert again.rows.customer_ids.tolist() == rows.customer_ids.tolist()
    assert again.probabilities.tolist() == [0.1, 0.2, 0.3, 0.4]
    (tmp_path / papers.EVIDENCE_FILE).write_text("{")
    with pytest.raises(IncompatibleData, match="train again"):
        papers.read(tmp_path)


def test_the_ledger_keeps_everything_and_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    row = LedgerRow(
        at_us=1,
        who="ada",
        name="m",
        action="promote",
        from_version=None,
        to_version="1",
        verdict="held",
        evidence={"a": 1},
    )
    with transaction(ledger.engine) as conn:
        store.write(conn, row)
    ledger.close()
    again = Ledger(tmp_path)
    assert again.rows("m") == [store.LedgerRow(**{**{f: getattr(row, f) for f in row.__struct_fields__}, "number": 1})]
    assert again.rows("other") == []
    for statement in ("UPDATE promotions SET who = 'eve'", "DELETE FROM promotions"):
        with pytest.raises(IntegrityError, match="the promotion ledger is not"), transaction(again.engine) as conn:
            conn.exec_driver_sql(statement)
    assert [found.who for found in again.rows()] == ["ada"]
    again.close()
