"""Feast's offline store on the batch engine: vectors as of each row's instant, as known then, every row kept."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from pydantic import field_validator
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable

from vigie_tiles.batch import Batch
from vigie_tiles.clock import installation
from vigie_tiles.provider import NO_MATERIALISATION, Refused

JOIN_KEY = "customer_id"
TIMESTAMP = "event_timestamp"


class TileOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`data`: Vigie's data directory; `feature_repo`: the directory of catalogue.toml and features.toml.

    Relative directories are taken from the directory of feature_store.yaml.
    """

    type: Literal["vigie_tiles.offline_store.TileOfflineStore"] = "vigie_tiles.offline_store.TileOfflineStore"
    data: str = "../.vigie"
    feature_repo: str = "."

    @field_validator("data")
    @classmethod
    def _expanded(cls, data: str) -> str:
        if "$" in data:
            raise Refused(f"set VIGIE_DATA to Vigie's data directory, as an absolute path (it says {data!r} now)")
        return data


class TileRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """A query that is run when its rows are asked for; the entity rows come back in their own order."""

    def __init__(self, run: Callable[[], pa.Table], full_feature_names: bool, metadata: RetrievalMetadata) -> None:
        self._run = run
        self._full_feature_names = full_feature_names
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether feature columns are named `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """None: Vigie's features are data, not functions."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Which features, keys and range of event times the rows hold."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self.to_df(timeout=timeout)

    def to_df(self, validation_reference: Any = None, timeout: int | None = None) -> pd.DataFrame:
        """The rows with nullable `Int64` columns: Feast's own would turn a column with a null into floats."""
        table = self.to_arrow(validation_reference=validation_reference, timeout=timeout)
        frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return frame

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Not offered: keep the frame where you keep your training sets."""
        raise InvalidInput("this store keeps no saved datasets; write the frame of to_df() or to_arrow() yourself")


class TileOfflineStore(OfflineStore):  # type: ignore[misc]
    """Answers get_historical_features with `vigie_tiles.batch`."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **_options: Any,
    ) -> RetrievalJob:
        """Vectors at each row's `event_timestamp` (naive means UTC), features in the order asked for."""
        rows = _entity_rows(entity_df)
        settings = config.offline_store
        data, feature_repo = (_directory(config, text) for text in (settings.data, settings.feature_repo))
        instants = _micros(rows[TIMESTAMP])
        names = {ref: ref.replace(":", "__") if full_feature_names else _feature(ref) for ref in feature_refs}
        taken = sorted(set(names.values()) & set(rows.columns))
        if taken:
            raise InvalidInput(f"the entity rows have columns with names of features: {', '.join(taken)}")

        def run() -> pa.Table:
            return _vectors(data, feature_repo, rows, instants, names)

        keys = [column for column in rows.columns if column != TIMESTAMP]
        extent = (instants.min(), instants.max()) if len(rows) else ()
        stamps = [pd.Timestamp(edge, unit="us", tz="UTC") for edge in extent]
        return TileRetrievalJob(run, full_feature_names, RetrievalMetadata(list(feature_refs), keys, *stamps))

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Refused with a reason: this is what `feast materialize` would call."""
        raise Refused(NO_MATERIALISATION)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Refused with a reason."""
        raise Refused(NO_MATERIALISATION)

    @staticmethod
    def validate_data_source(config: RepoConfig, data_source: DataSource) -> None:
        """The archive may still be empty: nothing to check."""


def _entity_rows(given: object) -> pd.DataFrame:
    if not isinstance(given, pd.DataFrame):
        raise InvalidInput(f"give the entity rows as a pandas DataFrame with {JOIN_KEY} and {TIMESTAMP}")
    for column in (JOIN_KEY, TIMESTAMP):
        if column not in given.columns:
            raise InvalidInput(f"the entity rows need a column {column!r}")
        if given[column].isna().any():
            raise InvalidInput(f"an entity row has no {column}")
    return given.reset_index(drop=True)


def _directory(config: RepoConfig, text: str) -> Path:
    path = Path(text).expanduser()
    return path if path.is_absolute() or config.repo_path is None else Path(config.repo_path) / path


def _feature(reference: str) -> str:
    """`customer_tiles:login_count_7d` → `login_count_7d`."""
    return reference.split(":", 1)[1]


def _micros(column: "pd.Series[Any]") -> npt.NDArray[np.int64]:
    """Instants in microseconds; naive ones are UTC, fractions of a microsecond are dropped."""
    instants = pd.to_datetime(column, utc=True)
    return np.asarray(instants.dt.as_unit("us").astype("int64"), dtype=np.int64)


def _vectors(
    data: Path, feature_repo: Path, rows: pd.DataFrame, instants: npt.NDArray[np.int64], names: dict[str, str]
) -> pa.Table:
    """The entity rows with their own columns first (`event_timestamp` in UTC), then the features as `names` says."""
    table = FeatureTable.load(feature_repo)
    customers = pa.array(rows[JOIN_KEY].astype(str), pa.string())
    labels = pa.table({"customer_id": customers, "t_us": pa.array(instants, pa.int64())})
    with Batch(data / "archive", table, installation(data).time_zone) as batch:
        vectors = batch.vectors(labels, table.select([_feature(reference) for reference in names]))
    answer = pa.Table.from_pandas(
        rows.assign(**{TIMESTAMP: pd.to_datetime(instants, unit="us", utc=True)}), preserve_index=False
    )
    for reference, name in names.items():
        answer = answer.append_column(name, vectors[_feature(reference)])
    return answer
