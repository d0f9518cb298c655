"""Which feature table the tiles hold. It is behind the declared one while what is new is folded from the log.

The features service writes the live table into `installation` in the transaction that puts its tiles in place. Readers
follow it: a feature that is declared and not live yet is null. Nothing live ("") means that no tile can be read.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from vigie_contracts.errors import Unavailable
from vigie_contracts.features import FeatureSpec, FeatureTable

from vigie_tiles.kernel import Matrix, finalise
from vigie_tiles.layout import Layout
from vigie_tiles.local_days import Ints

FEATURES, LIVE = "features", "live"
"""Keys of the table `installation`: the rows of the live table as JSON, and their hash."""
REBUILT = "the tiles are being rebuilt because their form changed; try again shortly"
_MOST_KEPT = 256
_ROWS = msgspec.json.Decoder(list[FeatureSpec])


def rows_of(table: FeatureTable) -> str:
    """A feature table as JSON."""
    return msgspec.json.encode(table.features).decode()


def table_of(rows: str | bytes) -> FeatureTable:
    """The feature table that `rows_of` wrote."""
    return FeatureTable(_ROWS.decode(rows))


def live_hash(layout: Layout) -> str:
    """16 hex digits over the rows of a layout's table and what its tiles keep for them."""
    return hashlib.sha256(f"{layout.hash} {rows_of(layout.table)}".encode()).hexdigest()[:16]


def live_table(features_db: Path) -> FeatureTable | None:
    """What features.db says is live; None where it says nothing, or nothing is."""
    if not features_db.exists():
        return None
    with contextlib.closing(sqlite3.connect(f"{features_db.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        said = dict(db.execute("SELECT key, value FROM installation WHERE key IN (?, ?)", (LIVE, FEATURES)))
    return table_of(said[FEATURES]) if said.get(LIVE) else None


class Met(NamedTuple):
    """A live table by its hash, with the layout of its tiles."""

    live: str
    layout: Layout


class Following:
    """`now`: the live table that a reader met last; changed when another one is met. Safe among threads."""

    def __init__(self, layout: Layout) -> None:
        self.now = Met(live_hash(layout), layout)

    def at(self, live: str | None, rows: Callable[[], str | bytes]) -> Layout:
        """The layout of tiles whose installation says `live`; `rows` reads what it says of the table.

        Without a word of it (tiles made by hand) the layout stays. Unavailable when nothing is live.
        """
        known, layout = self.now
        if live is None or live == known:
            return layout
        if not live:
            raise Unavailable(REBUILT)
        layout = Layout(table_of(rows()), layout.time_zone)
        self.now = Met(live, layout)
        return layout


def finalise_live(
    layout: Layout,
    features: Sequence[FeatureSpec],
    blobs_by_row: Sequence[Sequence[bytes]],
    t_us: Sequence[int] | Ints | int,
) -> Matrix:
    """As kernel.finalise, with null for a feature that the layout's table does not hold, or not by this definition."""
    places = _live_places(layout, features)
    if len(places) == len(features):
        return finalise(layout, features, blobs_by_row, t_us)
    found = finalise(layout, [features[place] for place in places], blobs_by_row, t_us)
    shape = len(blobs_by_row), len(features)
    values, valid = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    values[:, places], valid[:, places] = found
    return Matrix(values, valid)


def is_live(table: FeatureTable, feature: FeatureSpec) -> bool:
    """Whether a live table holds a feature by the same definition."""
    held = table.by_key.get(feature.key)
    return held is not None and (held is feature or held.definition_hash == feature.definition_hash)


def _live_places(layout: Layout, features: Sequence[FeatureSpec]) -> tuple[int, ...]:
    """Where the live ones stand among these very feature objects, kept with the layout."""
    key = tuple(map(id, features))
    kept = layout.live_places.get(key)
    if kept is None:
        places = tuple(place for place, feature in enumerate(features) if is_live(layout.table, feature))
        if len(layout.live_places) >= _MOST_KEPT:
            layout.live_places.clear()
        kept = layout.live_places[key] = tuple(features), places
    return kept[1]
