"""Rows of a churn training set: (customer, as-of) once a week at an instant of the week that a hash picks.

Serving reads at any instant; a fixed midnight would always see the same weekday and the shortest windows.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US, SECOND_US, format_instant
from vigie_contracts.scores import ChurnDefinition

from vigie_training.population import MONDAY_US, WEEK_US, Ids, Instants, Population, strings, week_of

SECONDS_A_WEEK = 604_800
MOST_WEEKS = 52
MOST_ROWS = 300_000

Mask = NDArray[np.bool_]
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class LabelledRows:
    """n rows of a training set: who, when, and what happened. `offers` is empty but for propensity.

    `lost_at_us`: when each row's customer ends the relationship, whenever that is (NEVER); null where none is known.
    """

    customer_ids: Ids
    as_of_us: Instants
    labels: Labels
    offers: Ids | None = None
    lost_at_us: Instants | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, mask: Mask | Instants) -> Self:
        """The rows of a mask, or at places."""
        offers = None if self.offers is None else self.offers[mask]
        lost_at_us = None if self.lost_at_us is None else self.lost_at_us[mask]
        return replace(
            self,
            customer_ids=self.customer_ids[mask],
            as_of_us=self.as_of_us[mask],
            labels=self.labels[mask],
            offers=offers,
            lost_at_us=lost_at_us,
        )

    @property
    def positives(self) -> int:
        """How many labels are 1."""
        return int(self.labels.sum())

    @property
    def codes(self) -> Instants:
        """The customer of each row as a number from 0, for resampling by customer."""
        return np.unique(self.customer_ids.astype(str), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Snapshots:
    """n rows before anything is known of what became of them: who, when, and when the relationship ended (or NEVER)."""

    customer_ids: Ids
    as_of_us: Instants
    outcome_us: Instants

    def __len__(self) -> int:
        return len(self.as_of_us)

    def labelled(self, lost: Mask, eligible: Mask) -> LabelledRows:
        """The eligible rows with label 1 where lost."""
        return LabelledRows(self.customer_ids, self.as_of_us, lost.astype(np.int8)).take(eligible)


def weekly(population: Population, definition: ChurnDefinition, now_us: int) -> Snapshots:
    """All rows whose label is mature, ordered by (as-of, customer): long enough known, not left, window closed by then.

    Who of them is eligible and what became of them is told by `fates`. InvalidInput when there is no row.
    """
    first_us = population.observed_from_us + definition.min_history_days * DAY_US
    last_us = min(now_us, population.observed_until_us) - label_span_us(definition)
    first_us = max(first_us, last_us - MOST_WEEKS * WEEK_US)
    if last_us < first_us:
        raise InvalidInput(
            f"no label is mature yet: data begin {format_instant(population.observed_from_us)}; a first row needs"
            f" {definition.min_history_days} days of history and {definition.gap_days + definition.horizon_days} more"
        )
    first_week, last_week = week_of(np.array([first_us, last_us]))
    weeks = np.arange(first_week, last_week + 1)
    hashes = np.array([_hash(customer_id) for customer_id in population.customer_ids], dtype=np.uint64)
    sampled = np.flatnonzero(_sample(hashes, len(weeks)))
    as_of = as_of_instants(hashes[sampled][:, None], weeks[None, :])
    eligible_from, outcome = population.eligible_from_us[sampled][:, None], population.outcome_us[sampled][:, None]
    kept = (as_of >= first_us) & (as_of <= last_us) & (as_of >= eligible_from) & (outcome >= as_of)
    who, when = np.nonzero(kept)
    customer_ids, instants = population.customer_ids[sampled][who], as_of[who, when]
    order = np.lexsort((customer_ids.astype(str), instants))
    return Snapshots(customer_ids[order], instants[order], outcome[who, 0][order])


def label_span_us(definition: ChurnDefinition) -> int:
    """From as-of until the label is known."""
    return (definition.gap_days + definition.horizon_days) * DAY_US


def as_of_instants(hashes: NDArray[np.uint64], weeks: Instants) -> Instants:
    """`week start + hash(customer, week) mod 604,800 s`, broadcast."""
    mixed = _mix(hashes ^ _mix(weeks.astype(np.uint64)))
    seconds = (mixed % np.uint64(SECONDS_A_WEEK)).astype(np.int64)
    return MONDAY_US + weeks * WEEK_US + seconds * SECOND_US


def from_table(table: pa.Table) -> tuple[LabelledRows, Mask]:
    """Landmarks: an explicit label table `customer_id`, `as_of_us`, `label`, `test` (bool). Answers rows and the mask.

    A study that fixes its own landmarks and cohorts gives this table instead of weekly snapshots. InvalidInput when a
    customer is in both cohorts, or a column is missing.
    """
    missing = {"customer_id", "as_of_us", "label", "test"} - set(table.column_names)
    if missing:
        raise InvalidInput(f"the label table needs columns {', '.join(sorted(missing))}")
    rows = LabelledRows(
        customer_ids=strings(table["customer_id"]),
        as_of_us=table["as_of_us"].to_numpy().astype(np.int64),
        labels=np.asarray(table["label"].to_pylist(), dtype=np.int8),
    )
    test = np.asarray(table["test"].to_pylist(), dtype=bool)
    both = set(rows.customer_ids[test]) & set(rows.customer_ids[~test])
    if both:
        raise InvalidInput(f"{len(both)} customers are in the training and the test cohort, for example {min(both)}")
    return rows, test


def _sample(hashes: NDArray[np.uint64], weeks: int) -> Mask:
    """All customers, or a fixed share of them by hash when the rows would be more than MOST_ROWS."""
    share = MOST_ROWS / max(len(hashes) * weeks, 1)
    if share >= 1:
        return np.ones(len(hashes), dtype=bool)
    return _mix(hashes) < np.uint64(int(share * 2.0**64))


def _hash(customer_id: str) -> int:
    return int.from_bytes(hashlib.sha256(customer_id.encode()).digest()[:8], "big")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
