"""The one writer: rebuild first, then consume, walk and sweep in turns, so that no two writers ever meet."""

from collections.abc import Callable

from vigie_kit.wakeup import Notifier

from vigie_features.consumer import Consumer
from vigie_features.rebuild import Rebuild
from vigie_features.sweep import Sweeper


class Writer:
    """The step of the writer's thread. Under load the sweep still gets a page every `sweep_seconds`."""

    def __init__(
        self,
        rebuild: Rebuild,
        consumer: Consumer,
        sweeper: Sweeper,
        notifiers: tuple[Notifier, ...],
        *,
        sweep_seconds: float,
        system_seconds: Callable[[], float],
    ) -> None:
        self.rebuilt = False
        self._rebuild = rebuild
        self._consumer = consumer
        self._sweeper = sweeper
        self._notifiers = notifiers
        self._sweep_seconds = sweep_seconds
        self._system_seconds = system_seconds
        self._next_sweep = float("-inf")

    def step(self) -> bool:
        """Do what is next and wake the readers of the logs; False when nothing is left for now."""
        if not self.rebuilt:
            self.rebuilt = not self._rebuild.step()
            if not self.rebuilt:
                return True
            self._notify()
        consumed = self._consumer.step()
        walked = self._rebuild.walk()
        swept_all = self._sweep()
        if consumed or walked or not swept_all:
            self._notify()
        return consumed or walked or not swept_all

    def _sweep(self) -> bool:
        """A page when it is time; True when nobody who is due is left waiting."""
        if self._system_seconds() < self._next_sweep:
            return True
        visited = self._sweeper.rows_read
        more = self._sweeper.step()
        if not more:
            self._next_sweep = self._system_seconds() + self._sweep_seconds
        if self._sweeper.rows_read > visited:
            self._notify()
        return not more

    def _notify(self) -> None:
        for notifier in self._notifiers:
            notifier.notify()
