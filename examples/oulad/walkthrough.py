"""Vigie on a real course's data, from files to students at risk with their reasons.

    python examples/oulad/walkthrough.py --data DIR [--work DIR] [--live-days 14]

DIR holds the public download of the Open University's learning analytics data set; README.md tells where to get it.
"""

import argparse
import contextlib
import itertools
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import course
import msgspec
import numpy as np
from course import FEATURE_REPO, LIVE, SMALL_TEST, SMALL_TRAIN, TEST, TRAIN
from installation import InstallationProcess, until
from vigie_cli import modelling
from vigie_cli.import_report import ImportScreen
from vigie_cli.importing import run
from vigie_contracts.errors import VigieError
from vigie_contracts.features import FeatureTable
from vigie_contracts.imports import ImportAnswer, ImportRecord, ImportRequest
from vigie_contracts.instants import DAY_US, format_instant, parse_instant
from vigie_contracts.models import CHAMPION
from vigie_contracts.reads import FeatureRow, FeaturesAnswer, FeaturesRequest, ModelsAnswer
from vigie_contracts.scores import ChurnDefinition, ChurnScore, decode_score
from vigie_kit.files import replace_file
from vigie_kit.sqlite_log import LANE, SqliteLogReader
from vigie_tiles.schema import FEATURES_DB

DEFINITION = "closure"
MODEL = "vigie-churn-closure"
COMPARED = 1_000
LIVE_FROM = "2014-10-15T00:00:00Z"
RATE = 5_000.0
HEAD_START_SECONDS = 90.0
ITEMS_A_CALL = 500
IMPORT_BATCH = 5_000
PATIENCE_SECONDS = 900.0
SHOWN_FIGURES = ("auc", "pr_auc", "calibration_slope", "mean_over_rate", "ece", "lift_5", "lift_10")
OVERRIDE = "a study on two cohorts: its base rate falls from 3.4 % to 2.3 %; shown in the open, not used on students"
AT_RISK = """{ customers(orderBy: {field: CHURN_PROBABILITY, direction: DESC}, first: 5) { edges { node {
  externalId churn { __typename ... on ChurnScore { probability band reasons(first: 3) { text direction } } }
} } } }"""


