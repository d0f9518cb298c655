"""Feast's online store on tiles: `online_read` finalises at the installation's clock; nothing is written through Feast.

feature_store.yaml: `online_store: {type: vigie_tiles.online_store.TileOnlineStore, data: DIR, feature_repo: DIR}`,
and `redis: redis://host:port/0` to read the serving copy in Redis instead of features.db. Relative directories are
taken from the directory of feature_store.yaml.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from feast import Entity, FeatureView
from feast import utils as feast_utils
from feast.infra.online_stores.online_store import OnlineStore
from feast.metrics import track_feature_statuses
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import field_validator
from vigie_contracts.errors import Forbidden, InvalidInput
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.instants import SECOND_US, from_micros

from vigie_tiles import clock
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileRead, TileReader, Tiles
from vigie_tiles.schema import FEATURES_DB

REDIS_VARIABLE = "VIGIE_REDIS_URL"
MOST_SELECTED = 64
Row = tuple[datetime | None, dict[str, ValueProto] | None]


class TileOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`data`: the installation's data directory; `feature_repo`: the directory of features.toml.

    `redis`: the address of the serving copy; empty, or the name of a variable that is not set, means features.db.
    """

    type: Literal["vigie_tiles.online_store.TileOnlineStore"] = "vigie_tiles.online_store.TileOnlineStore"
    data: str = "../.vigie"
    feature_repo: str = "."
    redis: str = ""

    @field_validator("redis")
    @classmethod
    def _unset(cls, redis: str) -> str:
        """Feast leaves `${VIGIE_REDIS_URL}` as it stands when the variable is not set."""
        return "" if redis == f"${{{REDIS_VARIABLE}}}" else redis


@dataclass(frozen=True)
class _Opened:
    data: Path
    table: FeatureTable
    tiles: Tiles
    selected: dict[tuple[str, ...], tuple[FeatureSpec, ...]] = field(default_factory=dict)

    def select(self, names: Sequence[str]) -> tuple[FeatureSpec, ...]:
        """Their rows, the same objects for the same names; the kernel keeps its plan by them."""
        key = tuple(names)
        found = self.selected.get(key)
        if found is None:
            if len(self.selected) >= MOST_SELECTED:
                self.selected.clear()
            found = self.selected[key] = tuple(self.table.select(key))
        return found


class TileOnlineStore(OnlineStore):  # type: ignore[misc]
    """Reads feature values at the clock. The features service folds events into tiles; Feast writes nothing."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str, str, str], _Opened] = {}

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[Row]:
        """One row a customer: (t as aware UTC, values by feature name). A null is an empty value.

        t = max(clock, newest in the customer's state + 1 µs). A customer without events has the values of none. A
        feature that is declared and not live yet is null.
        """
        names = requested_features or [field.name for field in table.features]
        return _rows(names, self._read(config, names, [_customer_id(key.entity_values) for key in entity_keys]))

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[ValueProto]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """The step that Feast lets a store replace: a column a feature, without a dictionary a customer in between."""
        arguments = join_key_values, entity_name_to_join_key_map
        if include_feature_view_version_metadata:
            super()._read_features_per_fv(
                config, grouped_refs, *arguments, online_features_response, full_feature_names, True
            )
            return
        for view, names in grouped_refs:
            unique, places, length = feast_utils._get_unique_entities(view, *arguments)
            read = self._read(config, names, [_customer_id(list(entity.values())) for entity in unique])
            prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
            online_features_response.metadata.feature_names.val.extend([prefix + name for name in names])
            online_features_response.results.extend(_columns(read, places, length))
            track_feature_statuses(view.name, len(names) * length, 0)

    def _read(self, config: RepoConfig, names: Sequence[str], customer_ids: list[str]) -> TileRead:
        opened = self._open(config, names)
        return opened.tiles.read(customer_ids, opened.select(names), clock.now_us(opened.data))

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[Any], progress: Callable[[int], Any] | None
    ) -> NoReturn:
        """Always raises Forbidden: the features service is the one writer of tiles."""
        raise Forbidden(
            f"{table.name} is not written through Feast: the features service folds events into tiles. "
            "Send events to ingest, or use `vigie import`; materialize and push are not needed"
        )

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Nothing to do: the tables belong to the features service."""

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Nothing is removed: tiles are state of the features service, not of Feast."""
        for opened in self._opened.values():
            opened.tiles.close()
        self._opened.clear()

    def _open(self, config: RepoConfig, names: Sequence[str]) -> _Opened:
        """What was opened before, with the feature table read again when it misses a name."""
        settings = config.online_store
        where = str(config.repo_path), settings.data, settings.feature_repo, settings.redis
        opened = self._opened.get(where)
        if opened is None or not opened.table.by_key.keys() >= set(names):
            data, feature_repo = directory(config, settings.data), directory(config, settings.feature_repo)
            table = FeatureTable.load(feature_repo)
            tiles = _tiles(data, table, settings.redis) if opened is None else opened.tiles
            opened = self._opened[where] = _Opened(data, table, tiles)
        return opened


def _tiles(data: Path, table: FeatureTable, redis_url: str) -> Tiles:
    installed = clock.installation(data)
    layout = Layout(table, installed.time_zone)
    if not redis_url:
        return TileReader(data / FEATURES_DB, layout)
    from vigie_tiles.redis_tiles import RedisTiles  # its client is loaded only where Redis is used

    return RedisTiles(redis_url, installed.created_at, layout)


def directory(config: RepoConfig, text: str) -> Path:
    """A directory of the settings; a relative one begins where feature_store.yaml lies."""
    path = Path(text).expanduser()
    return path if path.is_absolute() or config.repo_path is None else Path(config.repo_path) / path


def _customer_id(values: Sequence[ValueProto]) -> str:
    if len(values) != 1 or values[0].WhichOneof("val") != "string_val":
        raise InvalidInput("tiles are read by one entity: `customer_id`, a string")
    return str(values[0].string_val)


def _columns(
    read: TileRead, places: Sequence[Sequence[int]], length: int
) -> Iterator[GetOnlineFeaturesResponse.FeatureVector]:
    """A vector a feature; `places` says to which of `length` rows each customer that was read goes."""
    rows = [0] * length
    for row, wanted in enumerate(places):
        for place in wanted:
            rows[place] = row
    instants = [divmod(t_us, SECOND_US) for t_us in read.t_us[rows].tolist()]
    stamps = [Timestamp(seconds=seconds, nanos=micros * 1_000) for seconds, micros in instants]
    statuses, null = [FieldStatus.PRESENT] * length, ValueProto()
    values, valid = read.matrix.values[rows].T.tolist(), read.matrix.valid[rows].T.tolist()
    for column, flags in zip(values, valid, strict=True):
        found = [ValueProto(int64_val=value) if present else null for value, present in zip(column, flags, strict=True)]
        yield GetOnlineFeaturesResponse.FeatureVector(values=found, statuses=statuses, event_timestamps=stamps)


def _rows(names: Sequence[str], read: TileRead) -> list[Row]:
    values, valid = read.matrix.values.tolist(), read.matrix.valid.tolist()
    null = ValueProto()
    return [
        (
            from_micros(t_us),
            {
                name: ValueProto(int64_val=value) if present else null
                for name, value, present in zip(names, row, flags, strict=True)
            },
        )
        for t_us, row, flags in zip(read.t_us.tolist(), values, valid, strict=True)
    ]
