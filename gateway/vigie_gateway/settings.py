"""The gateway's settings, read from the environment once, in `__main__`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`allowed_origins` are web origins besides the gateway's own that may call with a token; none by default."""

    data: Path
    feature_repo: Path
    service_token: str = field(repr=False)
    ingest_url: str
    features_url: str
    scoring_url: str
    api_token: str = field(repr=False, metadata={"env": "VIGIE_GATEWAY_API_TOKEN"})
    host: str = field(default="127.0.0.1", metadata={"env": "VIGIE_GATEWAY_HOST"})
    port: int = field(default=8700, metadata={"env": "VIGIE_GATEWAY_PORT"})
    log_level: str = "INFO"
    allowed_origins: tuple[str, ...] = field(default=(), metadata={"env": "VIGIE_GATEWAY_ALLOWED_ORIGINS"})
    introspection: bool = field(default=True, metadata={"env": "VIGIE_GATEWAY_INTROSPECTION"})
    page: bool = field(default=True, metadata={"env": "VIGIE_GATEWAY_PAGE"})
    heartbeat_seconds: float = field(default=15.0, metadata={"env": "VIGIE_GATEWAY_HEARTBEAT_SECONDS"})
    most_lag: int = field(default=100_000, metadata={"env": "VIGIE_GATEWAY_MOST_LAG"})
