"""Several definitions at once: who is eligible for each, what those without a model cost, and a log read again."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.events import Event, MapChanged, MapMove
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.scores import Attrition, ChurnDefinition
from vigie_scoring import consumer
from vigie_scoring.champions import Serving
from vigie_scoring.domain import NO_TRAIL, CustomerFacts, ineligible
from vigie_scoring.store import Rescoring, Store
from vigie_scoring.trails import TrailReader
from vigie_training.fates import fates
from vigie_training.population import NEVER
from vigie_training.snapshots import Snapshots

from tests.integration.training_world import event_tables
from tests.unit.scoring.scoring_world import ATTRITION, CLOSURE, INACTIVITY, SAFE, START, World

THREE = (CLOSURE, INACTIVITY, ATTRITION)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, definitions=THREE)
    made.champion()
    return made


def said(world: World, definition: ChurnDefinition, customer_id: str | None = None) -> list[str]:
    """What was said of a definition: a customer's name with `score`, or with the reason for none."""
    return [
        f"{record.current.customer_id} {getattr(record.current, 'reason', 'score')}"
        for record in world.scores()
        if record.current.definition == definition.key and customer_id in (None, record.current.customer_id)
    ]


def paid(world: World, who: str, *amounts: int) -> None:
    """A salary in the middle of each period of ten days, the latest last."""
    for number, amount in enumerate(reversed(amounts)):
        world.event(who, "salary.received", days_ago=5 + 10 * number, amount=amount, source="work")


def test_definitions_without_a_model_leave_no_trace_in_what_the_primary_says(tmp_path: Path) -> None:
    logs = []
    for definitions in ((CLOSURE,), THREE):
        folder = tmp_path / str(len(definitions))
        folder.mkdir()
        world = World(folder, definitions=definitions)
        world.champion()
        world.values["new"] = SAFE
        world.changed("new", world.event("new"))
        world.known("a", SAFE)
        first, second = world.event("a"), world.event("a")
        world.changed("a", second)
        world.run()
        world.changed("a", first)
        world.changed("a", second)
        world.run()
        logs.append(world.scores())
    assert len(logs[0]) == 2
    assert logs[0] == logs[1]


def test_how_far_rescoring_is_names_a_further_definition_once_it_has_a_model(world: World) -> None:
    world.known("a", SAFE)
    world.run()
    assert set(world.consumer.rescoring()) == {CLOSURE.model_name, PROPENSITY_MODEL}
    world.champion(definition=INACTIVITY)
    assert world.consumer.rescoring()[INACTIVITY.model_name] == Rescoring(None, None)
    world.run()
    assert world.consumer.rescoring()[INACTIVITY.model_name] == Rescoring("1", None)


def test_only_who_acted_within_the_horizon_is_scored_for_inactivity(world: World) -> None:
    world.champion(definition=INACTIVITY)
    for who, days_ago in (("busy", 29), ("silent", 31)):
        world.values[who] = SAFE
        world.event(who, days_ago=days_ago)
        world.changed(who, world.event(who, "fee.charged"))
    world.run()
    assert said(world, INACTIVITY) == ["busy score", "silent ALREADY_CHURNED"]
    world.changed("silent", world.event("silent", "complaint.filed"))
    world.now_us += 2 * DAY_US
    world.changed("busy", None, why="sweep")
    world.run()
    assert sorted(said(world, INACTIVITY)[2:]) == ["busy ALREADY_CHURNED", "silent score"]


def test_only_who_has_an_inflow_to_lose_is_scored_for_attrition(world: World) -> None:
    world.champion(definition=ATTRITION)
    for who, amounts in (("paid", (200, 250, 90)), ("drained", (200, 250, 70)), ("poor", (50, 50, 50)), ("none", ())):
        world.values[who] = SAFE
        world.event(who, days_ago=60)
        paid(world, who, *amounts)
        world.event(who, "salary.received", days_ago=2, amount=9_000, source="a friend")
        world.changed(who, world.event(who))
    world.run()
    assert said(world, ATTRITION) == [
        "paid score", "drained ALREADY_CHURNED", "poor NOT_ELIGIBLE", "none NOT_ELIGIBLE",
    ]  # fmt: skip


def test_a_level_stands_until_the_next_one(tmp_path: Path) -> None:
    assert ATTRITION.attrition is not None
    level = msgspec.structs.replace(ATTRITION, attrition=msgspec.structs.replace(ATTRITION.attrition, measure="last"))
    world = World(tmp_path, definitions=(CLOSURE, level))
    world.champion(definition=level)
    for who, days_ago, amount in (("old", 35, 500), ("older", 41, 500), ("fell", 35, 500), ("fell", 1, 100)):
        world.values[who] = SAFE
        world.event(who, days_ago=60)
        world.event(who, "salary.received", days_ago=days_ago, amount=amount, source="work")
        world.changed(who, world.event(who))
    world.run()
    assert said(world, level) == ["old score", "older NOT_ELIGIBLE", "fell ALREADY_CHURNED"]


def test_members_of_a_customer_share_acts_and_amounts(world: World) -> None:
    world.champion(definition=INACTIVITY)
    world.champion(definition=ATTRITION)
    for who, amounts in (("one", (200, 250, 0)), ("two", (0, 0, 90))):
        world.values[who] = SAFE
        world.event(who, days_ago=60)
        paid(world, who, *amounts)
    world.event("two", days_ago=1)
    move = MapMove(member_id="two", from_customer_id="two", to_customer_id="one")
    world.changed("one", world.record(MapChanged(moves=[move], known_at_us=START, because="user id")), why="map")
    world.run()
    assert said(world, INACTIVITY, "one")[-1:] == ["one score"]
    assert said(world, ATTRITION, "one")[-1:] == ["one score"]


