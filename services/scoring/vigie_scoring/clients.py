"""The model registry: aliases over MLflow's REST API, artifacts by MLflow's own client.

Importing mlflow takes seconds and 200 MB, so it waits until a version that is not here yet must be downloaded.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from vigie_contracts.errors import Unavailable

from vigie_scoring.champions import RegisteredVersion

TIMEOUT_SECONDS = 10.0
_QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class MlflowRegistry:
    """`Registry` on an MLflow tracking server; every failure to answer is `Unavailable`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._client = httpx.Client(base_url=f"{self._uri}/api/2.0/mlflow", timeout=TIMEOUT_SECONDS)

    def aliases(self, name: str) -> Mapping[str, RegisteredVersion]:
        """Alias -> version with its tags; empty when no model of that name is registered."""
        found = self._get("/registered-models/get", {"name": name})
        if found is None:
            return {}
        aliases = found["registered_model"].get("aliases", [])
        return {row["alias"]: self._version(name, str(row["version"])) for row in aliases}

    def download(self, name: str, version: str, target: Path) -> None:
        """Copy the version's artifacts into `target`."""
        os.environ.update({key: os.environ.get(key, value) for key, value in _QUICK.items()})
        import mlflow
        from mlflow.exceptions import MlflowException

        mlflow.set_tracking_uri(self._uri)
        mlflow.set_registry_uri(self._uri)  # else MLFLOW_REGISTRY_URI of the environment says where models lie
        try:
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{name}/{version}", dst_path=str(target), tracking_uri=self._uri
            )
        except (MlflowException, OSError) as error:
            raise self._down(error) from error

    def _version(self, name: str, version: str) -> RegisteredVersion:
        found = self._get("/model-versions/get", {"name": name, "version": version}) or {"model_version": {}}
        tags = {tag["key"]: tag["value"] for tag in found["model_version"].get("tags", [])}
        return RegisteredVersion(version, tags)

    def _get(self, path: str, parameters: dict[str, str]) -> Any:
        """JSON of an answer; null when it does not exist."""
        try:
            answer = self._client.get(path, params=parameters)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._down(error) from error

    def _down(self, error: Exception) -> Unavailable:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return Unavailable(f"the model registry at {self._uri} does not answer: {first}")
