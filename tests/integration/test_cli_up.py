"""`vigie up` with all its processes: one line of addresses, one system a data directory, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import System
from tests.servers import until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("vigie")) as running:
        yield running


def processes_of(system: System) -> list[int]:
    """Processes whose environment names this data directory, but not the supervisor itself."""
    assert system.process is not None
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"VIGIE_DATA={system.data}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_one_line_of_json_names_addresses_and_keys(system: System) -> None:
    assert sorted(system.addresses) == ["features", "gateway", "ingest", "mlflow", "scoring", "token", "write_key"]
    assert system.addresses["gateway"] == f"http://127.0.0.1:{system.port_base}"
    assert (system.data / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_status_shows_every_part_ready(system: System) -> None:
    told = json.loads(system.vigie("status", "--json").stdout)
    assert [row["name"] for row in told["services"]] == ["ingest", "features", "scoring", "gateway", "mlflow"]
    assert [row["name"] for row in told["services"] if not row["ready"]] == [], told
    table = system.vigie("status").stdout
    assert "ready" in table
    assert "not ready" not in table


def test_a_second_system_on_the_same_data_is_refused(system: System) -> None:
    done = system.vigie("up", "--port-base", "9990", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"vigie: Vigie already runs on {system.data} (process ")
    assert done.stdout == "" or "Starting" in done.stdout


def test_doctor_finds_nothing_wrong(system: System) -> None:
    done = system.vigie("doctor")
    assert "PROBLEM" not in done.stdout
    assert f"Vigie runs on {system.data}." in done.stdout


def test_a_killed_service_comes_back(system: System) -> None:
    began = processes_of(system)
    assert len(began) >= 5
    victim = next(pid for pid in began if b"vigie_features" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(victim, signal.SIGKILL)
    until("features to be gone", lambda: victim not in processes_of(system))
    until("features to answer again", lambda: system.vigie("status", check=False).returncode == 0, 60)
    log = (system.folder / "up.log").read_text()
    assert "features ended by signal SIGKILL" in log
    assert "features starts again in 0.5 s." in log


def test_down_stops_everything_and_says_so(tmp_path: Path) -> None:
    system = System(tmp_path)
    system.start()
    assert processes_of(system)
    assert system.vigie("down").stdout == "Vigie has stopped.\n"
    assert system.process is not None
    assert system.process.wait(10) == 0
    assert processes_of(system) == []
    assert system.process.stdout is not None
    system.process.stdout.close()
    again = subprocess.run(
        [sys.executable, "-m", "vigie_cli", "up", "--data", str(system.data), "--clock", "2020-01-01T00:00Z"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "was set up with the system's clock, which is fixed once" in again.stderr
