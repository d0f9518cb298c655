"""MLflow as the trainer meets it: runs with their papers, logged models, versions, tags and aliases.

Importing this module imports mlflow (seconds); only training and promotion do.
"""

import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import mlflow.pyfunc
import msgspec
import numpy as np
import pandas as pd
import xgboost
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from vigie_contracts.errors import NotFound, Unavailable
from vigie_contracts.features import FeatureSpec
from vigie_contracts.models import (
    BOOSTER_FILE,
    CHALLENGER,
    MODEL_FILE,
    SPEC_HASH_TAG,
    ModelDocument,
    decode_document,
    encode_document,
)

from vigie_training import evidence as papers
from vigie_training.evidence import COMPLEXITY_TAG, Evidence, TestSlice
from vigie_training.train import THREADS, CalibratedModel

logging.getLogger("mlflow").setLevel(logging.WARNING)

SERVED_MODEL = Path(__file__).with_name("served_model.py")
GATE_TAG = "vigie.gate"


@dataclass(frozen=True)
class Run:
    """What one training run leaves in MLflow. `pictures` and the card are files of a folder by name."""

    model_name: str
    model: CalibratedModel
    document: ModelDocument
    features: tuple[FeatureSpec, ...]
    evidence: Evidence
    test: TestSlice
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    tables: Mapping[str, object]
    folder: Path


@dataclass(frozen=True)
class Version:
    """A registered version with its tags and the run that made it."""

    name: str
    version: str
    run_id: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    created_at_ms: int


