"""The supervisor with real child processes."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from vigie_cli.child import Child
from vigie_cli.supervisor import Supervisor
from vigie_contracts.errors import Unavailable

from tests.servers import until
from tests.unit.cli.children import is_alive, pids, serving


def test_it_starts_all_waits_until_ready_and_leaves_nothing_behind(tmp_path: Path) -> None:
    arrived: list[str] = []
    supervisor = Supervisor(
        [serving(tmp_path, "gateway"), serving(tmp_path, "ingest", "grandchild")], tmp_path / "logs", tell=print
    )
    supervisor.start()
    supervisor.wait_until_ready(20, arrived.append)
    processes = pids(tmp_path, "gateway") + pids(tmp_path, "ingest")
    grandchild = int((tmp_path / "ingest.grandchild").read_text())
    assert sorted(arrived) == ["gateway", "ingest"]
    assert all(is_alive(pid) for pid in [*processes, grandchild])
    supervisor.stop()
    assert not any(is_alive(pid) for pid in [*processes, grandchild])
    assert (tmp_path / "logs" / "gateway.log").read_text() == "gateway serves None UTC\n"


def test_a_child_that_dies_is_named_with_its_log_and_started_again_without_its_failpoint(tmp_path: Path) -> None:
    told: list[str] = []
    program = serving(tmp_path, "ingest", VIGIE_FAILPOINT="ingest.before_commit")
    supervisor = Supervisor([program], tmp_path / "logs", tell=told.append)
    supervisor.start()
    supervisor.wait_until_ready(20)
    os.kill(pids(tmp_path, "ingest")[0], signal.SIGKILL)
    until("a second process", lambda: len(pids(tmp_path, "ingest")) == 2)
    until("its log", lambda: "ingest serves None UTC" in (tmp_path / "logs" / "ingest.log").read_text())
    supervisor.stop()
    log = tmp_path / "logs" / "ingest.log"
    assert told == [
        f"ingest ended by signal SIGKILL; the last lines of {log}:\ningest serves ingest.before_commit UTC\n"
        "ingest starts again in 0.5 s."
    ]
    assert not any(is_alive(pid) for pid in pids(tmp_path, "ingest"))


def test_a_child_that_never_starts_is_given_up_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigie_cli.child.FIRST_PAUSE_SECONDS", 0.01)
    supervisor = Supervisor([serving(tmp_path, "scoring", "fail")], tmp_path / "logs", tell=lambda _sentence: None)
    supervisor.start()
    with pytest.raises(
        Unavailable, match=r"(?s)scoring ended with code 3;.*the reason why it fails.*could not be started"
    ):
        supervisor.wait_until_ready(30)
    supervisor.stop()
    assert len(pids(tmp_path, "scoring")) == 6


def test_one_that_is_not_ready_in_time_is_named(tmp_path: Path) -> None:
    program = serving(tmp_path, "scoring")
    never = type(program)("scoring", program.command, port=1, environment=program.environment)
    supervisor = Supervisor([never], tmp_path / "logs", tell=print)
    supervisor.start()
    with pytest.raises(Unavailable, match="scoring was not ready within 0 s"):
        supervisor.wait_until_ready(0.2)
    supervisor.stop()
    assert not any(is_alive(pid) for pid in pids(tmp_path, "scoring"))


def test_restarts_back_off_and_are_at_most_five_in_a_minute(tmp_path: Path) -> None:
    child = Child(serving(tmp_path, "ingest"), tmp_path)
    assert [child.plan_restart(100.0 + second) for second in range(5)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert child.plan_restart(110.0) == pytest.approx(100.5 + 60 - 110.0)
    assert child.plan_restart(400.0) == 0.5


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = """
        import sys, pathlib
        from tests.unit.cli.children import serving
        from vigie_cli.supervisor import Supervisor
        folder = pathlib.Path(sys.argv[1])
        programs = [serving(folder, "gateway"), serving(folder, "mlflow", "grandchild")]
        supervisor = Supervisor(programs, folder / "logs", print)
        supervisor.start()
        supervisor.wait_until_ready(20)
        print("ready", flush=True)
        supervisor.wait()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = [
        *pids(tmp_path, "gateway"),
        *pids(tmp_path, "mlflow"),
        int((tmp_path / "mlflow.grandchild").read_text()),
    ]
    assert all(is_alive(pid) for pid in children)
    process.kill()
    process.wait()
    process.stdout.close()
    until("the end of all children", lambda: not any(is_alive(pid) for pid in children))
