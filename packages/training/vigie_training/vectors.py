"""Point-in-time feature vectors through Feast, in the order of the feature table (Feast's own order is not trusted)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore
from feast.errors import FeatureViewNotFoundException
from numpy.typing import NDArray
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.features import FeatureSpec
from vigie_tiles import registration

from vigie_training.population import Ids, Instants

Matrix = NDArray[np.float64]
"""(rows, features); null is NaN. Values are whole numbers below 2^53."""


class TrainingVectors:
    """Stock Feast on a data directory; InvalidInput when the feature table is not registered as it is declared now."""

    def __init__(self, data: Path, feature_repo: Path) -> None:
        self._store: FeatureStore = registration.store(data, feature_repo)

    def at(self, customer_ids: Ids, as_of_us: Instants, features: Sequence[FeatureSpec]) -> Matrix:
        """One row an entity row, in the order given."""
        self._check_registered(features)
        entities = pd.DataFrame(
            {"customer_id": customer_ids, "event_timestamp": pd.to_datetime(as_of_us, unit="us", utc=True)}
        )
        references = [f"{registration.VIEW}:{feature.key}" for feature in features]
        found = self._store.get_historical_features(entities, features=references).to_arrow()
        _check_order(found, customer_ids, as_of_us)
        columns = [_floats(found[feature.key]) for feature in features]
        return np.column_stack(columns) if columns else np.empty((len(customer_ids), 0))

    def _check_registered(self, features: Sequence[FeatureSpec]) -> None:
        try:
            view = self._store.get_feature_view(registration.VIEW)
        except FeatureViewNotFoundException as error:
            raise InvalidInput(
                "the feature table is not registered in Feast yet: run `vigie features apply`"
            ) from error
        registered = {field.name for field in view.features}
        missing = [feature.key for feature in features if feature.key not in registered]
        if missing:
            raise InvalidInput(f"not registered in Feast: {', '.join(missing[:5])}; run `vigie features apply`")


def _check_order(found: pa.Table, customer_ids: Ids, as_of_us: Instants) -> None:
    """A store that dropped, added or moved a row would silently pair features with another row's label."""
    instants = pc.cast(found["event_timestamp"], pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    same = found.num_rows == len(as_of_us) and bool(np.array_equal(instants, as_of_us))
    if not same or found["customer_id"].to_pylist() != list(customer_ids):
        raise IncompatibleData("the offline store answered other rows than were asked for")


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values.astype(np.float64)
