"""Feast's objects, generated from the feature table: one entity, one view with every feature, services that select."""

from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Int64
from vigie_contracts.features import FeatureTable, feature_spec_hash

PROJECT = "vigie"
VIEW = "customer_tiles"
PROVIDER = "vigie_tiles.provider.TileProvider"
SPEC_HASH_TAG = "vigie.feature_spec_hash"
ORDER_TAG = "vigie.features"
SERVICES = ("all", "churn", "next_best_offer")


def feast_objects(data: Path, feature_repo: Path) -> list[Any]:
    """Entity `customer`, view `customer_tiles` and the services; tags carry the ordered feature list and its hash.

    Feast's own order of features depends on the hash seed, so a vector is ordered by the tag.
    """
    table = FeatureTable.load(feature_repo)
    customer = Entity(
        name="customer",
        join_keys=["customer_id"],
        value_type=ValueType.STRING,
        description="A customer: a set of members that identity resolution joined",
    )
    view = FeatureView(
        name=VIEW,
        entities=[customer],
        schema=[Field(name=row.key, dtype=Int64, description=row.description) for row in table.features],
        source=FileSource(name="archive", path=str(data / "archive"), timestamp_field="event_timestamp"),
        online=True,
        description="Windows, recency, rhythm and attributes, computed when they are read",
    )
    tags = {SPEC_HASH_TAG: feature_spec_hash(table.features), ORDER_TAG: ",".join(table.by_key)}
    services = [FeatureService(name=name, features=[view], tags=tags) for name in SERVICES]
    return [customer, view, *services]


def store(data: Path, feature_repo: Path, redis_url: str = "") -> FeatureStore:
    """A FeatureStore on a data directory: SQL registry, tile stores, project `vigie`.

    With `redis_url` (redis://host:port/0) online reads come from the serving copy in Redis.
    """
    stores = {"data": str(data.resolve()), "feature_repo": str(feature_repo.resolve())}
    config = RepoConfig(
        project=PROJECT,
        provider=PROVIDER,
        registry={"registry_type": "sql", "path": f"sqlite:///{data.resolve()}/registry.db", "cache_ttl_seconds": 60},
        online_store={"type": "vigie_tiles.online_store.TileOnlineStore", "redis": redis_url, **stores},
        offline_store={"type": "vigie_tiles.offline_store.TileOfflineStore", **stores},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def apply(data: Path, feature_repo: Path) -> FeatureStore:
    """Register the feature table in Feast; answers the store. Rows that left the table leave the view."""
    found = store(data, feature_repo)
    found.apply(feast_objects(data.resolve(), feature_repo))
    return found
