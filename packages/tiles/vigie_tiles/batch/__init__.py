"""The batch engine: feature vectors of any customer at any past (t, pos), by DuckDB over the Parquet archive."""

from vigie_tiles.batch.query import EVENT_SCHEMA, MOVE_SCHEMA, Batch, read_manifest

__all__ = ["EVENT_SCHEMA", "MOVE_SCHEMA", "Batch", "read_manifest"]
