"""Where the kill test may end this process: before and after every append, commit and acknowledgement."""

FAILPOINTS: tuple[str, ...] = (
    "ingest.before_append",
    "ingest.after_append",
    "ingest.before_commit",
    "ingest.after_commit",
    "ingest.before_ack",
    "ingest.after_ack",
    "ingest.before_settle_commit",
    "ingest.after_settle_commit",
)

ERASURE_FAILPOINTS: tuple[str, ...] = (
    "ingest.before_erasure_commit",
    "ingest.after_erasure_commit",
    "ingest.before_keys_destroyed",
    "ingest.after_keys_destroyed",
)
"""Passed only by an erasure."""
