"""Scoring on a real MLflow server: the aliases' life, the process from events to offers, kills at every failpoint."""

import signal
import time
from collections import Counter

import httpx
import msgspec
import pytest
from mlflow import MlflowClient
from vigie_contracts.events import ConsentStated
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.reads import (
    DecisionsAnswer,
    DecisionsRequest,
    MembershipsAnswer,
    MembershipsRequest,
    OffersAnswer,
    ScoreHistoryAnswer,
    ScoreHistoryRequest,
    ScoresAnswer,
    ScoresRequest,
    SegmentMembersRequest,
    WorkListAnswer,
    WorkListRequest,
)
from vigie_contracts.scores import ChurnDefinition, ScoreUnavailable
from vigie_kit import installation
from vigie_scoring.champions import Champions
from vigie_scoring.clients import MlflowRegistry
from vigie_scoring.failpoints import FAILPOINTS
from vigie_scoring.requests import RefreshAnswer, RefreshRequest

from tests.integration.scoring_fixtures import (
    CHURN_MODEL,
    REPO,
    TABLE,
    Feeder,
    Registry,
    Service,
    event,
    scores_of,
)
from tests.servers import mlflow_server, until

DEFINITIONS = ChurnDefinition.load_all(REPO)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def server(shared_server):
    """The address of an MLflow server with an empty registry."""
    client = MlflowClient(shared_server, shared_server)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return shared_server


def champions(address, folder, *, gated=True):
    return Champions(DEFINITIONS, lambda: TABLE, MlflowRegistry(address), folder / "models", gated=gated)


def row(found, name, alias="champion"):
    (one,) = [row for row in found.rows() if (row.name, row.alias) == (name, alias)]
    return one


def test_the_life_of_an_alias(server, tmp_path):
    registry = Registry(server, tmp_path)
    found = champions(server, tmp_path)
    assert found.poll() is False
    assert row(found, CHURN_MODEL).problem == f"no version of {CHURN_MODEL} has the alias champion"

    first = registry.churn()
    registry.promote(CHURN_MODEL, first)
    assert found.poll() is True
    assert (row(found, CHURN_MODEL).version, row(found, CHURN_MODEL).problem) == (first, None)
    assert found.poll() is False

    by_hand = registry.churn(seed=1)
    registry.promote(CHURN_MODEL, by_hand, gate=None)
    assert found.poll() is False
    assert row(found, CHURN_MODEL).version == first
    assert f"`vigie promote {CHURN_MODEL} --version {by_hand}`" in row(found, CHURN_MODEL).problem
    opened = champions(server, tmp_path / "open", gated=False)
    opened.poll()
    assert opened.serving.champion(CHURN_MODEL).ungated
    assert row(opened, CHURN_MODEL).problem.startswith("ungated")
    registry.promote(CHURN_MODEL, by_hand, gate="overridden")
    assert found.poll() is True
    assert row(found, CHURN_MODEL).version == by_hand
    assert found.previous[CHURN_MODEL, "champion"].version == first
    assert opened.poll() is True
    assert row(opened, CHURN_MODEL).problem is None

    wrong = registry.churn(spec_hash="f" * 16)
    registry.promote(CHURN_MODEL, wrong)
    other_gap = registry.churn(gap_days=3)
    found.poll()
    assert row(found, CHURN_MODEL).version == by_hand
    assert f"version {wrong}: its spec hash" in row(found, CHURN_MODEL).problem
    registry.promote(CHURN_MODEL, other_gap)
    found.poll()
    assert "another gap or horizon" in row(found, CHURN_MODEL).problem

    registry.promote(CHURN_MODEL, first)
    found.poll()
    assert (row(found, CHURN_MODEL).version, row(found, CHURN_MODEL).problem) == (first, None)

    registry.promote(CHURN_MODEL, by_hand, alias="shadow", gate=None)
    found.poll()
    assert found.serving.shadow(CHURN_MODEL).version == by_hand
    registry.promote(PROPENSITY_MODEL, registry.propensity())
    found.poll()
    assert row(found, PROPENSITY_MODEL).problem is None

    registry.client.delete_registered_model_alias(CHURN_MODEL, "champion")
    assert found.poll() is True
    assert found.serving.champion(CHURN_MODEL) is None
    registry.promote(CHURN_MODEL, first)
    found.poll()

    down = champions("http://127.0.0.1:9", tmp_path)
    down.restore()
    assert row(down, CHURN_MODEL).version == first
    assert down.serving.shadow(CHURN_MODEL).version == by_hand
    assert down.poll() is False
    assert row(down, CHURN_MODEL).version == first
    assert "does not answer" in down.registry_problem


# ---- the service as a process ---------------------------------------------------------------------------------------


def now_us():
    return time.time_ns() // 1000


