"""One pass at a time: what is scored when, what is stored with it, and what a restart or a denial leaves."""

import msgspec
import pytest
from vigie_contracts.events import MapChanged, MapMove, SegmentMoved
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.reads import WorkListRequest
from vigie_contracts.scores import ChurnScore, ScoreUnavailable
from vigie_scoring.deciding import replay

from tests.unit.scoring.scoring_world import RISKY, SAFE, START, World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.champion()
    return made


def said(world):
    return [(record.current.customer_id, type(record.current).__name__, record.is_update) for record in world.scores()]


def decisions(world, customer_id):
    with world.store.reading() as snapshot:
        return {channel: decision for (_, channel), decision in snapshot.decisions([customer_id], world.now_us).items()}


def test_a_change_is_scored_with_its_read_point_reasons_band_and_vector(world):
    world.known("a", RISKY)
    world.run()
    (record,) = world.scores()
    score = record.current
    assert isinstance(score, ChurnScore)
    assert (score.model_version, score.vector, score.read_point.pos) == ("1", list(RISKY), {0: 1})
    assert (score.read_point.t_us, score.scored_at_us) == (START, START)
    assert score.band == "CRITICAL"
    assert {reason.code for reason in score.reasons if reason.direction == "INCREASES_RISK"} >= {"activity", "service"}
    assert (record.previous, record.is_update) == (None, True)
    assert score.horizons == [(30, score.probability)]


def test_a_change_waits_until_our_own_tail_of_the_events_has_passed_its_cause(world):
    world.known("a", SAFE)
    world.run()
    world.changed("a", 3)
    assert world.consumer.step() is False
    world.event("b", days_ago=2)
    world.event("b", days_ago=2)
    world.run()
    assert [customer for customer, *_ in said(world)] == ["a", "a"]


def test_a_change_waits_until_the_state_has_passed_its_cause(world):
    world.known("a", SAFE)
    world.applied = 0
    world.run()
    assert world.scores() == []
    world.applied = 1
    world.run()
    assert said(world) == [("a", "ChurnScore", True)]


def test_a_restart_scores_nothing_twice_and_loses_nothing(world):
    world.known("a", SAFE)
    world.run()
    world.known("b", SAFE)
    world.store.close()
    world.start()
    world.run()
    assert [customer for customer, *_ in said(world)] == ["a", "b"]
    world.store.close()
    world.start()
    assert world.consumer.step() is False


def test_changes_of_one_customer_in_one_page_are_one_score(world):
    world.values["a"] = SAFE
    for _ in range(5):
        world.changed("a", world.event("a", days_ago=2))
    world.run()
    assert [record.current.read_point.pos for record in world.scores()] == [{0: 5}]


def test_a_cause_that_the_standing_score_already_covers_is_not_scored_again(world):
    world.values["a"] = SAFE
    first = world.event("a", days_ago=2)
    second = world.event("a", days_ago=2)
    world.applied = second
    world.changed("a", first)
    world.run()
    world.changed("a", second)
    world.run()
    assert len(world.scores()) == 1
    world.changed("a", None, why="sweep")
    world.run()
    assert len(world.scores()) == 2


def test_small_steps_are_stored_and_are_no_updates(world):
    for values in (SAFE, SAFE, RISKY, RISKY):
        world.known("a", values)
        world.run()
    assert said(world) == [("a", "ChurnScore", update) for update in (True, False, True, False)]
    assert world.scores()[3].previous == world.scores()[2].current


def test_why_there_is_no_score_is_said_once(world):
    for _ in range(2):
        world.values["new"] = SAFE
        world.changed("new", world.event("new"))
        world.run()
    (record,) = world.scores()
    assert (record.current.reason, record.is_update) == ("INSUFFICIENT_HISTORY", False)


def test_an_outcome_ends_the_score(world):
    world.known("a", SAFE)
    world.run()
    world.now_us += HOUR_US
    number = world.event("a", "account.closed", product="account")
    world.now_us += 1
    world.changed("a", number)
    world.run()
    last = world.scores()[-1]
    assert (last.current.reason, last.is_update) == ("ALREADY_CHURNED", True)
    assert isinstance(last.previous, ChurnScore)


def test_without_a_model_customers_are_known_and_nothing_is_said(tmp_path):
    world = World(tmp_path)
    world.known("a", SAFE)
    world.run()
    assert world.scores() == []
    with world.store.reading() as snapshot:
        page = snapshot.work_list(WorkListRequest(), "closure", START)
    assert [(row.customer_id, row.order_value) for row in page.rows] == [("a", None)]


