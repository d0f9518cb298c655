"""The work list's pages against a naive sort and filter, and its queries against the indices."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vigie_contracts.events import SegmentMoved
from vigie_contracts.instants import DAY_US
from vigie_contracts.reads import WorkListRequest
from vigie_scoring.store import Store, WorkRow

NOW = 1000 * DAY_US
FIELDS = {
    "CHURN_PROBABILITY": "probability",
    "SCORE_CHANGE_7_DAYS": "change_7_days",
    "LAST_ACTIVITY_AT": "last_activity_us",
}
STEPS = [None, 0.0, 0.1, 0.5, 0.50000001, 1.0]

row = st.builds(
    WorkRow,
    definition=st.just("closure"),
    customer_id=st.just(""),
    probability=st.sampled_from(STEPS),
    band=st.sampled_from(["LOW", "HIGH", None]),
    change_7_days=st.sampled_from([None, -0.3, 0.0, 0.3]),
    last_activity_us=st.sampled_from([None, NOW - 40 * DAY_US, NOW - 30 * DAY_US, NOW - 1, NOW]),
    scored_at_us=st.sampled_from([None, 5, 10]),
)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "scoring.db")
    yield opened
    opened.close()


def fill(store, rows, segment_members):
    with store.transaction() as tx:
        for table in ("work_list", "memberships"):
            tx._conn.exec_driver_sql(f"DELETE FROM {table}")
        tx.set_work_list([*rows, *(replace(one, definition="other") for one in rows)])
        moves = [SegmentMoved(customer_id=c, key="k", version=1, entered=True, at_us=1) for c in segment_members]
        tx.move_memberships(moves, "features")


def naive(rows, request, segment_members):
    def kept(one):
        probability = -1.0 if one.probability is None else one.probability
        return (
            (not request.bands or one.band in request.bands)
            and (not request.segment_keys or one.customer_id in segment_members)
            and (request.probability_min is None or probability >= request.probability_min)
            and (request.probability_max is None or 0 <= probability <= request.probability_max)
            and (request.scored_since_us is None or (one.scored_at_us or -1) >= request.scored_since_us)
            and (
                request.inactive_for_days is None
                or (one.last_activity_us or -1) <= NOW - request.inactive_for_days * DAY_US
            )
        )

    def key(one):
        value = getattr(one, FIELDS[request.order_by])
        return (-1e9 if value is None else value, one.customer_id)

    ordered = sorted(filter(kept, rows), key=key, reverse=request.descending)
    return [(one.customer_id, getattr(one, FIELDS[request.order_by])) for one in ordered]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(row, max_size=25),
    order_by=st.sampled_from(list(FIELDS)),
    descending=st.booleans(),
    bands=st.sampled_from([[], ["HIGH"], ["HIGH", "LOW"]]),
    segment_keys=st.sampled_from([[], ["k"], ["k", "z"]]),
    probability_min=st.sampled_from([None, 0.1]),
    probability_max=st.sampled_from([None, 0.5]),
    inactive_for_days=st.sampled_from([None, 30]),
    scored_since_us=st.sampled_from([None, 10]),
    limit=st.integers(1, 7),
)
def test_pages_put_together_are_the_naive_sort(store, rows, limit, **asked):
    rows = [replace(one, customer_id=f"c{place:02}") for place, one in enumerate(rows)]
    segment_members = {one.customer_id for one in rows[::2]}
    fill(store, rows, segment_members)
    request = WorkListRequest(definition="closure", limit=limit, with_total=True, **asked)
    expected = naive(rows, request, segment_members)
    found, after = [], None
    while True:
        with store.reading() as snapshot:
            page = snapshot.work_list(msgspec.structs.replace(request, after=after), "closure", NOW)
        assert page.total == len(expected)
        assert len(page.rows) == min(limit, len(expected) - len(found))
        found += [(one.customer_id, one.order_value) for one in page.rows]
        assert page.has_next is (len(found) < len(expected))
        if not page.has_next:
            break
        after = (page.rows[-1].order_value, page.rows[-1].customer_id)
    assert found == expected


@pytest.mark.parametrize("order_by", list(FIELDS))
def test_a_page_is_read_from_an_index_without_sorting(store, order_by):
    column = FIELDS[order_by]
    sql = (
        f"EXPLAIN QUERY PLAN SELECT customer_id FROM work_list w WHERE w.definition = 'closure'"
        f" AND (w.{column}, w.customer_id) < (0.5, 'c') ORDER BY w.{column} DESC, w.customer_id DESC LIMIT 20"
    )
    with store.reading() as snapshot:
        plan = " ".join(str(line) for line in snapshot._rows(sql))
    assert "SEARCH w USING" in plan
    assert "TEMP B-TREE" not in plan


def test_the_total_is_counted_only_when_asked_for(store):
    fill(store, [WorkRow("closure", "c", 0.5, "HIGH", None, None, 1)], set())
    with store.reading() as snapshot:
        assert snapshot.work_list(WorkListRequest(), "closure", NOW).total is None