class Registry:
    """A tracking server by address; Unavailable while it does not answer."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def publish(self, run: Run) -> tuple[Version, str]:
        """Log the run with its model, register it, name it challenger; answers the version and the run's id."""
        with self._answering():
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            mlflow.set_experiment(run.model_name)
            tags = {SPEC_HASH_TAG: run.document.spec_hash, COMPLEXITY_TAG: str(run.evidence.complexity)}
            with mlflow.start_run(tags={**tags, "vigie.definition": run.document.definition}) as active:
                mlflow.log_params(dict(run.params))
                mlflow.log_metrics(dict(run.metrics))
                for name, table in run.tables.items():
                    mlflow.log_dict(msgspec.to_builtins(table), name)
                mlflow.log_artifacts(str(run.folder))
                self._log_evidence(run)
                source, model_id = self._log_model(run)
            number = self._register(run.model_name, source, active.info.run_id, tags, model_id)
            self._client.set_registered_model_alias(run.model_name, CHALLENGER, number)
            return self.version(run.model_name, number), active.info.run_id

    def version(self, name: str, version: str) -> Version:
        """A version; NotFound when there is none."""
        with self._answering(f"{name} has no version {version}"):
            found = self._client.get_model_version(name, version)
        return Version(
            name=name,
            version=str(found.version),
            run_id=found.run_id or None,
            tags=dict(found.tags),
            aliases=tuple(found.aliases),
            created_at_ms=int(found.creation_timestamp),
        )

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version behind an alias, or null."""
        try:
            with self._answering("none"):
                number = str(self._client.get_model_version_by_alias(name, alias).version)
        except NotFound:
            return None
        return self.version(name, number)

    def versions(self) -> list[Version]:
        """Every version of every registered model, newest first within a model."""
        with self._answering():
            names = sorted(model.name for model in self._client.search_registered_models(max_results=1000))
            found = {
                name: sorted(int(row.version) for row in self._client.search_model_versions(f"name = '{name}'"))
                for name in names
            }
        return [self.version(name, str(number)) for name, numbers in found.items() for number in reversed(numbers)]

    def tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        with self._answering():
            self._client.set_model_version_tag(name, version, key, value)

    def point(self, name: str, alias: str, version: str) -> None:
        """Move an alias."""
        with self._answering():
            self._client.set_registered_model_alias(name, alias, version)

    def evidence(self, version: Version) -> tuple[Evidence, TestSlice]:
        """The gate's papers of a version's run; NotFound when it has none."""
        what = f"{version.name} version {version.version} has no gate evidence; it was not trained by `vigie train`"
        if version.run_id is None:
            raise NotFound(what)
        with TemporaryDirectory(prefix="vigie-gate-") as folder, self._answering(what):
            self._client.download_artifacts(version.run_id, papers.FOLDER, folder)
            return papers.read(Path(folder) / papers.FOLDER)

    def replace_evidence(self, version: Version, evidence: Evidence, test: TestSlice) -> None:
        """Put other gate papers in the place of a version's."""
        with TemporaryDirectory(prefix="vigie-gate-") as folder, self._answering():
            papers.write(Path(folder), evidence, test)
            self._client.log_artifacts(str(version.run_id), folder, papers.FOLDER)

    def model(self, version: Version) -> tuple[CalibratedModel, ModelDocument]:
        """A version's booster and document, without unpickling anything; NotFound when it is of another make."""
        what = f"{version.name} version {version.version} holds no {BOOSTER_FILE} with {MODEL_FILE}"
        with TemporaryDirectory(prefix="vigie-model-") as folder, self._answering(what):
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{version.name}/{version.version}", dst_path=folder, tracking_uri=self.uri
            )
            boosters, documents = (sorted(Path(folder).rglob(name)) for name in (BOOSTER_FILE, MODEL_FILE))
            if not boosters or not documents:
                raise NotFound(what)
            document = decode_document(documents[0].read_bytes())
            booster = xgboost.Booster({"nthread": THREADS}, model_file=str(boosters[0]))
            return CalibratedModel(booster, document.calibrator), document

    def _log_evidence(self, run: Run) -> None:
        with TemporaryDirectory(prefix="vigie-gate-") as folder:
            papers.write(Path(folder), run.evidence, run.test)
            mlflow.log_artifacts(folder, papers.FOLDER)

    def _log_model(self, run: Run) -> tuple[str, str]:
        with TemporaryDirectory(prefix="vigie-model-") as folder:
            booster, document = Path(folder) / BOOSTER_FILE, Path(folder) / MODEL_FILE
            run.model.booster.save_model(str(booster))
            document.write_bytes(encode_document(run.document))
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts={"booster": str(booster), "document": str(document)},
                signature=signature(run.features, run.document.offers),
                input_example=input_example(run.document, run.features),
                pip_requirements=requirements(),
            )
        return logged.model_uri, logged.model_id

    def _register(self, name: str, source: str, run_id: str, tags: dict[str, str], model_id: str) -> str:
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        made = self._client.create_model_version(
            name, source, run_id, tags=tags, await_creation_for=0, model_id=model_id
        )
        return str(made.version)

    @contextmanager
    def _answering(self, missing: str = "") -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            if missing and error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                raise NotFound(missing) from error
            first = (str(error).splitlines() or ["no answer"])[0][:300]
            raise Unavailable(f"the model registry at {self.uri} did not do as asked: {first}") from error
        except OSError as error:
            if missing:
                raise NotFound(missing) from error
            raise Unavailable(f"the model registry at {self.uri} does not answer: {type(error).__name__}") from error


def signature(features: tuple[FeatureSpec, ...], offers: list[str]) -> ModelSignature:
    """Named columns in the model's order: long, or double where a value may be null; one double answers."""
    columns = [ColSpec("double" if feature.default is None else "long", feature.key) for feature in features]
    columns += [ColSpec("long", offer) for offer in offers]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("double")]))


def input_example(document: ModelDocument, features: tuple[FeatureSpec, ...]) -> pd.DataFrame:
    """The golden rows as a data frame that fits the signature."""
    frame = pd.DataFrame([row.vector for row in document.golden], columns=[*document.features, *document.offers])
    nullable = {feature.key for feature in features if feature.default is None}
    types = {name: np.float64 if name in nullable else np.int64 for name in frame.columns}
    return frame.astype(types)


def requirements() -> list[str]:
    """What the logged model needs, pinned to what it was trained with."""
    return [
        f"mlflow=={mlflow.__version__}",
        f"numpy=={np.__version__}",
        f"pandas=={pd.__version__}",
        f"{'xgboost-cpu' if platform.system() == 'Linux' else 'xgboost'}=={xgboost.__version__}",
    ]