def test_a_new_champion_rescores_everybody_once_in_pages(tmp_path):
    world = World(tmp_path, batch=10)
    for place in range(35):
        world.known(f"c{place:02}", SAFE)
    world.run()
    assert world.scores() == []
    world.champion("1")
    world.run()
    assert sorted(record.current.customer_id for record in world.scores()) == [f"c{place:02}" for place in range(35)]
    world.champion("2", seed=3)
    world.store.close()
    world.start()
    world.run()
    versions = [record.current.model_version for record in world.scores()]
    assert versions == ["1"] * 35 + ["2"] * 35
    assert world.consumer.step() is False


def test_who_waits_to_be_scored_and_has_a_change_too_is_scored_once(tmp_path):
    world = World(tmp_path, batch=3)
    for customer_id in ("a", "b", "c", "d"):
        world.known(customer_id, SAFE)
    world.run()
    with world.store.transaction() as tx:
        tx.enqueue(["c", "d", "a", "b"])
    world.champion()
    world.changed("b", world.event("b"))
    world.run()
    assert sorted(customer_id for customer_id, *_ in said(world)) == ["a", "b", "c", "d"]
    with world.store.reading() as snapshot:
        assert snapshot.pending(9) == []


def test_stale_features_hold_scoring_back_until_the_state_caught_up(world):
    world.known("a", SAFE)
    world.run()
    late = world.event("b", days_ago=2)
    world.system_seconds = 1.0
    world.changed("a", None, why="sweep")
    world.run()
    world.system_seconds = 62.0
    world.changed("a", None, why="sweep")
    before = len(world.scores())
    assert world.consumer.step() is False
    assert world.lag.is_stale()
    assert len(world.scores()) == before
    world.values["b"] = SAFE
    world.changed("b", late)
    world.run()
    world.system_seconds = 63.0
    assert world.consumer.step() is False
    assert not world.lag.is_stale()
    assert [customer for customer, *_ in said(world)][before:] == ["a", "b"]


def test_a_feature_service_that_stands_still_makes_scores_stale_without_any_work(world):
    world.known("a", SAFE)
    world.run()
    world.event("a")
    world.system_seconds = 1.0
    world.run()
    assert not world.lag.is_stale()
    world.system_seconds = 62.0
    assert world.consumer.step() is False
    assert world.lag.is_stale()


def test_a_sweep_that_stands_still_for_two_hours_holds_scoring_back(world):
    world.known("a", SAFE)
    world.run()
    scored = len(world.scores())
    world.swept_us = world.now_us
    world.now_us += 2 * HOUR_US + 1
    world.system_seconds += 2.0
    world.changed("a", None, why="sweep")
    assert world.consumer.step() is False
    assert len(world.scores()) == scored
    world.swept_us = world.now_us
    world.system_seconds += 2.0
    world.run()
    assert len(world.scores()) == scored + 1


# ---- consent --------------------------------------------------------------------------------------------------------


def test_a_denial_ends_score_decision_membership_and_work_row_in_its_own_transaction(world):
    world.propensity()
    world.known("a", RISKY)
    world.run()
    assert world.segment_log() == [("a", "at_risk_and_complaining", True)]
    assert set(decisions(world, "a")) == {"IN_APP", "EMAIL"}
    world.applied = 0  # the state is behind, so nothing could be scored
    world.consent("a", "profiling", "denied")
    world.consumer.step()
    last = world.scores()[-1]
    assert (last.current.reason, last.is_update, last.previous) == ("CONSENT_WITHDRAWN", True, None)
    assert world.segment_log()[-1] == ("a", "at_risk_and_complaining", False)
    assert decisions(world, "a") == {}
    with world.store.reading() as snapshot:
        page = snapshot.work_list(WorkListRequest(), "closure", START)
        assert snapshot.standing(["a"], "closure")["a"].last_update == last.current
    assert [(row.customer_id, row.order_value) for row in page.rows] == [("a", None)]


def test_nothing_is_appended_for_a_customer_who_denies_until_the_denial_is_taken_back(world):
    world.known("a", RISKY)
    world.consent("a", "profiling", "denied")
    world.run()
    for _ in range(3):
        world.known("a", RISKY)
        world.run()
    assert [record.current.reason for record in world.scores()] == ["CONSENT_WITHDRAWN"]
    world.now_us += 1
    world.consent("a", "profiling", "granted")
    world.run()
    last = world.scores()[-1]
    assert isinstance(last.current, ChurnScore)
    assert isinstance(last.previous, ScoreUnavailable | None)
    assert last.is_update


def test_a_marketing_denial_ends_offers_and_keeps_the_score(world):
    world.propensity()
    world.known("a", RISKY)
    world.run()
    world.consent("a", "marketing", "denied")
    world.run()
    assert decisions(world, "a") == {}
    assert isinstance(world.scores()[-1].current, ChurnScore)


# ---- decisions ------------------------------------------------------------------------------------------------------


