"""Training against a real MLflow server: logs, registers, passes the gate or not, promotes, rolls back."""

import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import mlflow
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from mlflow import MlflowClient
from vigie_contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import BOOSTER_FILE, MODEL_FILE, PROPENSITY_MODEL, SPEC_HASH_TAG, decode_document
from vigie_kit.clock import Clock
from vigie_scoring.loaded import load_model
from vigie_training import main
from vigie_training.calibration import calibrate
from vigie_training.failpoints import FAILPOINTS
from vigie_training.main import TrainedRun
from vigie_training.preview import preview
from vigie_training.promotion import Promoter
from vigie_training.registry import Registry
from vigie_training.store import Ledger

from tests import warm
from tests.integration.training_world import FEATURE_REPO, OFFERS, START_US, data_directory, made_up_bank
from tests.servers import free_port, mlflow_server

CHURN = "vigie-churn-closure"
DAYS = 130
CUSTOMERS = 500


class Lab:
    """A data directory, its clock, a registry, and a churn model trained once."""

    def __init__(self, data: Path, clock: Clock, uri: str) -> None:
        self.data, self.clock, self.uri = data, clock, uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.said: list[str] = []
        self.first = self.train("churn")

    def train(self, kind: str, **more: object) -> TrainedRun:
        return main.train(
            kind,  # type: ignore[arg-type]
            data=self.data,
            mlflow_uri=self.uri,
            clock=self.clock,
            progress=self.said.append,
            **{"feature_repo": FEATURE_REPO, **more},  # type: ignore[arg-type]
        )

    def promote(self, name: str, **more: str) -> main.GateReport:
        return main.promote(
            name,
            data=self.data,
            mlflow_uri=self.uri,
            clock=self.clock,
            who="tester",
            **more,  # type: ignore[arg-type]
        )

    def rollback(self, name: str) -> main.LedgerRow:
        return main.rollback(name, data=self.data, mlflow_uri=self.uri, clock=self.clock, who="tester")

    def twins(self, name: str) -> tuple[str, str]:
        """A model of its own whose two versions are both the churn model that was trained first."""
        trained = f"models:/{CHURN}/{self.first.version}"
        one, two = (self.client.copy_model_version(trained, name) for _ in range(2))
        return str(one.version), str(two.version)

    def artifacts(self, run: TrainedRun, folder: Path) -> Path:
        """The logged model's files."""
        mlflow.set_tracking_uri(self.uri)
        return Path(
            mlflow.artifacts.download_artifacts(f"models:/{run.model_name}/{run.version}", dst_path=str(folder))
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("training")
    clock = data_directory(folder / "data", made_up_bank(customers=CUSTOMERS, days=DAYS), days=DAYS)
    with mlflow_server(folder) as uri:
        yield Lab(folder / "data", clock, uri)


def test_a_run_leaves_its_papers_and_a_challenger(lab: Lab) -> None:
    run = lab.client.get_run(lab.first.run_id)
    files = {file.path for file in lab.client.list_artifacts(lab.first.run_id)}
    assert files >= {"model_card.md", "reliability.png", "lift.png", "top_features.png", "figures.json", "gate"}
    assert run.data.tags[SPEC_HASH_TAG] == lab.first.spec_hash
    assert run.data.params["split"] == "time"
    assert run.data.metrics["auc"] == lab.first.figures["auc"].value
    assert run.data.metrics["auc_low"] < run.data.metrics["auc"] < run.data.metrics["auc_high"]
    version = Registry(lab.uri).version(CHURN, lab.first.version)
    assert version.tags[SPEC_HASH_TAG] == lab.first.spec_hash
    assert (
        "challenger"
        in Registry(lab.uri).version(CHURN, lab.client.get_model_version_by_alias(CHURN, "challenger").version).aliases
    )
    assert any("through Feast" in said for said in lab.said)


def test_the_logged_model_holds_no_pickle_and_names_its_columns(lab: Lab, tmp_path: Path) -> None:
    folder = lab.artifacts(lab.first, tmp_path)
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {BOOSTER_FILE, MODEL_FILE, "served_model.py", "MLmodel", "requirements.txt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".cloudpickle", ".joblib"))]
    document = decode_document((folder / "artifacts" / MODEL_FILE).read_bytes())
    signature = mlflow.models.get_model_info(str(folder)).signature
    assert signature.inputs.input_names() == document.features
    types = {column.name: column.type.name for column in signature.inputs}
    assert (types["login_count_7d"], types["login_recency"], types["income_band"]) == ("long", "double", "double")
    assert all("==" in line for line in (folder / "requirements.txt").read_text().split())


def test_pyfunc_gives_the_calibrated_probabilities_of_the_booster_in_any_column_order(lab: Lab, tmp_path: Path) -> None:
    folder = lab.artifacts(lab.first, tmp_path)
    document = decode_document((folder / "artifacts" / MODEL_FILE).read_bytes())
    booster = xgboost.Booster(model_file=str(folder / "artifacts" / BOOSTER_FILE))
    _, test = Registry(lab.uri).evidence(Registry(lab.uri).version(CHURN, lab.first.version))
    margins = booster.inplace_predict(test.vectors.astype(np.float32), predict_type="margin", missing=np.nan)
    expected = calibrate(document.calibrator, np.asarray(margins, dtype=np.float64))
    frame = _frame(test.vectors, document.features)
    model = mlflow.pyfunc.load_model(str(folder))
    np.testing.assert_allclose(model.predict(frame), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(expected, test.probabilities, rtol=0, atol=1e-12)
    shuffled = random.Random(3).sample(document.features, len(document.features))
    np.testing.assert_array_equal(model.predict(frame[shuffled]), model.predict(frame))


def test_the_scoring_service_accepts_the_artifacts(lab: Lab, tmp_path: Path) -> None:
    table = FeatureTable.load(FEATURE_REPO)
    loaded = load_model(lab.artifacts(lab.first, tmp_path), CHURN, lab.first.version, table)
    assert loaded.document.spec_hash == lab.first.spec_hash
    assert len(loaded.document.golden) == 5


def test_from_challenger_to_champion_and_back(lab: Lab) -> None:
    report = lab.promote(CHURN, version=lab.first.version)
    assert (report.verdict, report.promoted, report.compared_with) == ("held", True, "the floor (recency-only)")
    assert [point.status for point in report.points] == ["held"] * 3 + ["not judged yet"] * 4 + ["held"]
    assert Registry(lab.uri).by_alias(CHURN, "champion").version == lab.first.version  # type: ignore[union-attr]
    assert Registry(lab.uri).version(CHURN, lab.first.version).tags["vigie.gate"] == "held"
    with pytest.raises(Conflict, match="champion already"):
        lab.promote(CHURN, version=lab.first.version)

    second = lab.train("churn")
    refused = lab.promote(CHURN)
    assert (refused.version, refused.verdict, refused.promoted) == (second.version, "refused", False)
    assert [point.number for point in refused.refusals] == [2]
    assert refused.refusals[0].figures["gain"] == 0.0
    assert main.champion(CHURN, lab.uri) == lab.first.version

    overridden = lab.promote(CHURN, override="same model, for the rehearsal")
    assert (overridden.verdict, overridden.promoted) == ("overridden", True)
    assert main.champion(CHURN, lab.uri) == second.version
    back = lab.rollback(CHURN)
    assert (back.from_version, back.to_version) == (second.version, lab.first.version)
    assert main.champion(CHURN, lab.uri) == lab.first.version
    with pytest.raises(Conflict, match="knows no champion"):
        lab.rollback(CHURN)

    rows = [(row.action, row.from_version, row.to_version, row.verdict) for row in main.promotions(lab.data, CHURN)]
    one, two = lab.first.version, second.version
    assert rows == [
        ("promote", None, one, "held"),
        ("promote", one, two, "refused"),
        ("promote", one, two, "overridden"),
        ("rollback", two, one, "rolled back"),
    ]
    kept = main.promotions(lab.data, CHURN)[2]
    assert (kept.who, kept.reason) == ("tester", "same model, for the rehearsal")
    assert msgspec.convert(kept.evidence, main.GateReport).points == overridden.points


@pytest.mark.parametrize("override", [None, "it is urgent"])
def test_a_model_that_reads_what_is_not_live_is_not_promoted_whatever_the_override(
    lab: Lab, tmp_path: Path, override: str | None
) -> None:
    table = FeatureTable.load(FEATURE_REPO)
    reads = next(row for row in table.features if row.key == "login_count_7d")
    others = tuple(row for row in table.features if row is not reads)
    for live in (others, (*others, msgspec.structs.replace(reads, window_days=30))):
        promoter = Promoter(Registry(lab.uri), Ledger(tmp_path), "tester", 0, FeatureTable(live))
        with pytest.raises(Conflict, match=r"reads login_count_7d, which is not live; run `vigie features apply`"):
            promoter.promote(CHURN, lab.first.version, override)
    assert Ledger(tmp_path).rows(CHURN) == []


def test_a_promotion_or_rollback_that_was_killed_is_finished_by_asking_again(lab: Lab) -> None:
    """Killed either side of the commit, again and again; the ledger ends with one row a move."""
    name = "killed"
    one, two = lab.twins(name)
    lab.promote(name, version=one, override="a test")
    before, after = FAILPOINTS
    killed(lab, before, "promote", name, two)
    lab.promote(name, version=two, override="a test")
    assert main.champion(name, lab.uri) == two
    killed(lab, before, "rollback", name)
    killed(lab, after, "rollback", name)
    assert main.champion(name, lab.uri) == one
    with pytest.raises(Conflict, match="knows no champion"):
        lab.rollback(name)
    rows = [(row.action, row.from_version, row.to_version) for row in main.promotions(lab.data, name)]
    assert rows == [("promote", None, one), ("promote", one, two), ("rollback", two, one)]


def test_a_rollback_takes_back_a_move_that_the_ledger_does_not_know(lab: Lab) -> None:
    name = "moved-by-hand"
    one, two = lab.twins(name)
    lab.promote(name, version=one, override="a test")
    lab.client.set_registered_model_alias(name, "champion", two)
    assert (lab.rollback(name).from_version, main.champion(name, lab.uri)) == (two, one)


def killed(lab: Lab, failpoint: str, *arguments: str) -> None:
    """Promote or roll back in a process that dies at the failpoint."""
    done = warm.run(
        "tests.integration.promotion_process", str(lab.data), lab.uri, *arguments,
        environment={**os.environ, "VIGIE_FAILPOINT": failpoint},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_propensity_learns_who_wants_which_offer(lab: Lab, tmp_path: Path) -> None:
    run = lab.train("next-best-offer")
    report = lab.promote(PROPENSITY_MODEL)
    assert (run.model_name, report.verdict) == (PROPENSITY_MODEL, "held")
    document = decode_document((lab.artifacts(run, tmp_path) / "artifacts" / MODEL_FILE).read_bytes())
    assert set(OFFERS) < set(document.offers)
    assert len(document.golden[0].vector) == len(document.features) + len(document.offers)
    loaded = load_model(tmp_path, PROPENSITY_MODEL, run.version, FeatureTable.load(FEATURE_REPO))
    vector = np.full(len(document.features), np.nan, dtype=np.float32)
    vector[document.features.index("income_band")] = 3
    rows = loaded.offer_rows(vector, ["premium_card", "fee_waiver"])
    card, waiver = loaded.probabilities(rows)
    assert card > 2 * waiver
    lines = {(line.name, line.version): line for line in main.models(lab.uri)}
    assert lines[PROPENSITY_MODEL, run.version].gate == "held"
    assert "champion" in lines[PROPENSITY_MODEL, run.version].aliases


def test_landmarks_of_a_study_are_split_by_cohort_and_said_so(lab: Lab) -> None:
    rng = random.Random(5)
    closed = _closures(lab.data)
    customers = sorted({f"m-{number:04d}" for number in range(CUSTOMERS)})
    rows = [
        (who, START_US + day * DAY_US, int(0 < closed.get(who, 10**18) - (START_US + day * DAY_US) <= 28 * DAY_US))
        for who in customers
        for day in (28, 42, 56, 70)
        if closed.get(who, 10**18) > START_US + day * DAY_US
    ]
    test = {who for who in customers if rng.random() < 0.4}
    table = pa.table(
        {
            "customer_id": [row[0] for row in rows],
            "as_of_us": [row[1] for row in rows],
            "label": [row[2] for row in rows],
            "test": [row[0] in test for row in rows],
        }
    )
    run = lab.train("churn", landmarks=table)
    evidence, kept = Registry(lab.uri).evidence(Registry(lab.uri).version(CHURN, run.version))
    assert evidence.split == "cohort"
    assert [found.name for found in evidence.slices] == ["train", "test"]
    assert set(kept.rows.customer_ids) <= test
    assert (run.figures["auc"].low or 0) > 0.5
    card = mlflow.artifacts.load_text(f"runs:/{run.run_id}/model_card.md")
    assert "Cohort split" in card


def test_another_definition_has_its_own_model_and_what_a_preview_counts_is_what_is_trained_on(
    lab: Lab, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(FEATURE_REPO, repo)
    file = repo / "churn" / "inactivity.toml"
    shorter = re.sub(r"(?m)^(gap|horizon|min_history)_days = .*", r"\1_days = 14", file.read_text())
    file.write_text(shorter)
    run = lab.train("churn", definition="inactivity", feature_repo=repo)
    assert run.model_name == "vigie-churn-inactivity"
    told = preview(lab.data, repo, "inactivity", lab.clock.now_us(), [7, 60])
    lines = {line.horizon_days: line for line in told.horizons}
    assert {7, 14, 60} <= set(lines)
    own = lines[14]
    assert (own.configured, own.problem) == (True, None)
    assert own.active + own.lost == own.eligible < own.rows
    params = lab.client.get_run(run.run_id).data.params
    assert int(params["excluded: rows that the definition does not cover"]) == (own.rows - own.eligible)
    (purged,) = (int(value) for name, value in params.items() if name.startswith("excluded: rows between the slices"))
    assert sum(part.rows for part in run.slices) + purged == own.eligible
    assert sum(part.positives for part in run.slices) <= own.lost
    assert "no training" not in (lines[7].problem or "")
    assert "three slices" in (lines[60].problem or "") or "no label is mature" in (lines[60].problem or "")
    card = Path(lab.client.download_artifacts(run.run_id, "model_card.md", str(tmp_path))).read_text()
    assert "no act in the interval" in card
    loaded = load_model(lab.artifacts(run, tmp_path / "model"), run.model_name, run.version, FeatureTable.load(repo))
    assert (loaded.document.definition, loaded.document.horizon_days) == ("inactivity", 14)
    report = lab.promote(run.model_name, override="a test wants a model, not a good one")
    assert (report.model_name, report.promoted) == (run.model_name, True)
    with pytest.raises(NotFound, match="no churn definition 'nosuch'"):
        preview(lab.data, repo, "nosuch", lab.clock.now_us())


def test_a_planted_leak_is_refused(lab: Lab, tmp_path: Path) -> None:
    records = made_up_bank(customers=CUSTOMERS, days=DAYS, leak=True)
    clock = data_directory(tmp_path, records, days=DAYS)
    run = main.train("churn", data=tmp_path, feature_repo=FEATURE_REPO, mlflow_uri=lab.uri, clock=clock)
    report = main.promote(CHURN, data=tmp_path, mlflow_uri=lab.uri, clock=clock, who="tester", version=run.version)
    assert run.leaks.strongest_feature in ("branch_visits_90d", "branch_recency")
    assert run.leaks.strongest_auc > 0.95
    refused = {point.number: point.sentence for point in report.refusals}
    assert f"{run.leaks.strongest_feature} alone reaches AUC" in refused[8]
    assert not report.promoted


def test_what_is_missing_is_said_in_words(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(NotFound, match="no version 99"):
        lab.promote(CHURN, version="99")
    with pytest.raises(NotFound, match="alias challenger"):
        lab.promote("vigie-churn-balance-attrition")
    with pytest.raises(InvalidInput, match="needs a reason"):
        lab.promote(CHURN, override=" ")
    with pytest.raises(InvalidInput, match="holds no events yet"):
        main.train("churn", data=tmp_path, feature_repo=FEATURE_REPO, mlflow_uri=lab.uri, clock=lab.clock)
    with pytest.raises(Unavailable, match="model registry"):
        main.champion(CHURN, f"http://127.0.0.1:{free_port()}")


def _frame(vectors: np.ndarray, columns: list[str]) -> pd.DataFrame:
    """Feast's nullable integers, floats where the signature says double (MLflow does not convert Int64 to double)."""
    nullable = {feature.key for feature in FeatureTable.load(FEATURE_REPO).features if feature.default is None}
    types = {column: "float64" if column in nullable else "Int64" for column in columns}
    return pd.DataFrame(vectors, columns=columns).astype(types)


def _closures(data: Path) -> dict[str, int]:
    events = pq.read_table(data / "archive" / "events.parquet", columns=["member_id", "name", "effective_at_us"])
    rows = events.to_pylist()
    return {row["member_id"]: row["effective_at_us"] for row in rows if row["name"] == "account.closed"}
