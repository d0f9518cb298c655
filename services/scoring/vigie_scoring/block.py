"""Features of a batch of customers at one read: columns by key, as vectors for models and as values for predicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from vigie_contracts.features import FeatureSpec
from vigie_contracts.scores import ReadPoint

from vigie_scoring.loaded import Matrix32


@dataclass(frozen=True)
class FeatureBlock:
    """Integers (n, f) with their validity, the instant of each row and the position of the whole read."""

    rows: Mapping[str, int]
    columns: Mapping[str, int]
    values: NDArray[np.int64]
    valid: NDArray[np.bool_]
    t_us: NDArray[np.int64]
    pos: dict[int, int]
    present: NDArray[np.bool_]

    def matrix(self, customer_ids: Sequence[str], features: Sequence[FeatureSpec]) -> Matrix32:
        """Float32 rows (customers, features), null as NaN."""
        rows = np.array([self.rows[customer_id] for customer_id in customer_ids], dtype=np.int64)
        columns = np.array([self.columns[feature.key] for feature in features], dtype=np.int64)
        chosen = np.ix_(rows, columns)
        return np.where(self.valid[chosen], self.values[chosen], np.nan).astype(np.float32)

    def vector(self, customer_id: str, features: Sequence[FeatureSpec]) -> list[int | None]:
        """One customer's integers in the order of `features`."""
        row = self.rows[customer_id]
        columns = [self.columns[feature.key] for feature in features]
        return [int(self.values[row, c]) if self.valid[row, c] else None for c in columns]

    def named(self, customer_id: str, keys: Sequence[str]) -> dict[str, int | None]:
        """One customer's integers by feature key."""
        row = self.rows[customer_id]
        columns = {key: self.columns[key] for key in keys}
        return {key: int(self.values[row, c]) if self.valid[row, c] else None for key, c in columns.items()}

    def read_point(self, customer_id: str) -> ReadPoint:
        """(t, pos) of a customer's row."""
        return ReadPoint(t_us=self.instant(customer_id), pos=self.pos)

    def instant(self, customer_id: str) -> int:
        """The row's instant t in microseconds."""
        return int(self.t_us[self.rows[customer_id]])

    def is_present(self, customer_id: str) -> bool:
        """Whether the store holds any state of the customer."""
        return bool(self.present[self.rows[customer_id]])
