"""Compares the engines on stored data: what was served, what the tiles say, and what the archive says.

Every comparison is at one read point (t, pos); the expected number of differing values is 0.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from vigie_contracts.errors import IncompatibleData, Unavailable
from vigie_contracts.events import LogRecord, Position, decode_record
from vigie_contracts.features import FeatureSpec, FeatureTable, feature_spec_hash
from vigie_contracts.models import MODEL_FILE, decode_document
from vigie_contracts.reads import ParityFigure
from vigie_contracts.scores import ChurnScore, decode_score
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.sqlite_log import LANE, SqliteLogReader
from vigie_tiles.batch import Batch
from vigie_tiles.layout import Layout
from vigie_tiles.live import is_live
from vigie_tiles.reader import TileReader

from vigie_cli import running
from vigie_cli.connection import connect

PAGE = 5_000
TRIES = 20


@dataclass(frozen=True)
class Compared:
    """One comparison: rows and values compared, and the first few differences in words."""

    what: str
    rows: int
    values: int
    differences: int
    examples: tuple[str, ...]
    note: str = ""


class Parity:
    """Compares on one data directory, also while the system runs."""

    def __init__(self, data: Path, feature_repo: Path) -> None:
        self._data = data
        self._feature_repo = feature_repo
        self._table = FeatureTable.load(feature_repo)
        self._found = installation.load(data)
        self._zone = self._found.time_zone

    def stored_scores(self, limit: int) -> Compared:
        """The vectors of the newest `limit` stored churn scores against the archive, each at its own (t, pos)."""
        what = "vectors of stored scores = archive at their (t, pos)"
        scores = self._newest_scores(limit)
        groups = self._by_features(scores)
        left_out = len(scores) - sum(len(known) for _, known in groups)
        note = f"{left_out} scores of models that are not here left out" if left_out else ""
        if not groups:
            return Compared(what, 0, 0, 0, (), note or "no stored score yet")
        batch = self._batch(max(score.read_point.pos.get(LANE, 0) for _, known in groups for score in known))
        return reduce(_joined, [self._stored(what, batch, features, known, note) for features, known in groups])

    def report(self, found: Sequence[Compared]) -> None:
        """Tell the features service, where one runs: its status and metrics show the figure."""
        if not running.is_running(self._data):
            return
        client = connect(self._data).client("features")
        figure = ParityFigure(
            vectors=sum(one.rows for one in found),
            mismatches=sum(one.differences for one in found),
            at_us=Clock(self._found.clock).now_us(),
        )
        try:
            client.post("/internal/parity", figure, ParityFigure)
        finally:
            client.close()

    def _stored(
        self, what: str, batch: Batch, features: Sequence[FeatureSpec], scores: Sequence[ChurnScore], note: str
    ) -> Compared:
        labels = [(score.customer_id, score.read_point.t_us, score.read_point.pos.get(LANE, 0)) for score in scores]
        expected = batch.vectors(_labels(labels), features)
        return _compare(what, features, labels, [score.vector for score in scores], expected, note)

    def tiles_now(self, limit: int) -> Compared:
        """What the tiles answer now for `limit` customers against the archive at the same (t, pos)."""
        customers = self._customers(limit)
        reader = self._reader()
        try:
            features = self._live(reader)
            found = reader.read(customers, features, Clock(self._found.clock).now_us())
        finally:
            reader.close()
        position = found.pos.get(LANE, 0)
        labels = [(customer, int(t_us), position) for customer, t_us in zip(customers, found.t_us, strict=True)]
        expected = self._batch(position).vectors(_labels(labels), features)
        actual = _rows(found.matrix.values, found.matrix.valid)
        return _compare("tiles read now = archive", features, labels, actual, expected, self._awaited(features))

    def feast_now(self, limit: int) -> Compared:
        """What stock Feast answers online for `limit` customers against the tiles, while nothing is being written."""
        from vigie_tiles import registration

        customers = self._customers(limit)
        store = registration.store(self._data, self._feature_repo)
        with contextlib.closing(self._reader()) as reader:
            features = self._live(reader)
        names = [f"{registration.VIEW}:{feature.key}" for feature in features]
        position, answer = self._at_rest(
            lambda: store.get_online_features(names, [{"customer_id": customer} for customer in customers])
        )
        rows = answer.to_dict()
        columns = [rows[feature.key] for feature in features]
        timestamps = answer.proto.results[-1].event_timestamps
        labels = [
            (customer, stamp.seconds * 1_000_000 + stamp.nanos // 1_000, position)
            for customer, stamp in zip(customers, timestamps, strict=True)
        ]
        expected = self._batch(position).vectors(_labels(labels), features)
        actual = [list(row) for row in zip(*columns, strict=True)]
        return _compare("Feast online = archive", features, labels, actual, expected, self._awaited(features))

    def _reader(self) -> TileReader:
        return TileReader(self._data / "features.db", Layout(self._table, self._zone))

    def _live(self, reader: TileReader) -> tuple[FeatureSpec, ...]:
        """The declared features that the tiles answer."""
        live = reader.live()
        return tuple(feature for feature in self._table.features if is_live(live, feature))

    def _awaited(self, features: Sequence[FeatureSpec]) -> str:
        left_out = len(self._table.features) - len(features)
        return f"{left_out} features that are not live yet left out" if left_out else ""

    def _at_rest(self, read: Any) -> tuple[int, Any]:
        """A read during which the tiles did not move, and their position; Unavailable when they never rest."""
        reader = self._reader()
        try:
            for _ in range(TRIES):
                before = reader.read([], (), 0).pos
                answer = read()
                if reader.read([], (), 0).pos == before:
                    return before.get(LANE, 0), answer
        finally:
            reader.close()
        raise Unavailable("events arrive faster than a comparison takes; stop the live events and try again")

    def _newest_scores(self, limit: int) -> list[ChurnScore]:
        log = SqliteLogReader(self._data / "scoring.db", "scores")
        found: list[ChurnScore] = []
        end = log.end().get(LANE, 0)
        while end > 0 and len(found) < limit:
            start = max(end - PAGE, 0)
            entries = [entry for entry in log.read({LANE: start}, end - start) if entry.payload]
            page = [decode_score(entry.payload).current for entry in entries]
            found += [score for score in reversed(page) if isinstance(score, ChurnScore)]
            end = start
        log.close()
        return found[:limit]

    def _by_features(self, scores: Sequence[ChurnScore]) -> list[tuple[tuple[FeatureSpec, ...], list[ChurnScore]]]:
        """Scores by what their models read; those of models that scoring has not loaded are left out."""
        listed = self._listed()
        found: dict[str, list[ChurnScore]] = {}
        for score in scores:
            if score.spec_hash in listed:
                found.setdefault(score.spec_hash, []).append(score)
        return [(listed[digest], known) for digest, known in found.items()]

    def _listed(self) -> dict[str, tuple[FeatureSpec, ...]]:
        """By spec hash, what the models that scoring has loaded read, as far as the table still declares it."""
        found = {}
        for path in sorted((self._data / "models").rglob(MODEL_FILE)):
            document = decode_document(path.read_bytes())
            if self._table.by_key.keys() >= set(document.features):
                features = self._table.select(document.features)
                found[feature_spec_hash(features)] = features
        return found

    def _customers(self, limit: int) -> list[str]:
        """Customers spread over all."""
        import sqlite3

        path = self._data / "features.db"
        if not path.exists():
            raise Unavailable(f"{path} does not exist yet; start Vigie and send events first")
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
        rows = connection.execute("SELECT customer_id FROM customers ORDER BY customer_id").fetchall()
        connection.close()
        step = max(len(rows) // limit, 1)
        return [row[0] for row in rows[::step]][:limit]

    def _batch(self, position: int) -> Batch:
        """The archive and the log's tail, up to a position that the log must have."""
        probe = Batch(self._data / "archive", self._table, self._zone)
        tail = self._tail(probe.end, position)
        return Batch(self._data / "archive", self._table, self._zone, tail) if tail else probe

    def _tail(self, after: int, position: int) -> list[tuple[Position, LogRecord]]:
        log = SqliteLogReader(self._data / "ingest.db", "events")
        found: list[tuple[Position, LogRecord]] = []
        while after < position:
            entries = log.read({LANE: after}, min(PAGE, position - after))
            if not entries:
                raise IncompatibleData(f"the log of events ends before position {position}, which was read already")
            found += [(entry.position, decode_record(entry.payload)) for entry in entries]
            after = entries[-1].position.number
        log.close()
        return found


