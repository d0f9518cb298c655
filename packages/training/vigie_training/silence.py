"""Which horizon the gaps between events suggest: after how long a silence hardly anybody comes back.

R(H) = P(an event comes within D days of the last one | none came for H days) = 1 - S(D) / S(H), with S the Kaplan-Meier
estimate (1958) of "still silent" over all silences of all customers: a silence that no event has ended yet is censored
at the end of the data. D is the last day with FEWEST_AT_RISK silences in sight; S flattens where those who are silent
never return (Maller and Zhou 1992, Biometrika 79: "estimating the proportion of immunes in a censored sample"). The
suggested horizon is the least H with R(H) at most the share asked for and H at most D / 2, so that every silence that
counts could be watched for as long again.
"""

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray
from vigie_contracts.instants import DAY_US

FEWEST_AT_RISK = 30
MOST_RETURNING = 0.1

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """`days` is null when no horizon within `seen_days` / 2 is long enough. `returning` is R(days).

    `curve` is R(H) for H = 0, 1, …; `silences` how many there were, `open` how many no event has ended.
    """

    days: int | None
    returning: float | None
    at_most: float
    seen_days: int
    silences: int
    open: int
    curve: list[float]

    def returning_after(self, days: int) -> float | None:
        """R(days); null where too few silences are that long."""
        return self.curve[days] if days < len(self.curve) else None


def suggest(ended: Counts, still_open: Counts, at_most: float = MOST_RETURNING) -> Suggestion:
    """From counts of silences by whole days: those that an event ended, and those still open at the end of the data."""
    curve = returning(ended, still_open)
    seen = max(len(curve) - 1, 0)
    long_enough = np.flatnonzero(curve[1 : seen // 2 + 1] <= at_most) + 1
    days = int(long_enough[0]) if len(long_enough) else None
    return Suggestion(
        days=days,
        returning=None if days is None else float(curve[days]),
        at_most=at_most,
        seen_days=seen,
        silences=int(ended.sum() + still_open.sum()),
        open=int(still_open.sum()),
        curve=[float(share) for share in curve],
    )


def returning(ended: Counts, still_open: Counts) -> Floats:
    """R(H) for H = 0 … D; empty when there are too few silences."""
    leaving = ended + still_open
    at_risk = leaving[::-1].cumsum()[::-1]
    seen = int((at_risk >= FEWEST_AT_RISK).sum())
    if seen == 0:
        return np.empty(0)
    silent = np.append(1.0, np.cumprod(1 - ended[:seen] / at_risk[:seen]))
    last = silent[-1]
    found: Floats = 1 - np.divide(last, silent, out=np.ones_like(silent), where=silent > 0)
    return found


def silences(
    db: duckdb.DuckDBPyConnection, table: str, from_us: int, until_us: int, left_out: frozenset[str]
) -> tuple[Counts, Counts]:
    """Silences after each event of `table` (customer_id, effective_at_us) in [from, until): ended and open, by day."""
    found = db.execute(
        "SELECT (coalesce(following, $until) - acted) // $day AS days, count(following) AS ended,"
        " count(*) - count(following) AS still_open FROM (SELECT effective_at_us AS acted, lead(effective_at_us)"
        f" OVER (PARTITION BY customer_id ORDER BY effective_at_us) AS following FROM {table}"
        " WHERE effective_at_us >= $from AND effective_at_us < $until"
        " AND customer_id NOT IN (SELECT unnest($left_out::VARCHAR[]))) GROUP BY days",
        {"from": from_us, "until": until_us, "day": DAY_US, "left_out": sorted(left_out)},
    ).fetchnumpy()
    longest = int(found["days"].max(initial=-1)) + 1
    ended, still_open = np.zeros(longest, dtype=np.int64), np.zeros(longest, dtype=np.int64)
    ended[found["days"]], still_open[found["days"]] = found["ended"], found["still_open"]
    return ended, still_open
