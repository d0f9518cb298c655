"""No statement of the consumer reads a whole table: what it costs must not grow with the number of customers."""

from pathlib import Path
from typing import Any

from sqlalchemy import event
from vigie_contracts.events import MapChanged, MapMove
from vigie_contracts.instants import DAY_US

from tests.unit.scoring.scoring_world import RISKY, SAFE, START, World


def statements(world: World) -> dict[str, Any]:
    """Every statement from now on, with the last of its parameters."""
    found: dict[str, Any] = {}

    def keep(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:
        found[sql] = parameters[-1] if many else parameters

    event.listen(world.store._engine, "before_cursor_execute", keep)
    return found


def test_every_statement_of_a_step_goes_by_an_index(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = statements(world)
    world.champion()
    world.propensity()
    for member, values in (("a", SAFE), ("b", RISKY), ("c", RISKY)):
        world.known(member, values)
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
    assert any(sql.startswith("UPDATE work_list") for sql in found)
    assert [sql for sql, parameters in list(found.items()) if reads_all(world, sql, parameters)] == []


def reads_all(world: World, sql: str, parameters: Any) -> bool:
    """Whether the plan of a statement goes through a table that is ours without an end."""
    if sql.split()[0] not in ("SELECT", "DELETE", "UPDATE", "INSERT") or " LIMIT ?" in sql:
        return False
    with world.store._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
    scans = [row[3] for row in plan if row[3].startswith("SCAN")]
    return any("json_each" not in scan and "CONSTANT ROW" not in scan for scan in scans)