def test_a_definition_that_is_declared_later_reads_the_log_again_before_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "EVENTS_PAGE", 1)
    world = World(tmp_path)
    world.champion()
    for who in ("busy", "silent"):
        world.values[who] = SAFE
        world.event(who, days_ago=40)
        world.changed(who, world.event(who, "fee.charged"))
    world.changed("busy", world.event("busy", days_ago=3))
    world.run()
    world.store.close()

    world.definitions = list(THREE)
    world.start()
    world.champion(definition=INACTIVITY)
    world.changed("busy", None, why="sweep")
    world.run()
    assert sorted(said(world, INACTIVITY)) == ["busy score", "silent ALREADY_CHURNED"]
    world.store.close()

    changed = msgspec.structs.replace(INACTIVITY, activity=("fee.charged",))
    world.definitions = [CLOSURE, changed]
    world.start()
    world.run()
    assert sorted(said(world, INACTIVITY)[2:]) == ["busy score", "silent score"]
    before = len(world.scores())
    world.store.close()
    world.start()
    world.run()
    assert len(world.scores()) == before


def test_scores_end_where_a_model_is_taken_back(world: World) -> None:
    world.champion(definition=INACTIVITY)
    world.known("a", SAFE)
    world.run()
    world.withdrawn(INACTIVITY)
    world.changed("a", world.event("a"))
    world.run()
    assert said(world, INACTIVITY) == ["a score", "a MODEL_UNAVAILABLE"]
    assert said(world, CLOSURE) == ["a score", "a score"]


def test_no_score_ends_while_the_models_that_served_before_a_start_are_loaded(world: World) -> None:
    world.known("a", SAFE)
    world.run()
    world.store.close()
    loaded, world.serving, world.restored = world.serving, Serving(), False
    world.start()
    world.changed("a", world.event("a"))
    world.run()
    assert said(world, CLOSURE) == ["a score"]
    world.serving, world.restored = loaded, True
    world.run()
    assert said(world, CLOSURE) == ["a score", "a score"]


def test_who_withdraws_consent_hears_it_of_what_was_said_only(world: World) -> None:
    world.champion(definition=INACTIVITY)
    world.known("a", SAFE)
    world.run()
    world.consent("a", "profiling", "denied")
    world.run()
    assert said(world, INACTIVITY) == ["a score", "a CONSENT_WITHDRAWN"]
    assert said(world, ATTRITION) == []


told = st.lists(
    st.builds(
        lambda number, who, hours, name, amount, source: Event(
            member_id=who,
            event_id=f"{number}",
            source_id="s",
            kind="track",
            name=name,
            catalogued=True,
            received_at_us=START - hours * HOUR_US,
            known_at_us=START - hours * HOUR_US,
            timestamp_us=START - hours * HOUR_US,
            effective_at_us=START - hours * HOUR_US,
            properties={"source": source},
            measures={"amount": amount},
        ),
        number=st.integers(0, 10**9),
        who=st.sampled_from(["a", "b"]),
        hours=st.integers(1, 60 * 24),
        name=st.sampled_from(["app.logged_in", "fee.charged", "salary.received"]),
        amount=st.integers(0, 300),
        source=st.sampled_from(["work", "a friend"]),
    ),
    max_size=25,
    unique_by=lambda event: event.event_id,
)


def test_serving_and_training_call_the_same_customers_eligible(tmp_path: Path) -> None:
    store = Store(tmp_path / "scoring.db")
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("INSERT INTO members VALUES ('a', 'a', 0, 0), ('b', 'b', 0, 0)")

    @settings(max_examples=80, deadline=None)
    @given(events=told, measure=st.sampled_from(["sum", "last"]), horizon=st.integers(1, 15))
    def same(events: list[Event], measure: str, horizon: int) -> None:
        assert ATTRITION.attrition is not None
        watched: Attrition = msgspec.structs.replace(ATTRITION.attrition, measure=measure)
        for base in (INACTIVITY, msgspec.structs.replace(ATTRITION, min_history_days=60, attrition=watched)):
            definition = base.at_horizon(horizon)
            assert by_serving(store, definition, events) == by_training(definition, events)

    same()
    store.close()


def by_serving(store: Store, definition: ChurnDefinition, events: list[Event]) -> list[bool]:
    reader = TrailReader(definition)
    with store.transaction() as tx:
        reader.begin(tx.connection)
        for half in (events[::2], events[1::2], events):
            reader.fold(tx.connection, reader.collect(half, START), START)
        trails = reader.trails(tx.connection, ["a", "b"])
    facts = [CustomerFacts(customer_id=who, first_seen_us=0) for who in "ab"]
    return [ineligible(definition, one, START, trails.get(one.customer_id, NO_TRAIL)) is None for one in facts]


def by_training(definition: ChurnDefinition, events: list[Event]) -> list[bool]:
    rows = Snapshots(np.array(["a", "b"], dtype=object), np.array([START] * 2), np.array([NEVER] * 2))
    with event_tables(events) as db:
        found: list[bool] = fates(db, definition, rows).eligible.tolist()
    return found
