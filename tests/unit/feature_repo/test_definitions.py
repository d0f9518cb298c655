"""Stock `feast apply` on the shipped repository, and the sentence it says without a data directory."""

import os
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from feast.repo_config import load_repo_config
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable, feature_spec_hash
from vigie_kit import installation
from vigie_tiles import registration

FEAST = Path(sys.executable).with_name("feast")


def test_feast_apply_registers_what_the_table_declares(feature_repo: Path, tmp_path: Path) -> None:
    installation.create(tmp_path)
    applied = subprocess.run(
        [str(FEAST), "-c", str(feature_repo), "apply"],
        env={**os.environ, "FEAST_USAGE": "False", "TZ": "UTC", "VIGIE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    store = registration.store(tmp_path, feature_repo)
    table = FeatureTable.load(feature_repo)
    view = store.get_feature_view("customer_tiles")
    assert [field.name for field in view.features] == [row.key for row in table.features]
    assert {str(field.dtype) for field in view.features} == {"Int64"}
    assert [entity.join_key for entity in store.list_entities()] == ["customer_id"]
    services = {service.name: service.tags for service in store.list_feature_services()}
    tags = {
        "vigie.feature_spec_hash": feature_spec_hash(table.features),
        "vigie.features": ",".join(row.key for row in table.features),
    }
    assert services == {name: tags for name in ("all", "churn", "next_best_offer")}
    with sqlite3.connect(tmp_path / "registry.db") as registry:
        assert registry.execute("SELECT count(*) FROM feature_views").fetchone() == (1,)


def test_settings_without_a_data_directory_say_what_to_set(feature_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIGIE_DATA", raising=False)
    with pytest.raises(InvalidInput, match="set VIGIE_DATA to Vigie's data directory, as an absolute path"):
        load_repo_config(feature_repo, feature_repo / "feature_store.yaml")


def test_definitions_refuse_a_relative_data_directory(feature_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_DATA", "relative/data")
    with pytest.raises(SystemExit, match="Set VIGIE_DATA to Vigie's data directory as an absolute path"):
        runpy.run_path(str(feature_repo / "definitions.py"))