@dataclass
class Told:
    """What the walk-through found, kept as figures.json in the work folder."""

    imported: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    parity: list[dict[str, Any]] = field(default_factory=list)
    live: dict[str, Any] = field(default_factory=dict)
    at_risk: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Walk:
    """The steps, with what they share."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.folder: Path = arguments.data
        self.work = work
        self.small = arguments.courses == "small"
        self.live_days: int = arguments.live_days
        self.rate: float = arguments.rate
        self.screen = ImportScreen()
        self.told = Told()

    @property
    def cohorts(self) -> tuple[Sequence[str], Sequence[str]]:
        """Courses to train on, and to test on."""
        return (SMALL_TRAIN, SMALL_TEST) if self.small else (TRAIN, TEST)

    def whole(self) -> None:
        """All steps."""
        with self.step("1. A first installation"), self._first() as vigie:
            with self.step("2. Import"):
                self.import_files(vigie)
                self.wait_for_archive(vigie)
                self.weigh(vigie)
            with self.step("3. Train"):
                self.train(vigie)
            with self.step("4. The gate"):
                self.promote(vigie)
            with self.step("5. One truth: training and serving read the same vectors"):
                self.compare(vigie)
        self.hand_over()
        with self.step(f"6. A second installation, whose clock begins at {LIVE_FROM}"), self._second() as vigie:
            with self.step("7. The first one's champion serves here; history comes by import"):
                self.move_in(vigie)
                records = self.import_history(vigie)
            with self.step(f"8. {self.live_days} days of {LIVE} arrive over HTTP"):
                self.play(vigie, records)
                modelling.register_features(vigie.connection, self.screen)
                self.compare_reads(vigie, "during the course")
            with self.step("9. Who is at risk, and why"):
                self.ask(vigie)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A titled step whose time is kept."""
        self.screen.title(title)
        began = time.monotonic()
        yield
        self.told.seconds[title.partition(".")[0]] = round(time.monotonic() - began, 1)

    def _first(self) -> InstallationProcess:
        return InstallationProcess(self.work / "first", FEATURE_REPO)

    def _second(self) -> InstallationProcess:
        begin = format_instant(parse_instant(LIVE_FROM) - self._head_start_us())
        return InstallationProcess(self.work / "second", FEATURE_REPO, "--clock", begin, "--rate", str(self.rate))

    def _head_start_us(self) -> int:
        """The business time that passes while services start and history comes in."""
        return int(HEAD_START_SECONDS * self.rate * 1_000_000)

    def import_files(self, vigie: InstallationProcess) -> None:
        """`vigie import` of the study's courses; an earlier run in the same work folder is not repeated."""
        done = self.work / "first" / "imported.json"
        if done.exists():
            self.told.imported = msgspec.json.decode(done.read_bytes())
            self.screen.say(f"Imported by an earlier run: {self.told.imported['accepted']:,} records.")
            return
        client = vigie.connection.client("ingest")
        mapping = course.mapping_for(self.folder, [*self.cohorts[0], *self.cohorts[1]])
        with self.screen.progress() as progress:
            report = run(self.folder, mapping, client, progress=progress)
        client.close()
        self.screen.show(report)
        self.told.imported = {
            "rows": report.rows,
            "accepted": report.accepted,
            "refused": report.refused,
            "skipped": report.skipped,
            "records_per_second": round(report.records_per_second),
            "tables": {table.table: table.accepted for table in report.tables},
            "refusals": [str(refusal) for refusal in report.refusals[:10]],
        }
        replace_file(done, msgspec.json.encode(self.told.imported))

    def wait_for_archive(self, vigie: InstallationProcess) -> None:
        """Until every record is folded into the feature state and written to the archive."""
        with self.screen.waiting("Folding and archiving"):
            until("everything is folded and archived", lambda: _caught_up(vigie), PATIENCE_SECONDS)
        counts = vigie.status("features")["counts"]
        self.screen.say(f"Folded and archived: {counts['customers']:,} students.")

    def weigh(self, vigie: InstallationProcess) -> None:
        """How many bytes the features service keeps of a student."""
        where = f"{(vigie.connection.data / FEATURES_DB).as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(where, uri=True)) as db:
            count, mean, most = db.execute(
                "SELECT count(*), avg(length(blob)), max(length(blob)) FROM tiles"
            ).fetchone()
        features = len(FeatureTable.load(FEATURE_REPO).features)
        self.told.state = {"members": count, "features": features, "mean_bytes": round(mean), "most_bytes": most}
        self.screen.say(f"State of {count:,} members for {features} features: {mean:,.0f} B each, at most {most:,} B.")

    def train(self, vigie: InstallationProcess) -> None:
        """The study's landmarks, through the system's feature table and Feast, into the system's MLflow."""
        from vigie_training import main as training

        where = vigie.connection
        modelling.register_features(where, self.screen)
        table = course.landmarks(where.data / "archive", *self.cohorts)
        with self.screen.waiting("Training") as arrived, self._notices_to_log():
            made = training.train(
                "churn",
                data=where.data,
                feature_repo=FEATURE_REPO,
                mlflow_uri=where.addresses.mlflow,
                clock=where.clock,
                definition=DEFINITION,
                landmarks=table,
                progress=lambda said: arrived.show(f"Training: {said}"),
            )
        slices = [
            (
                part.name,
                f"{part.rows:,}",
                f"{part.customers:,}",
                f"{part.positives:,} ({part.positives / part.rows:.2%})",
            )
            for part in made.slices
        ]
        self.screen.table(("slice", "rows", "students", "withdraw within 28 days"), slices)
        self.screen.table(
            ("on the test cohort", "model, 95 % interval", f"floor: {made.floor}"),
            [(name, made.figures[name].text(), made.floor_figures[name].text()) for name in SHOWN_FIGURES],
        )
        self.screen.say(f"{made.model_name} version {made.version}: {made.url}")
        self.screen.say(f"spec hash {made.spec_hash}, {made.seconds:.0f} s")
        self.told.training = msgspec.to_builtins(made)

    @contextlib.contextmanager
    def _notices_to_log(self) -> Iterator[None]:
        """What libraries print while they train goes to training.log; errors arrive as exceptions all the same."""
        with (self.work / "training.log").open("a") as log, contextlib.redirect_stderr(log):
            yield

    def promote(self, vigie: InstallationProcess) -> None:
        """The gate's points; where it refuses, the override is open and stands in the ledger."""
        report = modelling.promote(vigie.connection, MODEL, self.screen, override=OVERRIDE)
        if report.override:
            self.screen.say(f"Overridden in the open: {report.override}")
        self.told.gate = {
            "verdict": report.verdict,
            "points": [(point.number, point.status, point.sentence) for point in report.points],
        }

    def compare(self, vigie: InstallationProcess) -> None:
        """Stored scores and served vectors against the training path, each at its own read point."""
        wanted = min(COMPARED, vigie.status("features")["counts"]["customers"])
        with self.screen.waiting("Waiting until the champion has scored everyone"):
            until("the champion scores", lambda: _scored(vigie), PATIENCE_SECONDS)
        self._compare_stored(vigie, wanted)
        self.compare_reads(vigie, "after the courses", wanted)

    def _compare_stored(self, vigie: InstallationProcess, limit: int) -> None:
        scores = _stored_scores(vigie.data, limit)
        features = _model_features()
        rows = [(score.customer_id, score.read_point.t_us, score.vector) for score in scores]
        self._tell_parity("stored with scores", vigie, rows, [feature.key for feature in features])

    def compare_reads(self, vigie: InstallationProcess, when: str, limit: int = COMPARED) -> None:
        """What features serves now against Feast's historical answer at the same read points, nothing being written."""
        client = vigie.connection.client("features")
        customers = _customers(vigie.data)[:limit]
        answer = client.post("/internal/read", FeaturesRequest(customer_ids=customers), FeaturesAnswer)
        client.close()
        until("the archive has what was read", lambda: _archived(vigie, answer.rows), PATIENCE_SECONDS)
        rows = [(row.customer_id, row.read_point.t_us, row.values) for row in answer.rows]
        self._tell_parity(f"served {when}", vigie, rows, answer.features)

    def _tell_parity(
        self, what: str, vigie: InstallationProcess, rows: Sequence[tuple[str, int, list[int | None]]], names: list[str]
    ) -> None:
        """Compare with what a training set would hold: stock Feast's get_historical_features at the same instants."""
        from vigie_training.vectors import TrainingVectors

        table = FeatureTable.load(FEATURE_REPO).by_key
        ids = np.array([row[0] for row in rows], dtype=object)
        at = np.array([row[1] for row in rows], dtype=np.int64)
        expected = TrainingVectors(vigie.data, FEATURE_REPO).at(ids, at, [table[name] for name in names])
        actual = np.array([[np.nan if value is None else value for value in row[2]] for row in rows], dtype=np.float64)
        different = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
        nonzero = int(np.count_nonzero(np.nan_to_num(actual)))
        found = {
            "what": what,
            "students": len(set(ids)),
            "values": int(actual.size),
            "not_zero": nonzero,
            "mismatches": int(different.sum()),
        }
        self.told.parity.append(found)
        self.screen.say(
            f"{what}: {found['students']:,} students, {found['values']:,} values ({nonzero:,} not zero),"
            f" {found['mismatches']} mismatches"
        )
        for row, column in np.argwhere(different)[:5]:
            self.screen.say(f"  {ids[row]} {names[column]}: {actual[row, column]} but {expected[row, column]}")

    def hand_over(self) -> None:
        """The first installation's models, aliases and promotion ledger become the second's, while neither runs."""
        first, second = self.work / "first" / "data", self.work / "second" / "data"
        shutil.rmtree(second, ignore_errors=True)
        shutil.copytree(first / "mlartifacts", second / "mlartifacts")
        for name in ("mlflow.db", "ledger.db"):
            shutil.copy2(first / name, second / name)

    def move_in(self, vigie: InstallationProcess) -> None:
        """Wait until scoring has loaded the champion that came with the folder."""
        with self.screen.waiting("Waiting until scoring serves the champion"):
            until("scoring serves the champion", lambda: _serves(vigie), PATIENCE_SECONDS)
        self.screen.say("The champion of the first installation is served by the second.")

    def import_history(self, vigie: InstallationProcess) -> list[ImportRecord]:
        """Import what was known when the two weeks begin, each batch once the clock is there. Answers what follows."""
        records = course.records_of(self.folder, LIVE)
        begin_us = parse_instant(LIVE_FROM)
        history = [record for record in records if course.known_us(record) < begin_us]
        client = vigie.connection.client("ingest")
        accepted = 0
        for start in range(0, len(history), IMPORT_BATCH):
            batch = history[start : start + IMPORT_BATCH]
            _wait_for_clock(vigie, course.known_us(batch[-1]))
            accepted += client.post(
                "/internal/import", ImportRequest(source_id="oulad", records=batch), ImportAnswer
            ).accepted
        client.close()
        _wait_for_clock(vigie, begin_us)
        self.told.live = {"history": accepted}
        self.screen.say(f"{accepted:,} records from before {LIVE_FROM}; it is {_now(vigie)} there.")
        until_us = begin_us + self.live_days * DAY_US
        return [record for record in records if begin_us <= course.known_us(record) < until_us]

    def play(self, vigie: InstallationProcess, records: Sequence[ImportRecord]) -> None:
        """Send each record over HTTP once the business clock has reached it."""
        sent, began = 0, time.monotonic()
        with self.screen.waiting("Playing") as arrived:
            for instant_us, at_once in itertools.groupby(records, course.known_us):
                _wait_for_clock(vigie, instant_us)
                items = [course.item(record) for record in at_once]
                for start in range(0, len(items), ITEMS_A_CALL):
                    vigie.send(items[start : start + ITEMS_A_CALL])
                sent += len(items)
                arrived.show(f"Playing: it is {_now(vigie)}, {sent:,} events sent")
            until("features and scoring have caught up", lambda: _caught_up(vigie) and _scoring_rests(vigie), 300)
        accepted = vigie.status("ingest")["counts"]["accepted"] - self.told.live["history"]
        self.told.live |= {"sent": sent, "accepted": accepted, "seconds": round(time.monotonic() - began, 1)}
        self.screen.say(f"{sent:,} events sent over HTTP, {accepted:,} accepted; it is {_now(vigie)} there.")

    def ask(self, vigie: InstallationProcess) -> None:
        """The work list over GraphQL."""
        self.screen.say(AT_RISK)
        edges = vigie.graphql(AT_RISK)["customers"]["edges"]
        for node in (edge["node"] for edge in edges):
            churn = node["churn"]
            self.told.at_risk.append(node)
            self.screen.say(f"{node['externalId']}: {churn.get('probability', 0):.1%} {churn.get('band', '')}")
            for reason in churn.get("reasons", []):
                self.screen.say(f"    {'+' if reason['direction'] == 'INCREASES_RISK' else '-'} {reason['text']}")


