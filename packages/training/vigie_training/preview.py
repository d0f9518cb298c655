"""What a churn definition would mean, before any training: by horizon, who counts, who is lost, and who comes back."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec
import numpy as np
from vigie_contracts.errors import InvalidInput
from vigie_contracts.scores import ChurnDefinition

from vigie_training import splits
from vigie_training.fates import acts, amounts, fates, returns
from vigie_training.population import Population, archive_views, denying, read_population
from vigie_training.silence import MOST_RETURNING, Suggestion, silences, suggest
from vigie_training.snapshots import Mask, Snapshots, label_span_us, weekly


class HorizonLine(msgspec.Struct, frozen=True, kw_only=True):
    """A horizon's weekly (customer, as-of) rows, and the customers they are of.

    `rows` are old enough, not left and mature; `eligible` of them the definition covers (of the others, most are lost
    already); `active` + `lost` = `eligible`. `watched`: lost rows whose next horizon is over; `resurrected`: of these,
    who came back within it. `returning`: R(horizon), see `silence`. `problem`: why there is no row, or no training.
    """

    horizon_days: int
    configured: bool
    from_us: int | None = None
    to_us: int | None = None
    rows: int = 0
    eligible: int = 0
    active: int = 0
    lost: int = 0
    watched: int = 0
    resurrected: int = 0
    eligible_customers: int = 0
    lost_customers: int = 0
    resurrected_customers: int = 0
    returning: float | None = None
    problem: str | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `vigie churn preview` tells. `counted` are the micro-conversions whose gaps were measured."""

    definition: ChurnDefinition
    observed_from_us: int
    observed_until_us: int
    customers: int
    denied: int
    counted: list[str]
    suggestion: Suggestion
    horizons: list[HorizonLine]


def preview(
    data: Path,
    feature_repo: Path,
    key: str,
    now_us: int,
    horizons: Sequence[int] = (),
    at_most: float = MOST_RETURNING,
) -> Preview:
    """A definition at its own horizon and at others. NotFound without such a definition; InvalidInput without data."""
    definition = ChurnDefinition.load(feature_repo, key)
    if any(days < 1 for days in horizons) or not 0 < at_most < 1:
        raise InvalidInput("horizons are whole days from 1 on, and the share that may return lies between 0 and 1")
    with archive_views(data / "archive") as db:
        population = read_population(db, outcome=definition.outcome, min_history_days=definition.min_history_days)
        suggestion = _suggestion(db, definition, population, at_most)
        asked = {definition.horizon_days, *horizons, *([suggestion.days] if suggestion.days else [])}
        return Preview(
            definition=definition,
            observed_from_us=population.observed_from_us,
            observed_until_us=population.observed_until_us,
            customers=len(population),
            denied=population.denied,
            counted=sorted(_counted(definition)),
            suggestion=suggestion,
            horizons=[_line(db, definition, days, now_us, suggestion) for days in sorted(asked)],
        )


def _counted(definition: ChurnDefinition) -> set[str]:
    if definition.attrition is None:
        return set(definition.activity)
    return {name for amount in definition.attrition.amounts for name in amount.events}


def _suggestion(
    db: duckdb.DuckDBPyConnection, definition: ChurnDefinition, population: Population, at_most: float
) -> Suggestion:
    if definition.attrition is None:
        acts(db, definition)
    else:
        amounts(db, definition.attrition)
    table = "acts" if definition.attrition is None else "amounts"
    period = population.observed_from_us, population.observed_until_us
    return suggest(*silences(db, table, *period, denying(db, "analytics")), at_most)


def _line(
    db: duckdb.DuckDBPyConnection, declared: ChurnDefinition, days: int, now_us: int, suggestion: Suggestion
) -> HorizonLine:
    definition = declared.at_horizon(days)
    line = HorizonLine(
        horizon_days=days, configured=days == declared.horizon_days, returning=suggestion.returning_after(days)
    )
    population = read_population(db, outcome=definition.outcome, min_history_days=definition.min_history_days)
    try:
        rows = weekly(population, definition, now_us)
    except InvalidInput as error:
        return msgspec.structs.replace(line, problem=error.message)
    if not len(rows):
        return msgspec.structs.replace(line, problem="nobody was a customer for long enough")
    found = fates(db, definition, rows)
    after = returns(db, definition, rows, found.lost, min(now_us, population.observed_until_us))
    return msgspec.structs.replace(
        line,
        from_us=int(rows.as_of_us.min()),
        to_us=int(rows.as_of_us.max()),
        rows=len(rows),
        eligible=int(found.eligible.sum()),
        active=int((found.eligible & ~found.lost).sum()),
        lost=int(found.lost.sum()),
        watched=int(after.watched.sum()),
        resurrected=int(after.returned.sum()),
        eligible_customers=_customers(rows, found.eligible),
        lost_customers=_customers(rows, found.lost),
        resurrected_customers=_customers(rows, after.returned),
        problem=_problem(definition, rows, found.lost, found.eligible),
    )


def _customers(rows: Snapshots, mask: Mask) -> int:
    return len(np.unique(rows.customer_ids[mask].astype(str)))


def _problem(definition: ChurnDefinition, rows: Snapshots, lost: Mask, eligible: Mask) -> str | None:
    """Why `vigie train` would refuse these rows; null when it would not."""
    labelled = rows.labelled(lost, eligible)
    if not len(labelled):
        return "nobody is eligible"
    try:
        splits.by_time(labelled, label_span_us(definition))
    except InvalidInput as error:
        return error.message
    return None
