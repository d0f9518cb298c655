"""How early a model warns: the days between a customer's first alert and the loss, at a fixed budget of alerts.

Each week the rows of highest probability get an alert, as many as the budget's share of that week's rows. The first
alert of a customer in the test slice is compared with the loss, wherever in the data it lies: a row whose own label
interval is long closed may be the one that warned. Only a loss after the customer's first row can be warned of.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from vigie_contracts.instants import DAY_US

from vigie_training.bootstrap import Estimate, bootstrap
from vigie_training.metrics import Floats
from vigie_training.population import NEVER, Instants, week_of
from vigie_training.snapshots import LabelledRows, Mask

BUDGETS = (10, 20)
EARLY_DAYS = 30


def lead_times(rows: LabelledRows, probabilities: Floats, gap_us: int) -> dict[str, Estimate]:
    """Figures by budget in percent, with customer-bootstrap intervals.

    `alerted_10`: share of all customers with an alert in the slice, more than 10 % where alerts wander from one to the
    other. `warned_10`: share of the losses with an alert before. `lead_days_10`: median days from the first alert to
    the loss, of the warned. `warned_30_days_10`: share with an alert 30 days before at least, of the losses that the
    slice saw as long before. The alerts stay what they were in every bootstrap draw. Where the rows do not say when a
    customer is lost, it is when the label interval of the first positive row begins, `gap_us` after its as-of.
    """
    lost_at_us = _first_interval(rows, gap_us) if rows.lost_at_us is None else rows.lost_at_us
    found: dict[str, Estimate] = {}
    for budget in BUDGETS:
        reached, seen, lead = _customers(rows, lost_at_us, alerts(rows, probabilities, budget / 100))
        figures = bootstrap(np.arange(len(seen)), partial(_figures, reached=reached, seen=seen, lead=lead))
        found |= {f"{name}_{budget}": estimate for name, estimate in figures.items()}
    return found


def alerts(rows: LabelledRows, probabilities: Floats, share: float) -> Mask:
    """The rows with an alert: of each week, the `share` of highest probability (rounded up).

    Equal probabilities, as isotonic calibration makes them, take their turn by a fixed draw, not by the order of rows.
    """
    weeks, turn = week_of(rows.as_of_us), np.random.default_rng(0).random(len(rows))
    chosen = np.zeros(len(rows), dtype=bool)
    order = np.lexsort((turn, -probabilities, weeks))
    _, starts, sizes = np.unique(weeks[order], return_index=True, return_counts=True)
    for start, size in zip(starts, sizes, strict=True):
        chosen[order[start : start + int(np.ceil(share * size))]] = True
    return chosen


def _first_interval(rows: LabelledRows, gap_us: int) -> Instants:
    codes, lost = rows.codes, rows.labels == 1
    first = np.full(int(codes.max(initial=-1)) + 1, NEVER)
    np.minimum.at(first, codes[lost], rows.as_of_us[lost] + gap_us)
    return first[codes]


def _customers(rows: LabelledRows, lost_at_us: Instants, alerted: Mask) -> tuple[Floats, Floats, Floats]:
    """By customer: whether ever alerted (1 or 0); days seen, and days warned, before the loss (NaN: no loss, never)."""
    codes, days = rows.codes, (lost_at_us - rows.as_of_us) / DAY_US
    lost = (lost_at_us != NEVER) & (days > 0)
    reached, seen, lead = (np.full(int(codes.max(initial=-1)) + 1, start) for start in (0.0, -np.inf, -np.inf))
    reached[codes[alerted]] = 1
    np.maximum.at(seen, codes[lost], days[lost])
    np.maximum.at(lead, codes[lost & alerted], days[lost & alerted])
    return reached, np.where(np.isfinite(seen), seen, np.nan), np.where(np.isfinite(lead), lead, np.nan)


def _figures(w: Floats, reached: Floats, seen: Floats, lead: Floats) -> Mapping[str, Floats]:
    lost, warned = (~np.isnan(days) for days in (seen, lead))
    early = np.nan_to_num(seen) >= EARLY_DAYS
    return {
        "alerted": _ratio(w @ reached, w.sum(1)),
        "warned": _ratio(w @ warned, w @ lost),
        "lead_days": _median(lead[warned], w[:, warned]),
        f"warned_{EARLY_DAYS}_days": _ratio(w @ (np.nan_to_num(lead) >= EARLY_DAYS), w @ early),
    }


def _median(values: Floats, w: Floats) -> Floats:
    """The least value that half of the weight does not exceed, by set of weights; NaN without weight."""
    if not len(values):
        return np.full(len(w), np.nan)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(w[:, order], axis=1)
    half = (reached >= reached[:, -1:] / 2).argmax(axis=1)
    found: Floats = np.where(reached[:, -1] > 0, values[order][half], np.nan)
    return found


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return found
