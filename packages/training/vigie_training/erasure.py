"""The training sets that MLflow keeps: which of them hold a person, and the same without the person's rows.

A run keeps its test slice with vectors by customer. A model itself keeps no id: only that the person's rows were among
those it learned from.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from vigie_contracts.errors import IncompatibleData, NotFound
from vigie_contracts.instants import format_instant

from vigie_training.evidence import Evidence, TestSlice
from vigie_training.registry import Registry, Version


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version's training set. `rows` of the person are kept; `learned_until_us`: its last training row."""

    model: str
    version: str
    rows: int
    learned_until_us: int | None


def snapshots(mlflow_uri: str, customer_ids: Sequence[str]) -> list[Snapshot]:
    """Every registered version that keeps a training set. Unavailable while MLflow does not answer."""
    return [
        Snapshot(
            model=version.name,
            version=version.version,
            rows=int(_of(test, customer_ids).sum()),
            learned_until_us=found.to_us if (found := evidence.slice("train")) else None,
        )
        for version, evidence, test in _kept(Registry(mlflow_uri))
    ]


def forget(mlflow_uri: str, customer_ids: Sequence[str]) -> int:
    """Take the person's rows out of every kept training set; how many sets were written anew."""
    registry, changed = Registry(mlflow_uri), 0
    for version, evidence, test in _kept(registry):
        own = _of(test, customer_ids)
        if own.any():
            left = TestSlice(test.rows.take(~own), test.probabilities[~own], test.floor[~own], test.vectors[~own])
            registry.replace_evidence(version, evidence, left)
            changed += 1
    return changed


def rows(mlflow_uri: str, customer_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The person's rows in the kept training sets, for people."""
    return [
        {
            "model": version.name,
            "version": version.version,
            "as_of": format_instant(int(test.rows.as_of_us[place])),
            "what happened then": int(test.rows.labels[place]),
            "probability": float(test.probabilities[place]),
            "features": {
                key: None if np.isnan(value) else int(value)
                for (key, _), value in zip(evidence.stored, test.vectors[place], strict=True)
            },
        }
        for version, evidence, test in _kept(Registry(mlflow_uri))
        for place in np.flatnonzero(_of(test, customer_ids))
    ]


def _kept(registry: Registry) -> list[tuple[Version, Evidence, TestSlice]]:
    found = []
    for version in registry.versions():
        try:
            found.append((version, *registry.evidence(version)))
        except (NotFound, IncompatibleData):
            continue  # made elsewhere: it keeps no training set of ours
    return found


def _of(test: TestSlice, customer_ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.isin(test.rows.customer_ids.astype(str), list(customer_ids))
