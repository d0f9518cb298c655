"""Settings of the scoring service, read once from the environment in `__main__` (`VIGIE_…`)."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable `VIGIE_` + its name in capitals.

    `scoring_update_threshold`: probability step that subscribers hear of. `scoring_stale_seconds`: state lag (system
    time) from which features are stale. `scoring_poll_seconds`: how often aliases are polled.
    `scoring_channels`: channels that decisions stand for. `scoring_unset_denied`: purposes denied until stated.
    """

    service_token: str
    data: Path = Path(".vigie")
    feature_repo: Path = Path("feature_repo")
    mlflow_uri: str = "http://127.0.0.1:8704"
    promotion: str = "gated"
    log_level: str = "INFO"
    scoring_host: str = "127.0.0.1"
    scoring_port: int = 8703
    scoring_poll_seconds: float = 3.0
    scoring_update_threshold: float = 0.05
    scoring_stale_seconds: float = 60.0
    scoring_batch: int = 256
    scoring_threads: int = 1
    scoring_channels: tuple[str, ...] = ("IN_APP", "EMAIL")
    scoring_unset_denied: tuple[str, ...] = field(default=())
