"""Eligible, lost and back again by each kind of churn definition, against one customer and one event at a time."""

import statistics
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import duckdb
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.events import Event
from vigie_contracts.instants import DAY_US
from vigie_contracts.scores import Amount, Attrition, BandEdges, ChurnDefinition
from vigie_training.fates import fates, returns
from vigie_training.population import NEVER, archive_views, read_population
from vigie_training.snapshots import Snapshots, weekly

from tests.integration.training_world import CATALOGUE, FEATURE_REPO, START_US, act, event_tables, merge, write_archive

HALF_DAY = DAY_US // 2
AS_OF = 60 * DAY_US
UNTIL = 100 * DAY_US
BANDS = BandEdges(medium=0.1, high=0.2, critical=0.3)


class Deed(msgspec.Struct, frozen=True):
    """Something that happened, in half days from 0 on; `late` half days passed until it was known."""

    who: str
    at: int
    late: int
    name: str
    amount: int
    direction: str

    @property
    def at_us(self) -> int:
        return self.at * HALF_DAY

    @property
    def known_us(self) -> int:
        return (self.at + self.late) * HALF_DAY


deeds = st.lists(
    st.builds(
        Deed,
        who=st.sampled_from(["a", "b", "c"]),
        at=st.integers(0, 199),
        late=st.sampled_from([0, 0, 0, 3, 60]),
        name=st.sampled_from(["app.logged_in", "fee.charged", "salary.received", "transfer.made", "account.closed"]),
        amount=st.integers(0, 40),
        direction=st.sampled_from(["in", "out"]),
    ),
    max_size=60,
)