def _labels(rows: Sequence[tuple[str, int, int]]) -> pa.Table:
    return pa.table(
        {
            "customer_id": pa.array([row[0] for row in rows], pa.string()),
            "t_us": pa.array([row[1] for row in rows], pa.int64()),
            "pos": pa.array([row[2] for row in rows], pa.int64()),
        }
    )


def _rows(values: np.ndarray, valid: np.ndarray) -> list[list[int | None]]:
    return [
        [int(value) if there else None for value, there in zip(row, present, strict=True)]
        for row, present in zip(values, valid, strict=True)
    ]


def _joined(one: Compared, other: Compared) -> Compared:
    return replace(
        one,
        rows=one.rows + other.rows,
        values=one.values + other.values,
        differences=one.differences + other.differences,
        examples=one.examples + other.examples,
    )


def _compare(
    what: str,
    features: Sequence[FeatureSpec],
    labels: Sequence[tuple[str, int, int]],
    actual: Sequence[Sequence[int | None]],
    expected: pa.Table,
    note: str = "",
) -> Compared:
    differences = 0
    examples: list[str] = []
    for column, feature in enumerate(features):
        wanted = expected[feature.key].to_pylist()
        for row, value in enumerate(wanted):
            if actual[row][column] != value:
                differences += 1
                if len(examples) < 5:
                    customer, t_us, pos = labels[row]
                    examples.append(f"{customer} {feature.key} at ({t_us}, {pos}): {actual[row][column]} but {value}")
    return Compared(what, len(labels), len(labels) * len(features), differences, tuple(examples), note)
