"""What batches mean, and predicates over many customers at once: the same as over one."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.events import MapChanged, MapMove, Position
from vigie_contracts.segments import SegmentSpec, SegmentTable, compile_predicate, evaluate
from vigie_features.domain import Cause, Column, causes, holds, memberships, moved, read_batch

from tests.unit.contracts.test_segments import TABLE as SMALL
from tests.unit.contracts.test_segments import VOCABULARY
from tests.unit.features.features_world import NOW_US, SEGMENTS, TABLE, entries, event

TEXTS = (
    "logins == 1",
    "logins != 1 and recency not in (0, 2)",
    "not (logins >= 1 or recency is null)",
    'age_band in ("old") or not logins@2 < 1',
    "",
    "recency is not null and (logins <= 0 or logins@2 > 1)",
)
nullable = st.none() | st.integers(-1, 3)
vectors = st.lists(st.tuples(nullable, nullable, nullable, nullable), min_size=1, max_size=6)


def columns_of(rows: list[tuple[int | None, ...]]) -> dict[str, Column]:
    return {
        feature.key: Column(np.array([row[at] or 0 for row in rows]), np.array([row[at] is not None for row in rows]))
        for at, feature in enumerate(SMALL.features)
    }


@given(st.sampled_from(TEXTS), vectors)
def test_a_predicate_over_many_customers_says_what_it_says_of_each(
    text: str, rows: list[tuple[int | None, ...]]
) -> None:
    tree = compile_predicate(text, VOCABULARY)
    each = [evaluate(tree, {feature.key: row[at] for at, feature in enumerate(SMALL.features)}) for row in rows]
    assert holds(tree, columns_of(rows), len(rows)).tolist() == each


@given(st.lists(st.tuples(*[st.none() | st.integers(0, 60)] * len(TABLE.features)), min_size=1, max_size=5))
def test_everybody_has_one_support_model_and_at_most_one_stage_and_tier(rows: list[tuple[int | None, ...]]) -> None:
    columns = {
        feature.key: Column(np.array([row[at] or 0 for row in rows]), np.array([row[at] is not None for row in rows]))
        for at, feature in enumerate(TABLE.features)
    }
    family = {segment.spec.key: segment.spec.family for segment in SEGMENTS.segments}
    found = memberships(SEGMENTS.without_scores, columns, len(rows))
    counts = [Counter(family[key] for key in keys) for keys in found]
    assert [count["support_model"] for count in counts] == [1] * len(rows)
    assert all(count["life_cycle"] <= 1 and count["value_tier"] <= 1 for count in counts)
    tenures = [row[list(TABLE.by_key).index("tenure_days")] for row in rows]
    assert all(count["value_tier"] == 1 for count, tenure in zip(counts, tenures, strict=True) if tenure is not None)


def test_an_exclusive_family_takes_the_first_that_holds() -> None:
    specs = [
        SegmentSpec(key=key, name={}, family="support_model", predicate=text)
        for key, text in (("many", "logins >= 2"), ("some", "logins >= 1"), ("rest", ""))
    ]
    table = SegmentTable(specs, VOCABULARY)
    rows = [(3, 0, 0, 0), (1, 0, 0, 0), (None, 0, 0, 0)]
    assert memberships(table.segments, columns_of(rows), 3) == [{"many": 1}, {"some": 1}, {"rest": 1}]


def test_moves_are_leaves_then_enters_and_a_new_version_is_both() -> None:
    found = moved("c", {"a": 1, "b": 1, "c": 1}, {"b": 2, "c": 1, "d": 1}, 7, Position(0, 3))
    assert [(move.key, move.version, move.entered) for move in found] == [
        ("a", 1, False),
        ("b", 1, False),
        ("b", 2, True),
        ("d", 1, True),
    ]
    assert {(move.customer_id, move.at_us, move.cause) for move in found} == {("c", 7, Position(0, 3))}


def test_a_customer_is_touched_by_its_last_record_under_the_map_after_the_batch() -> None:
    batch = read_batch(
        entries(
            [
                event("b", "app.logged_in", NOW_US, event_id="1"),
                event("a", "app.logged_in", NOW_US, event_id="2"),
                MapChanged(moves=[MapMove("b", "b", "a")], known_at_us=NOW_US, because=""),
                event("b", "app.logged_in", NOW_US, event_id="3"),
                event("x", "app.logged_in", NOW_US, event_id="4"),
            ]
        )
    )
    assert causes(batch, {"a": "a", "b": "a", "x": "x"}) == {
        "a": Cause(Position(0, 4), "event"),
        "b": Cause(Position(0, 3), "map"),
        "x": Cause(Position(0, 5), "event"),
    }