def world(done: list[Deed]) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Tables as of an archive; half of the deeds under the id of another member of the customer."""
    events = [
        msgspec.structs.replace(
            act(deed.who if number % 2 else f"m-{deed.who}", deed.name, deed.at_us, direction=deed.direction),
            event_id=f"{number:04d}",
            known_at_us=deed.known_us,
            measures={"amount": deed.amount},
        )
        for number, deed in enumerate(done)
    ]
    return event_tables(events, {f"m-{who}": who for who in "abc"})


def rows_of(done: list[Deed]) -> Snapshots:
    """Three as-of instants of each customer who has not left."""
    found = []
    for who in "abc":
        left = min((deed.at_us for deed in done if deed.who == who and deed.name == "account.closed"), default=NEVER)
        found += [(who, at, left) for at in (AS_OF, AS_OF + 7 * DAY_US, AS_OF + 9 * DAY_US + 1) if left >= at]
    ids, instants, left_at = zip(*found, strict=True) if found else ((), (), ())
    return Snapshots(np.array(ids, dtype=object), np.array(instants, dtype=np.int64), np.array(left_at, dtype=np.int64))


def definition(
    kind: str, gap: int, horizon: int, periods: int = 3, measure: Literal["sum", "last"] = "sum", least: int = 1
) -> ChurnDefinition:
    amounts = (
        Amount(events=("salary.received",), value_property="amount"),
        Amount(events=("transfer.made",), value_property="amount", where={"direction": "in"}),
    )
    attrition = Attrition(amounts=amounts, measure=measure, periods=periods, share=0.4, least=least)
    made = ChurnDefinition(
        key=kind,
        kind=kind,  # type: ignore[arg-type]
        name={},
        outcome="account.closed",
        gap_days=gap,
        horizon_days=horizon,
        min_history_days=60,
        bands=BANDS,
        attrition=attrition if kind == "balance_attrition" else None,
    )
    return made.resolved(CATALOGUE, "a test")


Fate = tuple[bool, bool, bool, bool]


def found_by(db: duckdb.DuckDBPyConnection, churn: ChurnDefinition, rows: Snapshots) -> list[Fate]:
    """(eligible, lost, watched, returned) of each row."""
    found = fates(db, churn, rows)
    after = returns(db, churn, rows, found.lost, UNTIL)
    columns = (found.eligible, found.lost, after.watched, after.returned)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=60, deadline=None)
@given(done=deeds, gap=st.integers(0, 5), horizon=st.integers(1, 14))
def test_inactivity_is_that_of_a_naive_loop(done: list[Deed], gap: int, horizon: int) -> None:
    rows, churn = rows_of(done), definition("inactivity", gap, horizon)
    with world(done) as db:
        assert found_by(db, churn, rows) == [silent(done, churn, who, at) for who, at in instants(rows)]


def silent(done: list[Deed], churn: ChurnDefinition, who: str, as_of: int) -> Fate:
    horizon = churn.horizon_days * DAY_US
    mine = [deed for deed in done if deed.who == who and deed.name in ("app.logged_in", "transfer.made")]
    eligible = any(as_of - horizon <= deed.at_us < as_of and deed.known_us <= as_of for deed in mine)
    opens = as_of + churn.gap_days * DAY_US
    closes = opens + horizon
    lost = eligible and not any(opens <= deed.at_us < closes for deed in mine)
    watched = lost and closes + horizon <= UNTIL
    return eligible, lost, watched, watched and any(closes <= deed.at_us < closes + horizon for deed in mine)


@settings(max_examples=40, deadline=None)
@given(done=deeds, gap=st.integers(0, 5), horizon=st.integers(1, 14))
def test_closure_is_that_of_a_naive_loop(done: list[Deed], gap: int, horizon: int) -> None:
    rows, churn = rows_of(done), definition("closure", gap, horizon)
    with world(done) as db:
        assert found_by(db, churn, rows) == [closed(done, churn, who, at) for who, at in instants(rows)]


def closed(done: list[Deed], churn: ChurnDefinition, who: str, as_of: int) -> Fate:
    horizon = churn.horizon_days * DAY_US
    left = min((deed.at_us for deed in done if deed.who == who and deed.name == "account.closed"), default=None)
    opens = as_of + churn.gap_days * DAY_US
    closes = opens + horizon
    if left is None or not opens <= left < closes:
        return True, False, False, False
    mine = [deed for deed in done if deed.who == who and deed.name in ("app.logged_in", "transfer.made")]
    watched = closes + horizon <= UNTIL
    return True, True, watched, watched and any(closes <= deed.at_us < closes + horizon for deed in mine)


@settings(max_examples=80, deadline=None)
@given(
    done=deeds,
    gap=st.integers(0, 5),
    horizon=st.integers(1, 14),
    periods=st.integers(1, 4),
    measure=st.sampled_from(["sum", "last"]),
    least=st.sampled_from([1, 15]),
)
def test_balance_attrition_is_that_of_a_naive_loop(
    done: list[Deed], gap: int, horizon: int, periods: int, measure: Literal["sum", "last"], least: int
) -> None:
    rows, churn = rows_of(done), definition("balance_attrition", gap, horizon, periods, measure, least)
    with world(done) as db:
        assert found_by(db, churn, rows) == [drained(done, churn, who, at) for who, at in instants(rows)]


def drained(done: list[Deed], churn: ChurnDefinition, who: str, as_of: int) -> Fate:
    """Every value by its own definition: known before as-of, then whatever the interval and the one after it bring."""
    watch, horizon = churn.attrition, churn.horizon_days * DAY_US
    assert watch is not None
    seen = [
        (deed.at_us, deed.known_us, f"{number:04d}", deed.amount)
        for number, deed in enumerate(done)
        if deed.who == who
        and (deed.name == "salary.received" or (deed.name == "transfer.made" and deed.direction == "in"))
        and deed.at_us >= as_of - (watch.periods + 1) * horizon
        and (deed.at_us >= as_of or deed.known_us <= as_of)
    ]

    def value(begin: int, end: int) -> int | None:
        if watch.measure == "sum":
            return sum(amount for at, _, _, amount in seen if begin <= at < end)
        before = [row for row in seen if row[0] < end]
        return max(before)[-1] if before else None

    trailing = [value(as_of - (k + 1) * horizon, as_of - k * horizon) for k in range(watch.periods)]
    known = [one for one in trailing if one is not None]
    median = statistics.median(known) if known else 0
    if median < watch.least or known[0] < watch.share * median:
        return False, False, False, False
    closes = as_of + churn.gap_days * DAY_US + horizon
    inside, after = value(closes - horizon, closes), value(closes, closes + horizon)
    assert inside is not None
    assert after is not None
    lost = inside < watch.share * median
    watched = lost and closes + horizon <= UNTIL
    return True, lost, watched, watched and after >= watch.share * median


def instants(rows: Snapshots) -> list[tuple[str, int]]:
    return list(zip(rows.customer_ids.tolist(), rows.as_of_us.tolist(), strict=True))


def at(who: str, at_us: int, amount: int = 0) -> Event:
    name = "salary.received" if amount else "app.logged_in"
    return msgspec.structs.replace(act(who, name, at_us), measures={"amount": amount})


def one_row(events: list[Event], churn: ChurnDefinition) -> tuple[bool, bool]:
    """(eligible, lost) of customer a at AS_OF."""
    row = Snapshots(np.array(["a"], dtype=object), np.array([AS_OF]), np.array([NEVER]))
    with event_tables(events) as db:
        found = fates(db, churn, row)
    return bool(found.eligible[0]), bool(found.lost[0])


OPENS, CLOSES = AS_OF + 3 * DAY_US, AS_OF + 13 * DAY_US


@pytest.mark.parametrize(
    ("at_us", "fate"),
    [
        (AS_OF - 10 * DAY_US - 1, (False, False)),
        (AS_OF - 10 * DAY_US, (True, True)),
        (AS_OF - 1, (True, True)),
        (AS_OF, (False, False)),
    ],
)
def test_an_act_makes_eligible_from_a_horizon_before_as_of_until_just_before_it(
    at_us: int, fate: tuple[bool, bool]
) -> None:
    assert one_row([at("a", at_us)], definition("inactivity", 3, 10)) == fate


@pytest.mark.parametrize(("at_us", "lost"), [(OPENS - 1, True), (OPENS, False), (CLOSES - 1, False), (CLOSES, True)])
def test_the_label_interval_is_closed_on_the_left_and_open_on_the_right(at_us: int, lost: bool) -> None:
    before = AS_OF - DAY_US
    assert one_row([at("a", before), at("a", at_us)], definition("inactivity", 3, 10)) == (True, lost)
    paid = [at("a", before, 50), at("a", at_us, 50)]
    assert one_row(paid, definition("balance_attrition", 3, 10, 1)) == (True, lost)


@pytest.mark.parametrize(
    ("at_us", "eligible"),
    [(AS_OF - 20 * DAY_US - 1, False), (AS_OF - 20 * DAY_US, True), (AS_OF - 10 * DAY_US - 1, True)],
)
def test_a_period_before_as_of_begins_where_the_one_before_ends(at_us: int, eligible: bool) -> None:
    """Of two periods, the median of 20 and the other one's 0 is worth 10, that of 0 and 0 nothing."""
    churn = definition("balance_attrition", 3, 10, 2, least=20)
    assert one_row([at("a", AS_OF - DAY_US, 20), at("a", at_us, 20)], churn) == (eligible, eligible)