def _model_features() -> tuple[Any, ...]:
    """The model's features in order."""
    left_out = ChurnDefinition.load(FEATURE_REPO, DEFINITION).exclude_features
    return tuple(row for row in FeatureTable.load(FEATURE_REPO).features if row.key not in left_out)


def _caught_up(vigie: InstallationProcess) -> bool:
    """Whether state and archive have all of the log of events."""
    lag, end = vigie.status("features")["lag"], vigie.status("ingest")["offsets"]["events"]
    behind = lag["records"] + lag["archive_records"]
    return bool(behind == 0 and vigie.status("features")["offsets"]["archive"].get(str(LANE), 0) == end)


def _archived(vigie: InstallationProcess, rows: Sequence[FeatureRow]) -> bool:
    archived = vigie.status("features")["offsets"]["archive"].get(str(LANE), 0)
    return all(archived >= row.read_point.pos.get(LANE, 0) for row in rows)


def _scoring_rests(vigie: InstallationProcess) -> bool:
    """Whether scoring has assessed everything that it knows of."""
    status = vigie.status("scoring")
    return not any(status["lag"].values()) and status["counts"]["pending"] == 0


def _serves(vigie: InstallationProcess) -> bool:
    client = vigie.connection.client("scoring")
    found = client.get("/internal/models", ModelsAnswer)
    client.close()
    return any(row.name == MODEL and row.alias == CHAMPION and row.version and not row.problem for row in found.models)


