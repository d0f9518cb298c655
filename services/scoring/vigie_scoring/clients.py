"""The model registry over HTTP: MLflow's own client, imported on first use because that takes seconds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie_contracts.errors import Unavailable

from vigie_scoring.champions import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MlflowRegistry:
    """`Registry` on an MLflow tracking server; every failure to answer is `Unavailable`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: MlflowClient | None = None

    def aliases(self, name: str) -> Mapping[str, RegisteredVersion]:
        """Alias -> version with its tags; empty when no model of that name is registered."""
        from mlflow.exceptions import MlflowException

        client = self._connected()
        try:
            found = client.get_registered_model(name).aliases
            return {alias: self._version(client, name, str(version)) for alias, version in found.items()}
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return {}
            raise self._down(error) from error

    def download(self, name: str, version: str, target: Path) -> None:
        """Copy the version's artifacts into `target`."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        self._connected()
        try:
            download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(target), tracking_uri=self._uri)
        except (MlflowException, OSError) as error:
            raise self._down(error) from error

    def _version(self, client: "MlflowClient", name: str, version: str) -> RegisteredVersion:
        return RegisteredVersion(version, dict(client.get_model_version(name, version).tags))

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            os.environ.update({key: os.environ.get(key, value) for key, value in _QUICK.items()})
            import mlflow

            mlflow.set_tracking_uri(self._uri)
            self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        return self._client

    def _down(self, error: Any) -> Unavailable:
        return Unavailable(f"the model registry at {self._uri} does not answer: {str(error).splitlines()[0][:200]}")