def test_a_decision_stands_until_something_changes_and_is_made_anew_when_it_expired(world):
    world.propensity()
    world.known("a", SAFE)
    world.run()
    first = decisions(world, "a")["IN_APP"]
    assert {verdict.offer: verdict.rejected_by for verdict in first.verdicts} == {
        "savings": None,
        "card": None,
        "waiver": "NOT_ELIGIBLE",
    }
    world.now_us += HOUR_US
    world.known("a", SAFE)
    world.run()
    assert decisions(world, "a")["IN_APP"] == first
    world.now_us = first.expires_at_us
    assert decisions(world, "a") == {}
    world.run()
    second = decisions(world, "a")["IN_APP"]
    assert second.decided_at_us == first.expires_at_us
    assert second.decision_id != first.decision_id


def test_an_exposure_a_purchase_and_a_changed_score_make_a_new_decision(world):
    world.propensity()
    world.known("a", SAFE)
    world.run()
    for name in ("offer.shown", "offer.shown"):
        world.changed("a", world.event("a", name, days_ago=1, offer="card", channel="IN_APP"))
        world.run()
    assert decisions(world, "a")["IN_APP"].unavailable == "CONTACT_LIMIT_REACHED"
    world.now_us += 8 * DAY_US
    world.changed("a", world.event("a", "account.opened", days_ago=1, product="card"))
    world.run()
    now = decisions(world, "a")["IN_APP"]
    assert {verdict.offer: verdict.rejected_by for verdict in now.verdicts}["card"] == "ALREADY_OWNED"
    world.known("a", RISKY)
    world.run()
    assert "waiver" in [row.offer for row in decisions(world, "a")["IN_APP"].recommendations]


def test_every_decision_ever_made_is_replayed_bit_for_bit(world):
    models = {"1": world.propensity("1"), "2": world.propensity("2", seed=5)}
    world.serving = type(world.serving)(
        {key: model for key, model in world.serving.models.items() if model is not models["2"]}
        | {("vigie-next-best-offer", "champion"): models["1"]}
    )
    for place in range(12):
        world.known(f"c{place}", (place, 2 * place, place % 3, place * 20))
    world.run()
    world.propensity("2", seed=5)
    world.now_us += DAY_US
    world.run()
    with world.store.reading() as snapshot:
        ids = snapshot.decision_ids()
        assert len(ids) == 48
        for decision_id in ids:
            stored, situation = snapshot.decision(decision_id)
            again = replay(stored, situation, snapshot.catalogue, models.__getitem__)
            assert msgspec.json.encode(again) == msgspec.json.encode(stored)
        explored = [snapshot.decision(decision_id)[0].explored for decision_id in ids]
    assert {True, False} == set(explored)


# ---- merges and memberships -----------------------------------------------------------------------------------------


def test_a_merge_moves_facts_to_the_survivor_and_forgets_the_other(world):
    world.known("a", SAFE)
    world.known("b", RISKY)
    world.run()
    move = MapMove(member_id="b", from_customer_id="b", to_customer_id="a")
    number = world.record(MapChanged(moves=[move], known_at_us=START, because="user id"))
    world.changed("a", number, why="map")
    world.changed("b", number, why="map")
    world.run()
    with world.store.reading() as snapshot:
        page = snapshot.work_list(WorkListRequest(), "closure", START)
        assert snapshot.standing(["a", "b"], "closure").keys() == {"a"}
    assert [row.customer_id for row in page.rows] == ["a"]
    assert world.segment_log()[-1] == ("b", "at_risk_and_complaining", False)


def test_memberships_of_features_filter_the_work_list(world):
    world.known("a", SAFE)
    world.known("b", SAFE)
    move = SegmentMoved(customer_id="b", key="active", version=1, entered=True, at_us=START)
    world.feature_segments.append(msgspec.json.encode(move))
    world.run()
    with world.store.reading() as snapshot:
        page = snapshot.work_list(WorkListRequest(segment_keys=["active"], with_total=True), "closure", START)
    assert ([row.customer_id for row in page.rows], page.total) == (["b"], 1)


def test_the_change_over_seven_days_compares_with_the_last_score_at_least_that_old(world):
    world.known("a", SAFE)
    world.run()
    first = world.scores()[0].current.probability
    world.now_us += 6 * DAY_US
    world.known("a", RISKY)
    world.run()
    with world.store.reading() as snapshot:
        assert snapshot.standing(["a"], "closure")["a"].change_7_days is None
    world.now_us += DAY_US
    world.known("a", RISKY)
    world.run()
    with world.store.reading() as snapshot:
        change = snapshot.standing(["a"], "closure")["a"].change_7_days
    assert change == world.scores()[-1].current.probability - first
