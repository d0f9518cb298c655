"""Everything that depends on the feature table that is live, made anew when another table becomes live.

The writer's thread switches. Requests in other threads may meet that, and are then answered by what came after it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vigie_contracts.errors import IncompatibleData
from vigie_contracts.segments import features_used
from vigie_tiles.layout import Layout

from vigie_features.consumer import Consumer
from vigie_features.defining import Defining
from vigie_features.definitions import Definitions
from vigie_features.folding import FAILPOINT, put_live
from vigie_features.previewing import Previewing
from vigie_features.reading import Reading
from vigie_features.store import Store
from vigie_features.sweep import Sweeper
from vigie_features.walking import Walking

if TYPE_CHECKING:
    from vigie_features.serving import ServingCopy

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True)
class Generation:
    """The parts for one feature table. `serving` is there where a Redis is set."""

    layout: Layout
    definitions: Definitions
    consumer: Consumer
    sweeper: Sweeper
    walking: Walking
    reading: Reading
    previewing: Previewing
    defining: Defining
    serving: "ServingCopy | None" = None


class Generations:
    """`current` are the parts in use. `is_live` is false while no tile can be read."""

    def __init__(self, store: Store, make: Callable[[Layout], Generation], first: Layout, *, is_live: bool) -> None:
        self.is_live = is_live
        self._store = store
        self._make = make
        self._switching = threading.Lock()
        self.current = make(first)
        with store.writing(FAILPOINT) as tx:
            if is_live:
                self.current.walking.prepare(tx)

    def switch(self, layout: Layout) -> None:
        """Put the next tiles in place and work for this layout from now on. Only the writer's thread calls it."""
        following = self._make(layout)
        with self._switching:
            with self._store.writing(FAILPOINT, erasing=True) as tx:
                were_live = put_live(tx, layout)
                following.walking.prepare(tx, announce=not were_live)
            if following.serving is not None:
                following.serving.fill_anew()
            self.current, self.is_live = following, True

    def features_in_use(self) -> dict[str, tuple[str, ...]]:
        """The features that each standing segment names."""
        with self._store.snapshot() as snapshot:
            standing = self.current.definitions.at(snapshot)
        return {segment.spec.key: features_used(segment.tree) for segment in standing.segments}

    def answer(self, ask: Callable[[Generation], Callable[[A], R]]) -> Callable[[A], R]:
        """A method of the parts as a function that is safe while they are switched."""

        def answered(asked: A) -> R:
            used = self.current
            try:
                return ask(used)(asked)
            except IncompatibleData:
                with self._switching:
                    now = self.current
                if now is used:
                    raise
                return ask(now)(asked)

        return answered
