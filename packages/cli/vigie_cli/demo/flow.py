"""The steps of `vigie demo`, one function each, in the order in which a newcomer should meet them."""

import contextlib
import time
from pathlib import Path
from queue import Empty
from typing import Any

import msgspec
from rich.json import JSON
from rich.syntax import Syntax
from vigie_contracts.errors import Unavailable, VigieError

from vigie_cli.catching_up import POLL_SECONDS, await_status
from vigie_cli.connection import Connection
from vigie_cli.demo.graph import AT_RISK, Graph, Updates
from vigie_cli.demo.live import Live
from vigie_cli.screen import Screen
from vigie_cli.simulating import Bank, history, simulation
from vigie_cli.system import System

LOAD_SECONDS = 20.0
UPDATE_SECONDS = 180.0
SHOWN_CUSTOMERS = 3
SHOWN_UPDATES = 5


def show(system: System, bank: Bank, screen: Screen) -> Live:
    """Everything after the start: history, models, scores, live updates, customers at risk. VigieError when one fails.

    Answers the live part, which goes on.
    """
    connection = Connection(
        data=system.data,
        feature_repo=system.feature_repo,
        addresses=system.addresses,
        credentials=system.credentials,
        installation=system.installation,
    )
    fill(connection, bank, screen)
    make_models(connection, screen)
    await_scores(connection, screen)
    graph = Graph(system.addresses.gateway, system.credentials.api_token)
    live = Live(connection, simulation(connection, bank), Updates(graph))
    screen.title("5. Live events, as an application would send them: the simulated bank's next day within minutes")
    live.start()
    show_updates(live, screen)
    show_customers(graph, screen)
    return live


def fill(connection: Connection, bank: Bank, screen: Screen) -> None:
    """The simulated bank's history, folded and archived."""
    screen.title(f"2. The history of a SIMULATED bank: {bank.customers} made-up customers, {bank.days} days")
    history(connection, bank, screen)
    await_status(connection, screen, "features", "Folding events into features, archiving them", _is_folded)


def make_models(connection: Connection, screen: Screen) -> None:
    """Both models: trained, gated, promoted; those that are live already stay."""
    from vigie_cli.modelling import KINDS, model_name, register_features, train_and_promote
    from vigie_cli.registered import champion

    screen.title("3. Models: trained on point-in-time features, judged by the gate, promoted in MLflow")
    register_features(connection, screen)
    for kind in KINDS:
        name = model_name(connection, kind)
        version = champion(connection.addresses.mlflow, name)
        problem = None if version is None else await_loading(connection, name, version, screen)
        if version is None:
            train_and_promote(connection, kind, screen)
        elif problem is None:
            screen.say(f"{kind}: version {version} is champion already.")
        else:
            screen.say(f"{kind}: the champion is not served ({problem}); training another.")
            train_and_promote(connection, kind, screen)


def await_loading(connection: Connection, name: str, version: str, screen: Screen) -> str | None:
    """None as soon as scoring serves this version; what scoring says when it does not in a while."""
    client = connection.client("scoring")
    deadline = time.monotonic() + LOAD_SECONDS
    try:
        with screen.waiting(f"Loading {name}"):
            while time.monotonic() < deadline:
                status = client.get("/internal/status", dict[str, Any])
                if status["rescoring"].get(name, {}).get("version") == version:
                    return None
                time.sleep(POLL_SECONDS)
    finally:
        client.close()
    return "; ".join(status["problems"]) or "scoring does not say why"


def await_scores(connection: Connection, screen: Screen) -> None:
    """Until every customer has been assessed by the champions."""
    screen.title("4. Scores and offers for every customer")
    await_status(connection, screen, "scoring", "Scoring every customer, deciding offers", _is_scored)


def show_updates(live: Live, screen: Screen) -> None:
    """The first score updates that the subscription delivers; Unavailable when none comes."""
    screen.say("Score updates as the subscription scoreUpdated delivers them:")
    deadline = time.monotonic() + UPDATE_SECONDS
    shown = 0
    while shown < SHOWN_UPDATES and time.monotonic() < deadline:
        try:
            screen.say(f"  {in_words(live.updates.queue.get(timeout=POLL_SECONDS))}")
            shown += 1
        except Empty:
            problem = live.updates.problem or live.problem
            if problem is not None:
                raise Unavailable(f"the live part failed: {problem}") from None
    if shown == 0:
        raise Unavailable(f"no score update arrived within {UPDATE_SECONDS:.0f} s of live events")
    screen.say(f"{live.sent} live events were acknowledged so far.")


def show_customers(graph: Graph, screen: Screen) -> None:
    """The query and its answer, as they are."""
    screen.title("6. Customers at risk, with reasons and offers, as GraphQL returns them")
    screen.say(f"POST /graphql with first = {SHOWN_CUSTOMERS}:")
    screen.console.print(Syntax(AT_RISK, "graphql", background_color="default"))
    answer = graph.ask(AT_RISK, first=SHOWN_CUSTOMERS)
    screen.say("The answer:")
    screen.console.print(JSON(msgspec.json.encode(answer).decode()))


def stay(system: System, live: Live, screen: Screen) -> None:
    """Keep everything up and show updates until Ctrl-C; Unavailable when the supervisor fails."""
    screen.title("7. Vigie stays up; Ctrl-C stops everything")
    screen.addresses(system)
    screen.say("GraphiQL asks for the API token above; other clients send it as header Authorization: Bearer TOKEN.")
    try:
        while system.supervisor.failure is None:
            with contextlib.suppress(Empty):
                screen.say(f"  {in_words(live.updates.queue.get(timeout=POLL_SECONDS))}")
        raise Unavailable(system.supervisor.failure)
    finally:
        leave(live, screen)


def leave(live: Live, screen: Screen) -> None:
    """End the live events; what was started is stopped by who started it."""
    screen.title("Stopping everything")
    live.stop()


def in_words(update: dict[str, Any]) -> str:
    """One line for a score update."""
    who = (update.get("customer") or {}).get("externalId") or "a customer"
    current, previous = update["current"], update.get("previous") or {}
    if "probability" not in current:
        return f"{who}: no score any more ({current.get('reason')})"
    before = f"{previous['probability']:.1%} -> " if "probability" in previous else ""
    because = "; ".join(reason["text"] for reason in current.get("reasons", []))
    return f"{who}: {before}{current['probability']:.1%}, {current['band']}{f' ({because})' if because else ''}"


def _is_folded(status: dict[str, Any]) -> bool:
    return not any(status["lag"].get(name) for name in ("records", "archive_records"))


def _is_scored(status: dict[str, Any]) -> bool:
    """Every model is loaded, everybody was re-scored under it, and nothing waits."""
    models = list(status["rescoring"].values())
    waiting = [*status["lag"].values(), status["counts"].get("pending", 0), *(model["after"] for model in models)]
    return bool(models) and all(model["version"] for model in models) and not any(waiting)


def said(error: VigieError, data: Path) -> str:
    """A failure of the demo, with where to look."""
    return f"{error.message}\nThe logs lie in {data / 'logs'}."