def test_what_the_institution_does_keeps_nobody_alive_and_the_catalogue_says_which_that_is(tmp_path: Path) -> None:
    churn = ChurnDefinition.load(FEATURE_REPO, "inactivity").at_horizon(7)
    named = msgspec.structs.replace(churn, activity=("card.used", "@money")).resolved(CATALOGUE, "a test")
    daily = range(80)
    records = [
        *(act("fees", "fee.charged", START_US + day * DAY_US, amount=1) for day in daily),
        *(act("fees", "app.logged_in", START_US + day * DAY_US) for day in range(45)),
        *(act("anon", "page.viewed", START_US + day * DAY_US) for day in range(30)),
        merge("anon", "joined", START_US + 30 * DAY_US),
        *(act("joined", "card.used", START_US + day * DAY_US, amount=3) for day in range(31, 80)),
    ]
    write_archive(tmp_path, records)
    with archive_views(tmp_path / "archive") as db:
        everybody = read_population(db, outcome=churn.outcome, min_history_days=churn.min_history_days)
        rows = weekly(everybody, churn, START_US + 80 * DAY_US)
        by_acts, by_name = fates(db, churn, rows), fates(db, named, rows)
    fees, joined = rows.customer_ids == "fees", rows.customer_ids == "joined"
    assert by_acts.eligible[joined].all()
    assert not by_acts.lost[joined].any()
    silent_at = rows.as_of_us >= START_US + 38 * DAY_US
    assert (by_acts.lost[fees] == (by_acts.eligible & silent_at)[fees]).all()
    assert by_acts.lost[fees].any()
    assert not by_name.lost[fees].any()
    assert by_name.eligible[fees].all()


@pytest.mark.parametrize(
    ("trailing", "standing"),
    [
        ([], "below least"),
        ([9, 9, 9], "below least"),
        ([10, 10, 4], "holds"),
        ([10, 10, 3], "far under"),
        ([30], "holds"),
    ],
)
def test_how_a_customer_stands_by_the_trailing_median(trailing: list[int], standing: str) -> None:
    amounts = (Amount(events=("salary.received",), value_property="amount"),)
    assert Attrition(amounts=amounts, share=0.4, least=10).standing(trailing) == standing
