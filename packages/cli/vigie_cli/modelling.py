"""Training, the gate and the registry as the commands and the demo show them."""

import contextlib
import getpass
from collections.abc import Iterator
from typing import Literal

from vigie_contracts.errors import Conflict
from vigie_contracts.scores import ChurnDefinition
from vigie_training import main as training
from vigie_training.gate import GateReport
from vigie_training.main import TrainedRun

from vigie_cli.connection import Connection
from vigie_cli.screen import Screen

Kind = Literal["churn", "next-best-offer"]
KINDS: tuple[Kind, ...] = ("churn", "next-best-offer")
MARKS = {"held": "held", "refused": "REFUSED", "not judged yet": "not judged yet"}


def model_name(connection: Connection, kind: Kind) -> str:
    """The registered model's name of a kind: `churn` stands for the primary definition."""
    return training.model_name(kind, connection.feature_repo, primary(connection))


def primary(connection: Connection) -> str:
    """The key of the institution's primary churn definition."""
    return ChurnDefinition.load_all(connection.feature_repo)[0].key


def register_features(connection: Connection, screen: Screen) -> None:
    """Tell Feast of the feature table, so that training sets come through it."""
    from vigie_tiles import registration

    with screen.waiting("Registering the features in Feast"):
        registration.apply(connection.data, connection.feature_repo)


def train(connection: Connection, kind: Kind, screen: Screen, definition: str | None = None) -> TrainedRun:
    """Train a challenger, with its steps and figures shown."""
    with screen.waiting(f"Training {kind}") as arrived, _notices_to_log(connection):
        made = training.train(
            kind,
            data=connection.data,
            feature_repo=connection.feature_repo,
            mlflow_uri=connection.addresses.mlflow,
            clock=connection.clock,
            definition=definition or primary(connection),
            progress=lambda step: arrived.show(f"Training {kind}: {step}"),
        )
    screen.say(f"{made.model_name} version {made.version}, trained in {made.seconds:.0f} s: {made.url}")
    rows = [
        (name, estimate.text(), made.floor_figures[name].text() if name in made.floor_figures else "")
        for name, estimate in made.figures.items()
    ]
    screen.table(("on the test slice", "model", f"floor: {made.floor}"), rows)
    return made


def promote(
    connection: Connection, name: str, screen: Screen, *, version: str | None = None, override: str | None = None
) -> GateReport:
    """Let the gate judge, each point shown; Conflict, with the points that refused, when it refuses."""
    with screen.waiting(f"The gate judges {name}"), _notices_to_log(connection):
        report = training.promote(
            name,
            data=connection.data,
            mlflow_uri=connection.addresses.mlflow,
            clock=connection.clock,
            who=who(),
            version=version,
            override=override,
        )
    rows = [(str(point.number), MARKS[point.status], point.title, point.sentence) for point in report.points]
    screen.table(("point", "verdict", "what", "why"), rows, title=f"The gate on {name} version {report.version}")
    if not report.promoted:
        raise Conflict(refusal(report))
    before = f"before: version {report.champion_before}" if report.champion_before else "the first one"
    against = "against the gate" if report.verdict == "overridden" else "through the gate"
    screen.say(f"{name}: version {report.version} is champion now, {against} ({before}).")
    return report


def refusal(report: GateReport) -> str:
    """A refusal in words, with the command that overrides it."""
    points = " ".join(f"Point {point.number}: {point.sentence}" for point in report.refusals)
    return (
        f"the gate refused {report.model_name} version {report.version}. {points} "
        f'`vigie promote {report.model_name} --override "REASON"` promotes it all the same and says so in the ledger.'
    )


def rollback(connection: Connection, name: str, screen: Screen) -> None:
    """Move the champion alias back."""
    row = training.rollback(
        name, data=connection.data, mlflow_uri=connection.addresses.mlflow, clock=connection.clock, who=who()
    )
    screen.say(f"{name}: version {row.to_version} is champion again, instead of version {row.from_version}.")


def train_and_promote(connection: Connection, kind: Kind, screen: Screen) -> None:
    """Both, as the demo does it."""
    promote(connection, train(connection, kind, screen).model_name, screen)


@contextlib.contextmanager
def _notices_to_log(connection: Connection) -> Iterator[None]:
    """What libraries print while they train goes to logs/training.log; errors arrive as exceptions all the same."""
    folder = connection.data / "logs"
    folder.mkdir(exist_ok=True)
    with (folder / "training.log").open("a") as log, contextlib.redirect_stderr(log):
        yield


def who() -> str:
    """Who stands in the ledger: the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
