"""What the commands ask of training and of the model registry. Training is imported when it is needed: it is slow.

`Training` is all that the command line needs of `vigie_training.commands`.
"""

import getpass
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vigie_contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from vigie_contracts.models import CHALLENGER, CHAMPION, PROPENSITY_MODEL
from vigie_contracts.scores import ChurnDefinition

from vigie_cli.connection import Connection
from vigie_cli.screen import Screen

KINDS = ("churn", "next-best-offer")
MODULE = "vigie_training.commands"


class Trained(Protocol):
    """A model version that was registered as challenger."""

    name: str
    version: str
    run_url: str
    metrics: dict[str, float]


class GatePoint(Protocol):
    """One point of the gate and its verdict in a sentence."""

    number: int
    passed: bool
    sentence: str


class Promotion(Protocol):
    """What the gate decided, and which version is champion now."""

    name: str
    version: str
    promoted: bool
    previous: str | None
    points: Sequence[GatePoint]


class Training(Protocol):
    """The functions of `vigie_training.commands`; all raise VigieError with a sentence."""

    def train(
        self, kind: str, *, data: Path, feature_repo: Path, mlflow_uri: str, tell: Callable[[str], None]
    ) -> Trained:
        """Train and register a challenger of `churn` (the primary definition) or `next-best-offer`."""

    def promote(
        self, name: str, *, data: Path, feature_repo: Path, mlflow_uri: str, who: str, override: str | None
    ) -> Promotion:
        """Apply the gate to the challenger; promote it when all points hold, or with an override's reason."""

    def rollback(self, name: str, *, data: Path, mlflow_uri: str, who: str) -> Promotion:
        """Move the champion alias back to the version before."""


@dataclass(frozen=True)
class Registered:
    """A registered model: its newest version and what the aliases point at."""

    name: str
    newest: str
    champion: str | None
    challenger: str | None


def model_name(connection: Connection, kind: str) -> str:
    """The registered model's name of a kind: `churn` stands for the primary definition."""
    if kind == "next-best-offer":
        return PROPENSITY_MODEL
    return ChurnDefinition.load_all(connection.feature_repo)[0].model_name


def champion(connection: Connection, kind: str) -> str | None:
    """The champion's version, None when there is none."""
    name = model_name(connection, kind)
    return next((model.champion for model in registered(connection) if model.name == name), None)


def registered(connection: Connection) -> list[Registered]:
    """All registered models by name."""
    answer = _ask_registry(connection, "registered-models/search", {"max_results": "1000"})
    found = []
    for model in answer.get("registered_models", []):
        aliases = {alias["alias"]: alias["version"] for alias in model.get("aliases", [])}
        newest = max((int(version["version"]) for version in model.get("latest_versions", [])), default=0)
        found.append(Registered(model["name"], str(newest), aliases.get(CHAMPION), aliases.get(CHALLENGER)))
    return sorted(found, key=lambda model: model.name)


def register_features(connection: Connection, screen: Screen) -> None:
    """Tell Feast of the feature table, so that training sets come through it."""
    from vigie_tiles import registration

    with screen.waiting("Registering the features in Feast"):
        registration.apply(connection.data, connection.feature_repo)


def train(connection: Connection, kind: str, screen: Screen) -> Trained:
    """Train a challenger, with its steps and figures shown."""
    with screen.waiting(f"Training {kind}") as arrived:
        made = _training().train(
            kind,
            data=connection.data,
            feature_repo=connection.feature_repo,
            mlflow_uri=connection.addresses.mlflow,
            tell=lambda step: arrived.show(f"Training {kind}: {step}"),
        )
    screen.say(f"{made.name} version {made.version} is trained ({made.run_url}).")
    for metric, value in made.metrics.items():
        screen.say(f"  {metric}: {value:.4g}")
    return made


def promote(connection: Connection, name: str, screen: Screen, override: str | None = None) -> Promotion:
    """Let the gate judge the challenger, each point shown; Conflict names the points that refused it."""
    if override is not None and not override.strip():
        raise InvalidInput("--override needs a reason, which stands in the promotion ledger")
    with screen.waiting(f"The gate judges {name}"):
        decided = _training().promote(
            name,
            data=connection.data,
            feature_repo=connection.feature_repo,
            mlflow_uri=connection.addresses.mlflow,
            who=who(),
            override=override,
        )
    for point in decided.points:
        screen.say(f"  gate point {point.number}: {'passed' if point.passed else 'REFUSED'}: {point.sentence}")
    if not decided.promoted:
        refused = "; ".join(f"point {point.number}: {point.sentence}" for point in decided.points if not point.passed)
        raise Conflict(
            f"the gate refused {name} version {decided.version}: {refused}. "
            f"`vigie promote {name} --override REASON` promotes it all the same and says so in the ledger."
        )
    screen.say(f"{name}: version {decided.version} is champion now (before: {decided.previous or 'none'}).")
    return decided


def rollback(connection: Connection, name: str, screen: Screen) -> Promotion:
    """Move the champion alias back."""
    done = _training().rollback(name, data=connection.data, mlflow_uri=connection.addresses.mlflow, who=who())
    screen.say(f"{name}: version {done.version} is champion again (before: {done.previous or 'none'}).")
    return done


def train_and_promote(connection: Connection, kind: str, screen: Screen) -> None:
    """Both, as the demo does it."""
    promote(connection, train(connection, kind, screen).name, screen)


def awaiting(connection: Connection) -> list[str]:
    """Models whose challenger is not the champion; NotFound when there is none."""
    names = [model.name for model in registered(connection) if model.challenger not in (None, model.champion)]
    if not names:
        raise NotFound(
            "no challenger waits for promotion; `vigie train churn` or `vigie train next-best-offer` makes one"
        )
    return names


def who() -> str:
    """Who stands in the ledger: the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _training() -> Training:
    try:
        found: Any = importlib.import_module(MODULE)
    except ModuleNotFoundError as error:
        raise Unavailable(f"training is not installed here ({error.name} is missing)") from error
    training: Training = found
    return training


def _ask_registry(connection: Connection, path: str, parameters: dict[str, str]) -> dict[str, Any]:
    import httpx

    url = f"{connection.addresses.mlflow}/api/2.0/mlflow/{path}"
    try:
        answer = httpx.get(url, params=parameters, timeout=30, trust_env=False)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"the model registry at {connection.addresses.mlflow} does not answer: {error}") from error
    return found
