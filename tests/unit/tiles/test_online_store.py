"""Stock Feast over tiles: `get_online_features` finalises at the clock, by name, in any process time zone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64
from vigie_contracts.errors import Forbidden, InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import ClockSetting, Installation
from vigie_tiles import clock
from vigie_tiles.layout import Layout
from vigie_tiles.online_store import TileOnlineStore, TileOnlineStoreConfig, directory
from vigie_tiles.reader import TileReader

from tests.unit.tiles.tile_world import DAY, HOUR, event, identify, write_features_db

ASKED = ("login_count_7d", "login_recency", "active_days_30d", "login_trend_7d", "age_band")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def far_time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process runs in another zone than UTC and than the institution."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def data(tmp_path: Path, feature_repo: Path) -> Path:
    """A data directory whose clock stands (rate 0 is not allowed: it runs at a millionth) beside known events."""
    now = time.time_ns() // 1000
    slow = ClockSetting(base_real_us=now, base_virtual_us=now, rate=1e-6)
    installation = Installation(time_zone="Europe/Paris", clock=slow)
    (tmp_path / "installation.json").write_bytes(msgspec.json.encode(installation))
    events = [
        event(now - HOUR * 5 // 2, member_id="c1"),
        event(now - 3 * DAY, member_id="c1"),
        event(now - 9 * DAY, member_id="c1b"),
        identify(now - 20 * DAY, age_band="35-49"),
        event(now + 10 * DAY, member_id="ahead"),
    ]
    events[3] = msgspec.structs.replace(events[3], member_id="c1")
    layout = Layout(FeatureTable.load(feature_repo), "Europe/Paris")
    write_features_db(tmp_path / "features.db", layout, events, {"c1b": "c1"})
    return tmp_path


@pytest.fixture
def store(data: Path, feature_repo: Path) -> FeatureStore:
    found = FeatureStore(config=_config(data, feature_repo))
    _apply(found, data, feature_repo)
    return found


def test_values_are_finalised_at_the_clock_and_come_by_name(store: FeatureStore, far_time_zone: None) -> None:
    found = store.get_online_features(
        features=[f"customer_tiles:{name}" for name in ASKED],
        entity_rows=[{"customer_id": name} for name in ("nobody", "c1", "ahead", "c1")],
    ).to_dict()
    assert found["customer_id"] == ["nobody", "c1", "ahead", "c1"]
    assert found["login_count_7d"] == [0, 2, 1, 2]
    assert found["login_recency"] == [None, 2, 0, 2]
    assert found["login_trend_7d"] == [1000, 2000, 10_000, 2000]
    assert found["active_days_30d"] == [0, 3, 1, 3]
    assert found["age_band"] == [None, 2, None, 2]


def test_each_rows_timestamp_is_its_read_instant(store: FeatureStore, data: Path, far_time_zone: None) -> None:
    response = store.get_online_features(
        features=["customer_tiles:login_count_7d"],
        entity_rows=[{"customer_id": name} for name in ("nobody", "c1", "ahead")],
    )
    (vector,) = [
        vector
        for name, vector in zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
        if name == "login_count_7d"
    ]
    now, ahead = clock.now_us(data), clock.now_us(data) + 10 * DAY
    instants = [stamp.ToMicroseconds() for stamp in vector.event_timestamps]
    assert [round((at - now) / 1e6) for at in instants] == [0, 0, round((ahead - now) / 1e6)]
    assert list(vector.statuses) == [FieldStatus.PRESENT] * 3


def test_feast_and_the_direct_reader_agree_on_every_feature(
    store: FeatureStore, data: Path, feature_repo: Path
) -> None:
    table = FeatureTable.load(feature_repo)
    asked = ["c1", "ahead", "nobody"]
    found = store.get_online_features(
        features=store.get_feature_service("all"), entity_rows=[{"customer_id": name} for name in asked]
    ).to_dict()
    reader = TileReader(data / "features.db", Layout(table, "Europe/Paris"))
    direct = reader.read(asked, table.features, clock.now_us(data))
    for column, row in enumerate(table.features):
        pairs = zip(direct.matrix.values[:, column].tolist(), direct.matrix.valid[:, column].tolist(), strict=True)
        assert found[row.key] == [value if valid else None for value, valid in pairs], row.key


def test_results_are_right_by_name_under_any_hash_seed(store: FeatureStore, data: Path, feature_repo: Path) -> None:
    zero, one = _read_in_processes(data, feature_repo, (0, 1))
    assert zero == one
    assert zero == {
        "customer_id": ["c1"],
        "login_count_7d": [2],
        "login_recency": [2],
        "active_days_30d": [3],
        "login_trend_7d": [2000],
        "age_band": [2],
    }


def test_timestamps_are_aware_utc(store: FeatureStore, data: Path, feature_repo: Path, far_time_zone: None) -> None:
    config, view = store.config, store.get_feature_view("customer_tiles")
    ((stamp, values),) = TileOnlineStore().online_read(config, view, [_key("c1")], ["login_recency", "age_band"])
    assert stamp is not None
    assert stamp.tzinfo is UTC
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
    assert values == {"login_recency": Value(int64_val=2), "age_band": Value(int64_val=2)}


def test_writing_through_feast_is_refused_with_the_reason(store: FeatureStore) -> None:
    view = store.get_feature_view("customer_tiles")
    with pytest.raises(Forbidden, match="the features service folds events into tiles"):
        TileOnlineStore().online_write_batch(store.config, view, [], None)


def test_registering_again_and_tearing_down_leave_the_tiles_alone(
    store: FeatureStore, data: Path, feature_repo: Path
) -> None:
    before = (data / "features.db").read_bytes()
    _apply(store, data, feature_repo)
    row = {"features": ["customer_tiles:login_count_7d"], "entity_rows": [{"customer_id": "c1"}]}
    assert store.get_online_features(**row).to_dict()["login_count_7d"] == [2]
    store.teardown()
    assert (data / "features.db").read_bytes() == before


def test_the_entity_must_be_one_string(store: FeatureStore) -> None:
    view = store.get_feature_view("customer_tiles")
    number = EntityKey(join_keys=["customer_id"], entity_values=[Value(int64_val=1)])
    with pytest.raises(InvalidInput, match="`customer_id`, a string"):
        TileOnlineStore().online_read(store.config, view, [number], ["login_count_7d"])
    with pytest.raises(InvalidInput, match="no such feature: gone"):
        TileOnlineStore().online_read(store.config, view, [_key("c1")], ["gone"])


def test_relative_directories_begin_at_the_feature_store_file(tmp_path: Path) -> None:
    config = RepoConfig(
        project="p", provider="local", registry="r.db", repo_path=tmp_path, entity_key_serialization_version=3
    )
    assert directory(config, "../data") == tmp_path / "../data"
    assert directory(config, "/else/where") == Path("/else/where")
    assert TileOnlineStoreConfig().type == f"{TileOnlineStore.__module__}.{TileOnlineStore.__name__}"


def _config(data: Path, feature_repo: Path) -> RepoConfig:
    stores = {"data": str(data), "feature_repo": str(feature_repo)}
    return RepoConfig(
        project="vigie",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{data}/registry.db", "cache_ttl_seconds": 60},
        online_store={"type": "vigie_tiles.online_store.TileOnlineStore", **stores},
        entity_key_serialization_version=3,
    )


def _apply(store: FeatureStore, data: Path, feature_repo: Path) -> None:
    table = FeatureTable.load(feature_repo)
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="customer_tiles",
        entities=[customer],
        schema=[Field(name=row.key, dtype=Int64) for row in table.features],
        source=FileSource(name="archive", path=str(data / "archive.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([customer, view, FeatureService(name="all", features=[view])])


def _key(customer_id: str) -> EntityKey:
    return EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=customer_id)])


_PROGRAM = """
import json, sys
from pathlib import Path
from feast import FeatureStore
from tests.unit.tiles.test_online_store import ASKED, _config
store = FeatureStore(config=_config(Path(sys.argv[1]), Path(sys.argv[2])))
rows = [{"customer_id": "c1"}]
print(json.dumps(store.get_online_features([f"customer_tiles:{name}" for name in ASKED], rows).to_dict()))
"""


def _read_in_processes(data: Path, feature_repo: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The same read in processes of different hash seeds, side by side: importing Feast takes seconds."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(data), str(feature_repo)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(seed), "TZ": "America/Sao_Paulo"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    answers = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(seeds)
    return [json.loads(answer) for answer in answers]
