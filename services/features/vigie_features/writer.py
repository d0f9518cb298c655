"""The one writer: consumes, folds for a changed table, walks and sweeps in turns, so that no two writers ever meet."""

from collections.abc import Callable

from vigie_kit.wakeup import Notifier

from vigie_features.folding import Folding
from vigie_features.generation import Generations


class Writer:
    """The step of the writer's thread. Under load the sweep still gets a page every `sweep_seconds`."""

    def __init__(
        self,
        generations: Generations,
        folding: Folding,
        notifiers: tuple[Notifier, ...],
        *,
        sweep_seconds: float,
        system_seconds: Callable[[], float],
    ) -> None:
        self._generations = generations
        self._folding = folding
        self._notifiers = notifiers
        self._sweep_seconds = sweep_seconds
        self._system_seconds = system_seconds
        self._next_sweep = float("-inf")

    def step(self) -> bool:
        """Do what is next and wake the readers of the logs; False when nothing is left for now."""
        if not self._generations.is_live:
            return self._folding.step()
        folded = self._folding.step()  # first: a damaged tile stops the consumer, and a replay makes it whole
        consumed = self._generations.current.consumer.step()
        walked = self._generations.current.walking.step()
        swept_all = self._sweep()
        if consumed or walked or not swept_all:
            self._notify()
        return consumed or folded or walked or not swept_all

    def _sweep(self) -> bool:
        """A page when it is time; True when nobody who is due is left waiting."""
        if self._system_seconds() < self._next_sweep:
            return True
        sweeper = self._generations.current.sweeper
        visited = sweeper.rows_read
        more = sweeper.step()
        if not more:
            self._next_sweep = self._system_seconds() + self._sweep_seconds
        if sweeper.rows_read > visited:
            self._notify()
        return not more

    def _notify(self) -> None:
        for notifier in self._notifiers:
            notifier.notify()
