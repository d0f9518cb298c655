"""Feast's online store on tiles: `online_read` finalises at the installation's clock; nothing is written through Feast.

feature_store.yaml: `online_store: {type: vigie_tiles.online_store.TileOnlineStore, data: DIR, feature_repo: DIR}`,
and `redis: redis://host:port/0` to read the serving copy in Redis instead of features.db. Relative directories are
taken from the directory of feature_store.yaml.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import field_validator
from vigie_contracts.errors import Forbidden, InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import from_micros

from vigie_tiles import clock
from vigie_tiles.layout import Layout
from vigie_tiles.reader import TileRead, TileReader, Tiles
from vigie_tiles.schema import FEATURES_DB

REDIS_VARIABLE = "VIGIE_REDIS_URL"
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


class _Opened(NamedTuple):
    data: Path
    table: FeatureTable
    tiles: Tiles


class TileOnlineStore(OnlineStore):  # type: ignore[misc]
    """Reads feature values at the clock. The features service folds events into tiles; Feast writes nothing."""

    def __init__(self) -> None:
        self._opened: dict[tuple[Path, Path, str], _Opened] = {}

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
        opened = self._open(config, names)
        features = opened.table.select(names)
        customer_ids = [_customer_id(key) for key in entity_keys]
        read = opened.tiles.read(customer_ids, features, clock.now_us(opened.data))
        return _rows(names, read)

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
        data = directory(config, config.online_store.data)
        feature_repo = directory(config, config.online_store.feature_repo)
        where = data, feature_repo, config.online_store.redis
        opened = self._opened.get(where)
        if opened is None:
            table = FeatureTable.load(feature_repo)
            opened = self._opened[where] = _Opened(data, table, _tiles(data, table, config.online_store.redis))
        elif not opened.table.by_key.keys() >= set(names):
            opened = self._opened[where] = opened._replace(table=FeatureTable.load(feature_repo))
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


def _customer_id(key: EntityKeyProto) -> str:
    if len(key.entity_values) != 1 or key.entity_values[0].WhichOneof("val") != "string_val":
        raise InvalidInput("tiles are read by one entity: `customer_id`, a string")
    return str(key.entity_values[0].string_val)


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
