"""The settings of services/features, read once from the environment."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FeaturesSettings:
    """VIGIE_DATA, VIGIE_FEATURE_REPO, VIGIE_SERVICE_TOKEN and VIGIE_FEATURES_…; durations in seconds of system time.

    VIGIE_REDIS_URL (redis://host:port/0), when set, is where a serving copy of the tiles is kept.
    """

    service_token: str
    data: Path = Path(".vigie")
    feature_repo: Path = Path("feature_repo")
    redis_url: str = ""
    log_level: str = "INFO"
    host: str = field(default="127.0.0.1", metadata={"env": "VIGIE_FEATURES_HOST"})
    port: int = field(default=8702, metadata={"env": "VIGIE_FEATURES_PORT"})
    batch_records: int = field(default=2_000, metadata={"env": "VIGIE_FEATURES_BATCH_RECORDS"})
    sweep_page: int = field(default=500, metadata={"env": "VIGIE_FEATURES_SWEEP_PAGE"})
    sweep_seconds: float = field(default=1.0, metadata={"env": "VIGIE_FEATURES_SWEEP_SECONDS"})
    archive_records: int = field(default=50_000, metadata={"env": "VIGIE_FEATURES_ARCHIVE_RECORDS"})
    archive_seconds: float = field(default=5.0, metadata={"env": "VIGIE_FEATURES_ARCHIVE_SECONDS"})
