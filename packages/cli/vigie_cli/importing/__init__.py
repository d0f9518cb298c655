"""`vigie import`: CSV, JSONL and Parquet files -> events and profiles, through the same validation as HTTP."""

from vigie_cli.importing.mapping import Mapping, load_mapping
from vigie_cli.importing.report import ImportReport, Progress, RowRefusal
from vigie_cli.importing.rows import read_records
from vigie_cli.importing.sending import run

__all__ = ["ImportReport", "Mapping", "Progress", "RowRefusal", "load_mapping", "read_records", "run"]
