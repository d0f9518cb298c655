"""Slices by as-of date, train < calibrate < test: each label window closes before the next slice starts (purge)."""

from dataclasses import dataclass

import msgspec
import numpy as np
from vigie_contracts.errors import InvalidInput
from vigie_contracts.instants import DAY_US

from vigie_training.snapshots import LabelledRows, Mask

TRAIN_SHARE = 0.55
CALIBRATE_SHARE = 0.2
FEWEST_POSITIVES = {"train": 30, "calibrate": 10, "test": 10}


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """What a slice holds. The as-of instants lie in [from_us, to_us]."""

    name: str
    from_us: int
    to_us: int
    rows: int
    positives: int
    customers: int


@dataclass(frozen=True)
class Split:
    """Masks over the rows of a set, in one of three slices or in none (purged)."""

    train: Mask
    calibrate: Mask
    test: Mask

    def of(self, name: str) -> Mask:
        """The mask of a slice by name."""
        mask: Mask = getattr(self, name)
        return mask


def by_time(rows: LabelledRows, span_us: int) -> Split:
    """Split the range of as-of instants, less two label spans, 55 : 20 : 25. InvalidInput when the range is too short.

    `span_us` is the time from as-of until the label is known.
    """
    first, last = int(rows.as_of_us.min()), int(rows.as_of_us.max())
    usable = last - first - 2 * span_us
    if usable <= 0:
        raise InvalidInput(
            f"mature rows reach over {(last - first) / DAY_US:.0f} days; three slices with their label windows apart"
            f" need more than {2 * span_us / DAY_US:.0f} days: wait, import more history, or shorten gap and horizon"
        )
    train_end = first + int(TRAIN_SHARE * usable)
    calibrate_start = train_end + span_us
    calibrate_end = calibrate_start + int(CALIBRATE_SHARE * usable)
    test_start = calibrate_end + span_us
    at = rows.as_of_us
    split = Split(train=at < train_end, calibrate=(at >= calibrate_start) & (at < calibrate_end), test=at >= test_start)
    check_positives(rows, split)
    return split


def check_positives(rows: LabelledRows, split: Split) -> None:
    """InvalidInput unless each slice has enough of both outcomes to say anything."""
    for name, fewest in FEWEST_POSITIVES.items():
        found = rows.take(split.of(name))
        if found.positives < fewest or len(found) - found.positives < fewest:
            raise InvalidInput(
                f"the {name} slice has {found.positives} positive labels in {len(found)} rows; {fewest} of each"
                " kind are needed: wait for more history, or choose a longer horizon"
            )


def describe(name: str, rows: LabelledRows) -> Slice:
    """The figures of a slice."""
    return Slice(
        name=name,
        from_us=int(rows.as_of_us.min()),
        to_us=int(rows.as_of_us.max()),
        rows=len(rows),
        positives=rows.positives,
        customers=len(np.unique(rows.customer_ids.astype(str))),
    )
