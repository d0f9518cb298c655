"""Stock `FeatureStore.get_historical_features` on the archive: order, duplicates, silence, clocks, whole numbers."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from vigie_contracts.errors import InvalidInput
from vigie_contracts.events import LogRecord, Position
from vigie_contracts.instants import DAY_US, from_micros
from vigie_kit import installation
from vigie_tiles import registration

from tests.unit.tiles.histories import write_archive
from tests.unit.tiles.tile_world import NOON, event

CATALOGUE = """
[[micro_conversion]]
name = "app.logged_in"
category = "digital"
label = { en = "Logged in" }
[[micro_conversion]]
name = "card.used"
category = "payments"
label = { en = "Card used" }
properties.amount = { type = "money" }
"""
FEATURES = """
features = [
{ name = "logins", description = "", measure = "count", events = ["app.logged_in"], window_days = 7 },
{ name = "logins", version = 2, description = "", measure = "count", events = ["@customer"], window_days = 7 },
{ name = "silence", description = "", measure = "recency", events = ["app.logged_in"] },
{ name = "spent", description="", measure = "sum", events = ["card.used"], value_property="amount", window_days = 30 },
]
"""
T = from_micros(NOON)
MOST = 2**53 - 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    feature_repo, data = tmp_path_factory.mktemp("feature_repo"), tmp_path_factory.mktemp("data")
    (feature_repo / "catalogue.toml").write_text(CATALOGUE)
    (feature_repo / "features.toml").write_text(FEATURES)
    installation.create(data, time_zone="Europe/Paris")
    log: list[LogRecord] = [
        event(NOON - 3 * DAY_US),
        event(NOON - 2, "card.used", measures={"amount": MOST}),
        event(NOON - 1, "card.used", measures={"amount": 2}),
        event(NOON, member_id="m2"),
    ]
    write_archive(data / "archive", [(Position(0, number), record) for number, record in enumerate(log, 1)])
    return registration.apply(data, feature_repo)


def ask(store: FeatureStore, rows: pd.DataFrame, *names: str, full: bool = False) -> pd.DataFrame:
    features = [f"customer_tiles:{name}" for name in names]
    found: pd.DataFrame = store.get_historical_features(rows, features, full_feature_names=full).to_df()
    return found


def test_every_row_comes_back_in_its_place_doubled_silent_or_early(store: FeatureStore) -> None:
    rows = pd.DataFrame(
        {
            "customer_id": ["nobody", "m1", "m2", "m1", "m1", "m2"],
            "event_timestamp": [T, T, T, T, T - timedelta(days=30), T + timedelta(microseconds=1)],
            "label": [0, 1, 2, 3, 4, 5],
        },
        index=[9, 9, 4, 3, 2, 1],
    )
    found = ask(store, rows, "spent", "logins", "silence")
    assert found.columns.tolist() == ["customer_id", "event_timestamp", "label", "spent", "logins", "silence"]
    assert found["label"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["customer_id"].tolist() == rows["customer_id"].tolist()
    assert found["logins"].tolist() == [0, 1, 0, 1, 0, 1]
    assert found["spent"].tolist() == [0, MOST + 2, 0, MOST + 2, 0, 0]
    assert found["silence"].equals(pd.Series([None, 72, None, 72, None, 0], dtype="Int64"))


def test_a_hundred_thousand_shuffled_rows_with_doubles_and_ties_stay_in_their_places(store: FeatureStore) -> None:
    rng = np.random.default_rng(5)
    count = 130_000
    customers = np.array(["m1", "m2", "nobody", "m1 "])[rng.integers(0, 4, count)]
    steps = np.array([0, 1, -1, DAY_US, -4 * DAY_US, 8 * DAY_US])[rng.integers(0, 6, count)]
    instants = pd.to_datetime(NOON + steps, unit="us", utc=True)
    rows = pd.DataFrame(
        {"customer_id": customers, "event_timestamp": instants, "label": np.arange(count)}, index=rng.permutation(count)
    )
    found = ask(store, rows, "logins", "spent", "silence")
    assert found["label"].tolist() == rows["label"].tolist()
    assert found["customer_id"].tolist() == rows["customer_id"].tolist()
    assert found["event_timestamp"].tolist() == rows["event_timestamp"].tolist()
    key = ["customer_id", "event_timestamp"]
    once = rows[key].drop_duplicates()
    assert len(once) == 24
    each = {tuple(row[:2]): tuple(row[2:]) for row in ask(store, once, "logins", "spent", "silence").to_numpy()}
    expected = [each[pair] for pair in zip(rows["customer_id"], rows["event_timestamp"], strict=True)]
    assert [tuple(row) for row in found[["logins", "spent", "silence"]].to_numpy()] == expected
    assert len(set(expected)) > 6


def test_naive_instants_are_utc_and_others_are_converted(store: FeatureStore) -> None:
    aware = [T, T + timedelta(microseconds=1)]
    naive = pd.to_datetime([stamp.replace(tzinfo=None) for stamp in aware])
    for instants in (naive, naive.tz_localize("UTC").tz_convert("Asia/Kolkata")):
        found = ask(store, pd.DataFrame({"customer_id": ["m2", "m2"], "event_timestamp": instants}), "logins")
        assert found["logins"].tolist() == [0, 1]
        assert [stamp.to_pydatetime() for stamp in found["event_timestamp"]] == aware


def test_names_can_be_full_and_versions_are_columns_of_their_own(store: FeatureStore) -> None:
    rows = pd.DataFrame({"customer_id": ["m1"], "event_timestamp": [T]})
    found = ask(store, rows, "logins@2", "logins", full=True).iloc[:, 2:]
    assert found.to_dict("records") == [{"customer_tiles__logins@2": 3, "customer_tiles__logins": 1}]


def test_a_service_answers_all_its_features(store: FeatureStore) -> None:
    rows = pd.DataFrame({"customer_id": ["m1"], "event_timestamp": [T]})
    job = store.get_historical_features(rows, store.get_feature_service("churn"))
    assert job.to_arrow().select(["logins", "logins@2", "silence", "spent"]).to_pylist() == [
        {"logins": 1, "logins@2": 3, "silence": 72, "spent": MOST + 2}
    ]
    assert sorted(job.metadata.features) == [
        "customer_tiles:logins",
        "customer_tiles:logins@2",
        "customer_tiles:silence",
        "customer_tiles:spent",
    ]


def test_no_rows_give_no_rows(store: FeatureStore) -> None:
    rows = pd.DataFrame({"customer_id": ["m1"], "event_timestamp": [T]})
    found = ask(store, rows.iloc[:0], "logins")
    assert (len(found), found.columns.tolist()) == (0, ["customer_id", "event_timestamp", "logins"])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"customer_id": ["m1", None], "event_timestamp": [T, T]}, "an entity row has no customer_id"),
        ({"customer_id": ["m1", "m2"], "event_timestamp": [T, pd.NaT]}, "an entity row has no event_timestamp"),
        ({"customer_id": ["m1"], "event_timestamp": [T], "logins": [3]}, "columns with names of features: logins"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused(rows: dict[str, object], sentence: str, store: FeatureStore) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        ask(store, pd.DataFrame(rows), "logins")


def test_materialising_is_refused_with_the_reason(store: FeatureStore) -> None:
    with pytest.raises(InvalidInput, match="tiles need no materialisation"):
        store.materialize(T - timedelta(days=1), T)


def test_applying_again_takes_out_what_left_the_table(tmp_path: Path) -> None:
    feature_repo, data = tmp_path / "feature_repo", tmp_path / "data"
    feature_repo.mkdir()
    data.mkdir()
    (feature_repo / "catalogue.toml").write_text(CATALOGUE)
    (feature_repo / "features.toml").write_text(FEATURES)
    installation.create(data)
    registration.apply(data, feature_repo)
    (feature_repo / "features.toml").write_text(FEATURES[: FEATURES.index('{ name = "spent"')] + "]")
    view = registration.apply(data, feature_repo).get_feature_view("customer_tiles")
    assert [field.name for field in view.features] == ["logins", "logins@2", "silence"]
