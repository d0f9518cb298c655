"""Stock Feast's commands on the shipped repository: they work, or say why not in one sentence.

`feast apply` is in tests/unit/feature_repo. The processes are forked from one that has imported Feast,
which would otherwise take most of the time.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
import pytest
from feast.cli.cli import cli
from vigie_contracts.features import FeatureTable
from vigie_kit import installation
from vigie_tiles import registration
from vigie_tiles.layout import Layout
from vigie_tiles.provider import NO_MATERIALISATION, NO_TEARDOWN

from tests.contract.feast_online_suite import ZONE, set_clock
from tests.servers import free_port, until
from tests.unit.tiles.tile_world import DAY, HOUR, NOON, event, write_features_db

FORKING = multiprocessing.get_context("forkserver")
VIEW = registration.VIEW


@dataclass
class Commands:
    """What ran: `said` by command (exit code, everything printed), and the addresses of the two servers."""

    said: dict[str, tuple[int | None, str]]
    serve: str
    ui: str
    data: Path


@pytest.fixture(scope="module")
def commands(feature_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    data, fresh = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("fresh")
    set_clock(data, NOON)
    installation.create(fresh)
    layout = Layout(FeatureTable.load(feature_repo), ZONE)
    events = [event(NOON - HOUR, member_id="c1"), event(NOON - 3 * DAY, member_id="c2")]
    write_features_db(data / "features.db", layout, events, {"c2": "c1"})
    registration.apply(data, feature_repo)
    serve, ui = free_port(), free_port()
    FORKING.set_forkserver_preload(
        ["feast.cli.cli", "vigie_tiles.registration", "tests.integration.test_feast_commands"]
    )
    lines: dict[str, tuple[Path | None, tuple[str, ...]]] = {
        "plan": (fresh, ()),
        "apply": (None, ()),
        "materialize": (data, ("2026-01-01T00:00:00", "2026-02-01T00:00:00")),
        "materialize-incremental": (data, ("2026-02-01T00:00:00",)),
        "teardown": (data, ()),
        "serve": (data, ("--port", str(serve), "--no-access-log")),
        "ui": (data, ("--host", "127.0.0.1", "--port", str(ui))),
    }
    with contextlib.ExitStack() as stack:
        started = {
            name: _start(stack, data / f"{name}.log", ["-c", str(feature_repo), name, *more], where)
            for name, (where, more) in lines.items()
        }
        addresses = f"http://127.0.0.1:{serve}", f"http://127.0.0.1:{ui}"
        until("feast serve and feast ui answer", lambda: all(map(_answers, addresses)), 240)
        said = {}
        for name in lines.keys() - {"serve", "ui"}:
            started[name].join(240)
            said[name] = started[name].exitcode, (data / f"{name}.log").read_text()
        yield Commands(said, *addresses, data)


def test_plan_says_what_apply_would_make(commands: Commands) -> None:
    code, said = commands.said["plan"]
    assert code == 0, said
    for line in ("Created entity customer", f"Created feature view {VIEW}", "No changes to infrastructure"):
        assert line in _plain(said)
    services = {line.rsplit(" ", 1)[1] for line in _plain(said).splitlines() if "feature service" in line}
    assert services == set(registration.SERVICES)


@pytest.mark.parametrize("command", ["materialize", "materialize-incremental"])
def test_materialising_is_refused_in_one_sentence_and_leaves_no_trace(
    commands: Commands, feature_repo: Path, command: str
) -> None:
    code, said = commands.said[command]
    assert code == 1
    assert said.endswith(f"Error: {NO_MATERIALISATION}\n")
    assert "Traceback" not in said
    view = registration.store(commands.data, feature_repo).get_feature_view(VIEW)
    assert view.materialization_intervals == []


def test_teardown_is_refused_with_what_to_do_instead(commands: Commands, feature_repo: Path) -> None:
    assert commands.said["teardown"] == (1, f"Error: {NO_TEARDOWN}\n")
    assert registration.store(commands.data, feature_repo).get_feature_view(VIEW).name == VIEW


def test_without_a_data_directory_a_command_says_what_to_set(commands: Commands) -> None:
    code, said = commands.said["apply"]
    assert code == 1
    assert said.startswith("Error: set VIGIE_DATA to Vigie's data directory, as an absolute path")
    assert len(said.splitlines()) == 1


def test_serve_answers_values_at_the_clock_over_http(commands: Commands) -> None:
    asked = {
        "features": [f"{VIEW}:login_count_7d", f"{VIEW}:login_count_1d"],
        "entities": {"customer_id": ["nobody", "c1"]},
    }
    answer = httpx.post(f"{commands.serve}/get-online-features", json=asked, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert _values(answer) == {"customer_id": ["nobody", "c1"], "login_count_7d": [0, 2], "login_count_1d": [0, 1]}
    try:
        set_clock(commands.data, NOON + 5 * DAY)
        later = httpx.post(f"{commands.serve}/get-online-features", json=asked, timeout=60, trust_env=False)
    finally:
        set_clock(commands.data, NOON)
    assert _values(later)["login_count_7d"] == [0, 1]


def test_serve_answers_a_whole_feature_service(commands: Commands, feature_repo: Path) -> None:
    asked = {"feature_service": "churn", "entities": {"customer_id": ["c1"]}}
    answer = httpx.post(f"{commands.serve}/get-online-features", json=asked, timeout=60, trust_env=False)
    found = _values(answer)
    assert set(found) == {"customer_id", *FeatureTable.load(feature_repo).by_key}
    assert found["login_count_7d"] == [2]


def test_serve_refuses_to_materialise_with_the_sentence(commands: Commands) -> None:
    asked = {"start_ts": "2026-01-01T00:00:00", "end_ts": "2026-02-01T00:00:00", "feature_views": [VIEW]}
    answer = httpx.post(f"{commands.serve}/materialize", json=asked, timeout=60, trust_env=False)
    assert answer.status_code == 500
    assert NO_MATERIALISATION in answer.text


def test_ui_shows_its_page_and_the_view(commands: Commands, feature_repo: Path) -> None:
    page = httpx.get(commands.ui, timeout=60, trust_env=False)
    assert page.status_code == 200
    assert '<div id="root">' in page.text
    answer = httpx.get(f"{commands.ui}/api/v1/feature_views", params={"project": "vigie"}, timeout=60, trust_env=False)
    (view,) = answer.json()["featureViews"]
    assert view["spec"]["name"] == VIEW
    names = [feature["name"] for feature in view["spec"]["features"]]
    assert names == list(FeatureTable.load(feature_repo).by_key)


def _start(stack: contextlib.ExitStack, log: Path, arguments: list[str], data: Path | None) -> ForkServerProcess:
    """A command of stock Feast as a process, ended by its id when the stack closes."""
    process = FORKING.Process(target=_run, args=(log, arguments, data))
    process.start()
    stack.callback(process.join, 30)
    stack.callback(process.terminate)
    return process


def _run(log: Path, arguments: list[str], data: Path | None) -> None:
    """What the script `feast` does, with everything printed to a file."""
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ |= {"TZ": "UTC"} | ({"VIGIE_DATA": str(data)} if data else {})
    time.tzset()
    sys.argv = ["feast", *arguments]
    cli()


def _plain(said: str) -> str:
    """Without the terminal's colours."""
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m"):
        said = said.replace(code, "")
    return said


def _answers(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health", timeout=10, trust_env=False).status_code < 500
    return False


def _values(answer: httpx.Response) -> dict[str, list[object]]:
    """Values by name, in the order of the rows asked for."""
    body = answer.json()
    columns = zip(body["metadata"]["feature_names"], body["results"], strict=True)
    return {name: column["values"] for name, column in columns}
