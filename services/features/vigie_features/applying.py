"""`vigie features apply` on the running system: the table is read again, and what is new is folded while it serves."""

from collections.abc import Callable

from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.reads import ApplyAnswer

from vigie_features.folding import Folding, awaited
from vigie_features.store import Store


class Applying:
    """The command: one short transaction; the writer's thread does the rest."""

    def __init__(
        self,
        store: Store,
        folding: Folding,
        load: Callable[[], FeatureTable],
        used: Callable[[], dict[str, tuple[str, ...]]],
    ) -> None:
        self._store = store
        self._folding = folding
        self._load = load
        self._used = used

    def apply(self) -> ApplyAnswer:
        """InvalidInput says what is wrong with the table, also when a segment names a feature that left it."""
        table = self._load()
        for key, names in self._used().items():
            lost = [name for name in names if name not in table.by_key]
            if lost:
                raise InvalidInput(
                    f"segment {key!r} names {', '.join(lost)}, which the table does not declare any more"
                )
        with self._store.writing("features.apply_") as tx:
            keys = self._folding.aim(tx, table)
            return ApplyAnswer(features=len(table.features), awaited=keys, until=tx.applied())

    def replay(self) -> ApplyAnswer:
        """Fold all tiles anew from the log; those that are there are served until then."""
        with self._store.writing("features.apply_") as tx:
            table = self._folding.replay(tx)
            return ApplyAnswer(features=len(table.features), awaited=awaited(tx), until=tx.applied())