def history(member_id, *, logins, complaints=0):
    """Two days of history of a customer who may be scored."""
    start = now_us() - 2 * DAY_US
    login = [event(member_id, "app.logged_in", start + step * HOUR_US) for step in range(logins)]
    return login + [event(member_id, "complaint.filed", start + step * 1_000_000) for step in range(complaints)]


@pytest.fixture
def data(tmp_path):
    installation.create(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def registry(server, tmp_path):
    made = Registry(server, tmp_path)
    for name, version in ((CHURN_MODEL, made.churn()), (PROPENSITY_MODEL, made.propensity())):
        made.promote(name, version)
    return made


def champion_of(registry, name=CHURN_MODEL):
    return str(registry.client.get_registered_model(name).aliases["champion"])


def test_from_events_to_scores_offers_and_a_swap_while_scoring(server, registry, data):
    feeder = Feeder(data)
    service = Service(data, server)
    service.start()
    try:
        assert service.client.get("/internal/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        first = champion_of(registry)
        until("the champion", lambda: service.get("/internal/models")["models"][0]["version"] == first)
        for place in range(30):
            feeder.feed(history(f"c{place:02}", logins=place % 10, complaints=2 if place % 10 == 0 else 1))
        until("30 scores", lambda: len(scores_of(data)) >= 30)
        thirty = [f"c{place:02}" for place in range(30)]
        assert sorted(record.current.customer_id for record in scores_of(data)) == thirty

        asked = ScoresRequest(customer_ids=["c00", "c09", "nobody"])
        answer = service.post("/internal/scores", asked, ScoresAnswer).scores
        assert [type(one.assessment).__name__ for one in answer] == ["ChurnScore", "ChurnScore", "ScoreUnavailable"]
        assert answer[2].assessment.reason == "INSUFFICIENT_HISTORY"
        worst, best = answer[0].assessment, answer[1].assessment
        assert worst.probability > best.probability
        assert worst.vector == [0, 0, 2, None]
        assert {"activity", "service"} <= {reason.code for reason in worst.reasons}

        page = service.post("/internal/work-list", WorkListRequest(limit=5, with_total=True), WorkListAnswer)
        assert (page.total, page.has_next, len(page.rows)) == (30, True, 5)
        values = [row.order_value for row in page.rows]
        assert values == sorted(values, reverse=True)
        assert page.rows[0].order_value == max(record.current.probability for record in scores_of(data))

        asked = DecisionsRequest(customer_ids=["c09"])
        (decision,) = until(
            "a decision by the propensity model, which may have come after the scores",
            lambda: [
                found
                for found in service.post("/internal/decisions", asked, DecisionsAnswer).decisions
                if found.unavailable is None
            ],
        )
        assert decision.channel == "IN_APP"
        assert [row.code for row in service_offers(service)] == ["savings", "card", "waiver"]
        assert decision.model_version == champion_of(registry, PROPENSITY_MODEL)
        segments = service.get("/internal/segments")["segments"]
        assert [row["key"] for row in segments] == ["at_risk_and_complaining"]
        members = service.post(
            "/internal/segment-members", SegmentMembersRequest(key="at_risk_and_complaining"), MembershipsAnswer
        )
        assert segments[0]["size"] == len(members.memberships) >= 1

        second = registry.churn(seed=4)
        registry.promote(CHURN_MODEL, second)
        for place in range(30, 40):
            feeder.feed(history(f"c{place:02}", logins=3))
            got = service.post("/internal/scores", ScoresRequest(customer_ids=["c00"]), ScoresAnswer)
            assert got.scores[0].assessment.model_version in (first, second)
        everyone = [f"c{place:02}" for place in range(40)]

        def all_second():
            got = service.post("/internal/scores", ScoresRequest(customer_ids=everyone), ScoresAnswer).scores
            return all(getattr(one.assessment, "model_version", None) == second for one in got)

        until("everybody scored by the new champion", all_second)
        status = service.get("/internal/status")
        assert status["problems"] == []
        assert status["rescoring"][CHURN_MODEL] == {"version": second, "after": None}
        said = Counter((record.current.customer_id, record.current.model_version) for record in scores_of(data))
        assert set(said.values()) == {1}

        _denial(service, feeder, data)
        _refresh(service, data)
    finally:
        assert service.stop() == 0


def service_offers(service):
    return msgspec.convert(service.get("/internal/offers"), OffersAnswer).offers


def _denial(service, feeder, data):
    stated = ConsentStated(
        member_id="c00",
        purpose="profiling",
        state="denied",
        effective_at_us=now_us(),
        known_at_us=now_us(),
        source_id="tests",
        event_id="denial",
    )
    feeder.log(stated)

    def withdrawn():
        got = service.post("/internal/scores", ScoresRequest(customer_ids=["c00"]), ScoresAnswer).scores[0].assessment
        return isinstance(got, ScoreUnavailable) and got.reason == "CONSENT_WITHDRAWN"

    until("the denial", withdrawn)
    stored = len(scores_of(data))
    assert scores_of(data)[-1].current.reason == "CONSENT_WITHDRAWN"
    feeder.feed([event("c00", "app.logged_in", now_us()), event("c01", "app.logged_in", now_us())])
    until("the other customer's score", lambda: len(scores_of(data)) == stored + 1)
    assert scores_of(data)[-1].current.customer_id == "c01"
    past = service.post("/internal/score-history", ScoreHistoryRequest(customer_id="c00"), ScoreHistoryAnswer)
    assert past.scores == []
    asked = DecisionsRequest(customer_ids=["c00"])
    (decision,) = service.post("/internal/decisions", asked, DecisionsAnswer).decisions
    assert (decision.unavailable, decision.recommendations) == ("CONSENT_WITHDRAWN", [])
    page = service.post("/internal/work-list", WorkListRequest(probability_min=0.0, limit=1000), WorkListAnswer)
    assert "c00" not in [row.customer_id for row in page.rows]
    mine = service.post("/internal/memberships", MembershipsRequest(customer_ids=["c00"]), MembershipsAnswer)
    assert mine.memberships == []


def _refresh(service, data):
    before = len(scores_of(data))
    for _ in range(2):
        asked = RefreshRequest(customer_id="c02", idempotency_key="once")
        service.post("/internal/refresh", asked, RefreshAnswer)
    until("the refreshed score", lambda: len(scores_of(data)) == before + 1)
    assert asked.customer_id == scores_of(data)[-1].current.customer_id
    past = service.post("/internal/score-history", ScoreHistoryRequest(customer_id="c02"), ScoreHistoryAnswer)
    assert len(past.scores) == 3
    assert [row.number for row in past.scores] == sorted((row.number for row in past.scores), reverse=True)


KILLED_WHILE_SCORING = (
    "scoring.before_rename",
    "scoring.after_rename",
    "scoring.before_events_commit",
    "scoring.after_events_commit",
    "scoring.before_append",
    "scoring.after_append",
    "scoring.before_commit",
    "scoring.after_commit:2",
)


def test_killed_at_every_failpoint_it_scores_each_cause_once(server, registry, data):
    tried = {name.split(":")[0] for name in KILLED_WHILE_SCORING} | {"scoring.before_ack", "scoring.after_ack"}
    assert tried == set(FAILPOINTS)
    feeder = Feeder(data)
    service = Service(data, server, VIGIE_SCORING_BATCH="8")
    fed = []
    for step, failpoint in enumerate(KILLED_WHILE_SCORING):
        customers = [f"c{step}{place:02}" for place in range(12)]
        feeder.feed([one for customer in customers for one in history(customer, logins=1 + step)])
        fed += customers
        service.start(failpoint)
        _killed(service)
    service.start("scoring.before_ack")
    until("ready", service.is_ready)
    until("all scores", lambda: len(scores_of(data)) >= len(fed))
    until("no lag", lambda: set(service.get("/internal/status")["lag"].values()) == {0})
    assert Counter(record.current.customer_id for record in scores_of(data)) == Counter(fed)
    got = service.post("/internal/scores", ScoresRequest(customer_ids=fed), ScoresAnswer).scores
    said = {record.current.customer_id: record.current for record in scores_of(data)}
    assert [one.assessment for one in got] == [said[customer_id] for customer_id in fed]
    _cut_off_refresh(service, data, len(fed))


def _killed(service):
    until("the kill", service.process.ended)
    assert service.process.child.returncode == -signal.SIGKILL


def _cut_off_refresh(service, data, stored):
    """A refresh cut off before its work is new when repeated; cut off after it, it had been done."""
    asked = RefreshRequest(customer_id="c000", idempotency_key="k")
    for failpoint in ("scoring.after_ack", ""):
        with pytest.raises(httpx.HTTPError):
            service.post("/internal/refresh", asked, RefreshAnswer)
        _killed(service)
        service.start(failpoint)
        until("ready", service.is_ready)
    try:
        assert service.post("/internal/refresh", asked, RefreshAnswer).repeated is True
        until("the refreshed score", lambda: len(scores_of(data)) > stored)
        until("nothing pending", lambda: service.get("/internal/status")["counts"]["pending"] == 0)
        assert len(scores_of(data)) == stored + 1
    finally:
        assert service.stop() == 0


def test_a_wrong_setting_ends_the_process_with_a_sentence(data):
    service = Service(data, "http://127.0.0.1:9", VIGIE_PROMOTION="sometimes")
    service.start("none")
    until("the end", service.process.ended)
    assert service.process.child.returncode == 2
    assert "VIGIE_PROMOTION is `gated` or `open`, not 'sometimes'" in service.process.log.read_text()
