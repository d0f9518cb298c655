"""What became of each (customer, as-of) row under a churn definition, from the archive: eligible, lost, back again.

Who is eligible is judged by what was known at as-of; what was lost by all that is known now. Intervals are half open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from vigie_contracts.instants import DAY_US
from vigie_contracts.scores import Amount, Attrition, ChurnDefinition

from vigie_training.population import Instants, text
from vigie_training.snapshots import Mask, Snapshots, label_span_us

GAP, LABEL, AFTER = -1, -2, -3
"""Periods from as-of on; those before it are numbered 0, 1, … backwards."""

Values = NDArray[np.float64]
"""(rows, periods)."""


@dataclass(frozen=True)
class Fates:
    """Masks over n rows; `lost` is the label, of eligible rows."""

    eligible: Mask
    lost: Mask


@dataclass(frozen=True)
class Returns:
    """Of the lost rows: whose next horizon is over (`watched`), and of these who came back within it (`returned`)."""

    watched: Mask
    returned: Mask


def fates(db: duckdb.DuckDBPyConnection, definition: ChurnDefinition, rows: Snapshots) -> Fates:
    """Who was eligible and who was lost, by a definition that was resolved against the catalogue."""
    opens, closes = _interval(definition, rows)
    if definition.attrition is not None:
        values = _periods(db, definition, definition.attrition, rows)
        least = definition.attrition.share * _median(values, definition.attrition)
        eligible = (least >= definition.attrition.share * definition.attrition.least) & (_latest(values) >= least)
        return Fates(eligible, eligible & (values[:, -2] < least))
    if definition.kind == "inactivity":
        span = definition.horizon_days * DAY_US
        eligible = _acted(db, definition, rows, rows.as_of_us - span, rows.as_of_us, known=True)
        return Fates(eligible, eligible & ~_acted(db, definition, rows, opens, closes))
    everybody = np.ones(len(rows), dtype=bool)
    return Fates(everybody, (rows.outcome_us >= opens) & (rows.outcome_us < closes))


def returns(
    db: duckdb.DuckDBPyConnection, definition: ChurnDefinition, rows: Snapshots, lost: Mask, observed_until_us: int
) -> Returns:
    """Who of the lost came back within one more horizon: acted, or had an inflow or balance that is not far under."""
    closes = _interval(definition, rows)[1]
    until = closes + definition.horizon_days * DAY_US
    watched = lost & (until <= observed_until_us)
    if definition.attrition is None:
        return Returns(watched, watched & _acted(db, definition, rows, closes, until))
    values = _periods(db, definition, definition.attrition, rows)
    least = definition.attrition.share * _median(values, definition.attrition)
    return Returns(watched, watched & (values[:, -1] >= least))


def acts(db: duckdb.DuckDBPyConnection, definition: ChurnDefinition) -> None:
    """Make the table `acts` (customer_id, effective_at_us, known_at_us): what counts as an act of the customer."""
    db.execute(
        "CREATE OR REPLACE TEMP TABLE acts AS SELECT coalesce(c.customer_id, e.member_id) AS customer_id,"
        " e.effective_at_us, e.known_at_us FROM events e LEFT JOIN customer_of c USING (member_id)"
        f" WHERE e.catalogued AND e.name IN ({_listed(definition.activity)})"
    )


def amounts(db: duckdb.DuckDBPyConnection, attrition: Attrition) -> None:
    """Make the table `amounts` (customer_id, effective_at_us, known_at_us, source_id, event_id, amount).

    An event counts once, by the first of the amounts that it is one of.
    """
    cases = " ".join(_case(amount) for amount in attrition.amounts)
    db.execute(
        "CREATE OR REPLACE TEMP TABLE amounts AS SELECT coalesce(c.customer_id, e.member_id) AS customer_id,"
        f" e.effective_at_us, e.known_at_us, e.source_id, e.event_id, CASE {cases} END AS amount"
        " FROM events e LEFT JOIN customer_of c USING (member_id) WHERE e.catalogued AND amount IS NOT NULL"
    )


def _interval(definition: ChurnDefinition, rows: Snapshots) -> tuple[Instants, Instants]:
    return rows.as_of_us + definition.gap_days * DAY_US, rows.as_of_us + label_span_us(definition)


def _acted(
    db: duckdb.DuckDBPyConnection,
    definition: ChurnDefinition,
    rows: Snapshots,
    begin: Instants,
    end: Instants,
    *,
    known: bool = False,
) -> Mask:
    """Whether the customer of each row has an act in [begin, end); `known`: one that was known at as-of."""
    acts(db, definition)
    with _asked(db, rows, begin=begin, end=end):
        found = db.execute(
            'SELECT DISTINCT a.row FROM asked a JOIN acts e USING (customer_id) WHERE e.effective_at_us >= a."begin"'
            ' AND e.effective_at_us < a."end"' + (" AND e.known_at_us <= a.as_of" if known else "")
        ).fetchnumpy()
    acted = np.zeros(len(rows), dtype=bool)
    acted[found["row"]] = True
    return acted


def _latest(values: Values) -> Values:
    """The value of the last period before as-of."""
    return values[:, AFTER - 1]


def _median(values: Values, attrition: Attrition) -> Values:
    """Median of the known values of the periods before as-of; NaN where none is known."""
    trailing = values[:, 1 : attrition.periods + 1]
    known = ~np.isnan(trailing[:, -1])
    median = np.full(len(values), np.nan)
    median[known] = np.nanmedian(trailing[known], axis=1)
    return median


def _periods(
    db: duckdb.DuckDBPyConnection, definition: ChurnDefinition, attrition: Attrition, rows: Snapshots
) -> Values:
    """Values by period, oldest first: the one before the trailing ones, those, the gap, the label interval, the next.

    NaN is an unknown level. What happened before as-of and was known only later is left out.
    """
    amounts(db, attrition)
    span, periods = definition.horizon_days * DAY_US, attrition.periods
    opens, closes = _interval(definition, rows)
    with _asked(db, rows, opens=opens, closes=closes):
        found = db.execute(
            "SELECT a.row, CASE WHEN e.effective_at_us < a.as_of THEN (a.as_of - 1 - e.effective_at_us) // $span"
            f" WHEN e.effective_at_us < a.opens THEN {GAP} WHEN e.effective_at_us < a.closes THEN {LABEL}"
            f" ELSE {AFTER} END AS period, sum(e.amount)::DOUBLE AS total,"
            " arg_max(e.amount, row(e.effective_at_us, e.known_at_us, e.source_id, e.event_id))::DOUBLE AS level"
            " FROM asked a JOIN amounts e USING (customer_id)"
            " WHERE e.effective_at_us >= a.as_of - ($periods + 1) * $span AND e.effective_at_us < a.closes + $span"
            " AND (e.effective_at_us >= a.as_of OR e.known_at_us <= a.as_of) GROUP BY a.row, period",
            {"span": span, "periods": periods},
        ).fetchnumpy()
    sums = attrition.measure == "sum"
    values = np.full((len(rows), periods + 1 - AFTER), 0.0 if sums else np.nan)
    values[found["row"], periods - found["period"]] = found["total" if sums else "level"]
    return values if sums else _carried(values)


def _carried(values: Values) -> Values:
    """Each unknown value replaced by the last known one before it."""
    known = np.where(np.isnan(values), 0, np.arange(values.shape[1])[None, :])
    carried: Values = values[np.arange(len(values))[:, None], np.maximum.accumulate(known, axis=1)]
    return carried


@contextmanager
def _asked(db: duckdb.DuckDBPyConnection, rows: Snapshots, **instants: Instants) -> Iterator[None]:
    """The view `asked` (row, customer_id, as_of, and the instants given) for the time of a block."""
    who = pa.array(rows.customer_ids.tolist(), pa.string())
    table = pa.table({"row": np.arange(len(rows)), "customer_id": who, "as_of": rows.as_of_us, **instants})
    db.register("asked", table)
    try:
        yield
    finally:
        db.unregister("asked")


def _case(amount: Amount) -> str:
    value = f"e.measures[{text(amount.value_property)}]"
    tests = [f"e.name IN ({_listed(amount.events)})", f"{value} IS NOT NULL"]
    for key, wanted in sorted(amount.where.items()):
        path = text(f'$."{key}"')
        tests.append(f"json_type(e.properties, {path}) IN ('VARCHAR', 'BOOLEAN')")
        tests.append(f"json_extract_string(e.properties, {path}) = {text(wanted)}")
    return f"WHEN {' AND '.join(tests)} THEN {value}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(text(name) for name in names) or "NULL"
