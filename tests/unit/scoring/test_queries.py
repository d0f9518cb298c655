"""No statement of the consumer reads a whole table: what it costs must not grow with the number of customers."""

from pathlib import Path

from vigie_contracts.events import MapChanged, MapMove
from vigie_contracts.instants import DAY_US

from tests.unit.query_plans import reading_all, statements
from tests.unit.scoring.scoring_world import ATTRITION, CLOSURE, INACTIVITY, RISKY, SAFE, START, World


def test_every_statement_of_a_step_goes_by_an_index(tmp_path: Path) -> None:
    world = World(tmp_path, definitions=[CLOSURE, INACTIVITY, ATTRITION])
    found = statements(world.store._engine)
    for definition in world.definitions:
        world.champion(definition=definition)
    world.propensity()
    for member, values in (("a", SAFE), ("b", RISKY), ("c", RISKY)):
        world.known(member, values)
        world.event(member, "salary.received", amount=2_000, source="work")
    world.run()
    move = MapMove(member_id="b", from_customer_id="b", to_customer_id="a")
    number = world.record(MapChanged(moves=[move], known_at_us=START, because="user id"))
    for customer_id in ("a", "b"):
        world.changed(customer_id, number, why="map")
    world.run()
    world.consent("c", "profiling", "denied")
    world.run()
    world.now_us += 40 * DAY_US
    world.champion("2", seed=1)
    world.run()
    assert any("DELETE FROM work_list" in sql for sql in found)
    assert any(sql.startswith("DELETE FROM amounts") for sql in found)
    assert any(sql.startswith("UPDATE work_list") for sql in found)
    assert reading_all(world.store._engine, found) == []