def _scored(vigie: InstallationProcess) -> bool:
    """Whether the re-scoring with the champion has come to its end."""
    progress = vigie.status("scoring")["rescoring"].get(MODEL, {})
    return _serves(vigie) and _scoring_rests(vigie) and bool(progress.get("version")) and progress.get("after") is None


def _stored_scores(data: Path, limit: int) -> list[ChurnScore]:
    """The newest stored score of each of `limit` students."""
    log = SqliteLogReader(data / "scoring.db", "scores")
    end = log.end().get(LANE, 0)
    found: dict[str, ChurnScore] = {}
    while end > 0 and len(found) < limit:
        start = max(end - 5_000, 0)
        for entry in reversed(log.read({LANE: start}, end - start)):
            current = decode_score(entry.payload).current
            if isinstance(current, ChurnScore):
                found.setdefault(current.customer_id, current)
        end = start
    log.close()
    return list(found.values())[:limit]


def _customers(data: Path) -> list[str]:
    from vigie_training.population import archive_views

    with archive_views(data / "archive") as db:
        rows = db.execute(
            "SELECT DISTINCT coalesce(c.customer_id, e.member_id) AS id FROM events e"
            " LEFT JOIN customer_of c USING (member_id) ORDER BY hash(id)"
        ).fetchall()
    return [row[0] for row in rows]


