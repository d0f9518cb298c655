"""Settings of ingest, read once from the environment in `__main__` (`VIGIE_…`)."""

from dataclasses import dataclass
from pathlib import Path

from vigie_contracts.errors import InvalidInput


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable `VIGIE_` + its name in capitals.

    `ingest_write_keys`: `KEY=SOURCE_ID`, comma separated. `ingest_queue_events`: events that may wait for the writer
    before senders are told to come back (429), `ingest_queue_bytes` the same of bodies that are not answered yet; a
    source may hold as much as is free. `ingest_max_body_bytes` bounds a body before and after decompression,
    `ingest_max_batch_events` the events in it.
    `ingest_source_secrets`: `SOURCE_ID=SECRET`, by which webhooks of HubSpot, Salesforce and Zoho are known; a source
    may have several while they are changed. `ingest_public_url`: the address under which HubSpot reaches this service
    (it signs it), such as `https://events.example.com`. `ingest_customer_fields`: what records of other systems call
    the institution's customer number (case, `_` and `__c` do not matter).
    `ingest_keys`: the file of the members' keys (default: keys.db in the data directory), never in the log's backup.
    `ingest_unset_denied`: consent purposes that count as denied until stated (default: all allowed until stated).
    """

    service_token: str
    ingest_write_keys: tuple[str, ...]
    data: Path = Path(".vigie")
    feature_repo: Path = Path("feature_repo")
    log_level: str = "INFO"
    ingest_host: str = "127.0.0.1"
    ingest_port: int = 8701
    ingest_queue_events: int = 20_000
    ingest_queue_bytes: int = 128_000_000
    ingest_max_body_bytes: int = 5_000_000
    ingest_max_batch_events: int = 20_000
    ingest_unset_denied: tuple[str, ...] = ()
    ingest_source_secrets: tuple[str, ...] = ()
    ingest_public_url: str = ""
    ingest_customer_fields: tuple[str, ...] = ("customer_id",)
    ingest_keys: Path | None = None

    def queue(self) -> tuple[int, int]:
        """Events and bytes that may wait; InvalidInput when a body of the largest size would find no room."""
        if self.ingest_queue_bytes < 4 * self.ingest_max_body_bytes:
            raise InvalidInput("VIGIE_INGEST_QUEUE_BYTES must be at least four times VIGIE_INGEST_MAX_BODY_BYTES")
        return self.ingest_queue_events, self.ingest_queue_bytes

    @property
    def keys(self) -> Path:
        """Where the members' keys lie."""
        return self.ingest_keys or self.data / "keys.db"

    def sources(self) -> dict[str, str]:
        """Write key -> source id; InvalidInput unless each entry is KEY=SOURCE_ID."""
        found: dict[str, str] = {}
        for entry in self.ingest_write_keys:
            key, separator, source_id = entry.partition("=")
            if not (key and separator and source_id):
                raise InvalidInput("VIGIE_INGEST_WRITE_KEYS must be KEY=SOURCE_ID, comma separated")
            found[key] = source_id
        return found

    def secrets(self) -> dict[str, tuple[str, ...]]:
        """Source id -> its secrets; InvalidInput unless each entry is SOURCE_ID=SECRET."""
        found: dict[str, tuple[str, ...]] = {}
        for entry in self.ingest_source_secrets:
            source_id, separator, secret = entry.partition("=")
            if not (source_id and separator and secret):
                raise InvalidInput("VIGIE_INGEST_SOURCE_SECRETS must be SOURCE_ID=SECRET, comma separated")
            found[source_id] = (*found.get(source_id, ()), secret)
        return found
