"""What a training run keeps for the gate: its evidence, and the test slice with its vectors.

With both, a challenger and the champion are compared on the same rows, whoever trained them and whenever.
"""

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from vigie_contracts.errors import IncompatibleData

from vigie_training.bootstrap import Estimate
from vigie_training.metrics import Floats
from vigie_training.population import strings
from vigie_training.snapshots import LabelledRows
from vigie_training.splits import Slice
from vigie_training.vectors import Matrix

FOLDER = "gate"
EVIDENCE_FILE = "evidence.json"
TEST_FILE = "test_slice.parquet"
COMPLEXITY_TAG = "vigie.complexity"
ONE_FEATURE, SHALLOW_TREES, ANYTHING_ELSE = 1, 2, 3
"""Complexity classes, declared before training: one feature; trees of depth 4 and 300 rounds at most; anything else."""


class LeakReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the leak alarms saw. `alarms` are sentences; empty means silent."""

    strongest_feature: str
    strongest_auc: float
    shuffled_time_gain: Estimate
    replayed: int
    replay_mismatches: int
    alarms: list[str]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """`evidence.json`. `stored` are the feature columns of the test slice with their definition hashes.

    `matures_at_us`: when the last label of the test slice is known.
    """

    kind: Literal["churn", "propensity"]
    definition: str
    primary_metric: str
    complexity: int
    split: Literal["time", "cohort"]
    span_us: int
    slices: list[Slice]
    matures_at_us: int
    floor: str
    stored: list[tuple[str, str]]
    leaks: LeakReport

    def slice(self, name: str) -> Slice | None:
        """A slice by name."""
        return next((found for found in self.slices if found.name == name), None)


class TestSlice(msgspec.Struct, frozen=True):
    """Rows, the challenger's and the floor model's probabilities (n,), and vectors (n, features stored)."""

    __test__ = False

    rows: LabelledRows
    probabilities: Floats
    floor: Floats
    vectors: Matrix


def write(folder: Path, evidence: Evidence, test: TestSlice) -> None:
    """Both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVIDENCE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(evidence)))
    columns: dict[str, object] = {
        "customer_id": pa.array(test.rows.customer_ids.tolist(), pa.string()),
        "as_of_us": test.rows.as_of_us,
        "label": test.rows.labels,
        "probability": test.probabilities,
        "floor": test.floor,
    }
    if test.rows.offers is not None:
        columns["offer"] = pa.array(test.rows.offers.tolist(), pa.string())
    for place, (key, _) in enumerate(evidence.stored):
        column = test.vectors[:, place]
        unknown = np.isnan(column)
        columns[key] = pa.array(np.where(unknown, 0, column).astype(np.int64), pa.int64(), mask=unknown)
    pq.write_table(pa.table(columns), folder / TEST_FILE, compression="zstd")


def read(folder: Path) -> tuple[Evidence, TestSlice]:
    """Both files; IncompatibleData when they are missing or damaged."""
    try:
        evidence = msgspec.json.decode((folder / EVIDENCE_FILE).read_bytes(), type=Evidence)
        table = pq.read_table(folder / TEST_FILE)
    except (FileNotFoundError, msgspec.DecodeError, pa.ArrowInvalid) as error:
        raise IncompatibleData(f"the run's gate evidence cannot be read ({error}); train again") from error
    keys = [key for key, _ in evidence.stored]
    if missing := set(keys) - set(table.column_names):
        raise IncompatibleData(f"{TEST_FILE} lacks the columns {', '.join(sorted(missing))}; train again")
    rows = LabelledRows(
        customer_ids=strings(table["customer_id"]),
        as_of_us=table["as_of_us"].to_numpy(),
        labels=table["label"].to_numpy(),
        offers=strings(table["offer"]) if "offer" in table.column_names else None,
    )
    vectors = [table[key].cast(pa.float64()).to_numpy(zero_copy_only=False) for key in keys]
    return evidence, TestSlice(
        rows=rows,
        probabilities=table["probability"].to_numpy(),
        floor=table["floor"].to_numpy(),
        vectors=np.column_stack(vectors) if vectors else np.empty((len(rows), 0)),
    )