def _wait_for_clock(vigie: InstallationProcess, instant_us: int) -> None:
    clock = vigie.connection.clock
    until(f"the clock reaches {format_instant(instant_us)}", lambda: clock.now_us() >= instant_us, PATIENCE_SECONDS)


def _now(vigie: InstallationProcess) -> str:
    return format_instant(vigie.connection.clock.now_us())[:16].replace("T", " ")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data set's files")
    parser.add_argument("--work", type=Path, help="folder for both installations, kept (default: a temporary one)")
    parser.add_argument("--courses", choices=("all", "small"), default="all", help="small: module AAA only")
    parser.add_argument("--live-days", type=int, default=14, help="business days that are played over HTTP")
    parser.add_argument("--rate", type=float, default=RATE, help="how fast the second installation's clock runs")
    return parser.parse_args()


def main() -> int:
    """All steps; 0, or 1 with a sentence."""
    given = arguments()
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vigie-oulad-")))
        work.mkdir(parents=True, exist_ok=True)
        walk = Walk(given, work.resolve())
        try:
            walk.whole()
        except VigieError as error:
            walk.screen.warn(f"The walk-through ends here: {error.message}")
            return 1
        finally:
            replace_file(work / "figures.json", msgspec.json.format(msgspec.json.encode(walk.told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
