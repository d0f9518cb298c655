"""The processes of an embedded Vigie: how each is started, with which settings, and when it is ready."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vigie_cli.addresses import HOST, addresses, ports
from vigie_cli.credentials import SOURCE_ID, Credentials

FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
SERVICES = ("ingest", "features", "scoring", "gateway")


@dataclass(frozen=True)
class Program:
    """A process to keep running. It is ready when GET `ready_path` on its port answers 200."""

    name: str
    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str]
    ready_path: str = "/readyz"


def programs(data: Path, feature_repo: Path, base: int, credentials: Credentials) -> list[Program]:
    """All processes, in the order in which they are stopped: who calls others comes first."""
    listening = ports(base)
    shared = _environment(data, feature_repo, base, credentials)
    ours = [
        Program(
            name=name,
            command=(sys.executable, "-m", f"vigie_{name}"),
            port=listening[name],
            environment={
                **shared,
                f"VIGIE_{name.upper()}_HOST": HOST,
                f"VIGIE_{name.upper()}_PORT": str(listening[name]),
            },
        )
        for name in ("gateway", "scoring", "features", "ingest")
    ]
    return [*ours, _mlflow(data, listening["mlflow"], shared)]


def _environment(data: Path, feature_repo: Path, base: int, credentials: Credentials) -> dict[str, str]:
    where = addresses(base)
    # Another MLflow's address in this shell must not lead our services there.
    inherited = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    return {
        **inherited,
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "VIGIE_DATA": str(data),
        "VIGIE_FEATURE_REPO": str(feature_repo),
        "VIGIE_SERVICE_TOKEN": credentials.service_token,
        "VIGIE_INGEST_WRITE_KEYS": f"{credentials.write_key}={SOURCE_ID}",
        "VIGIE_GATEWAY_API_TOKEN": credentials.api_token,
        "VIGIE_INGEST_URL": where.ingest,
        "VIGIE_FEATURES_URL": where.features,
        "VIGIE_SCORING_URL": where.scoring,
        "VIGIE_MLFLOW_URI": where.mlflow,
    }


def _mlflow(data: Path, port: int, shared: Mapping[str, str]) -> Program:
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *(
            "--backend-store-uri",
            f"sqlite:///{data / 'mlflow.db'}",
            "--artifacts-destination",
            str(data / "mlartifacts"),
        ),
    )
    return Program(name="mlflow", command=command, port=port, environment=shared, ready_path="/health")
