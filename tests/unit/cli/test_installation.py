"""What `vigie up` sets up once, and what it refuses."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from vigie_cli import credentials, running
from vigie_cli.addresses import addresses, busy_ports, ports, require_free
from vigie_cli.programs import programs
from vigie_cli.system import Wanted, settle
from vigie_contracts.errors import Conflict, IncompatibleData, NotFound
from vigie_contracts.instants import ClockSetting, parse_instant

from tests.servers import until


def wanted(data: Path, **values: object) -> Wanted:
    return Wanted(data=data, feature_repo=data, port_base=8700, **values)  # type: ignore[arg-type]


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    made = credentials.load_or_create(tmp_path)
    assert credentials.load_or_create(tmp_path) == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert not credentials.too_open(tmp_path)
    (tmp_path / "secrets.json").chmod(0o640)
    assert credentials.too_open(tmp_path)
    assert len({made.service_token, made.api_token, made.write_key}) == 3


def test_missing_or_damaged_keys_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="vigie up --data"):
        credentials.load(tmp_path)
    (tmp_path / "secrets.json").write_text("{}")
    with pytest.raises(IncompatibleData, match="is damaged"):
        credentials.load(tmp_path)


def test_a_new_installation_takes_the_clock_asked_for_and_keeps_it(tmp_path: Path) -> None:
    begin = parse_instant("2014-11-03T00:00Z")
    made = settle(wanted(tmp_path, clock_us=begin, rate=4000.0, time_zone="Europe/Paris"))
    assert (made.clock.base_virtual_us, made.clock.rate, made.time_zone) == (begin, 4000.0, "Europe/Paris")
    assert settle(wanted(tmp_path)) == made
    assert settle(wanted(tmp_path, clock_us=begin, rate=4000.0, time_zone="Europe/Paris")) == made


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rate": 2.0}, "was set up with the system's clock, which is fixed once .* Leave out --clock and --rate"),
        ({"clock_us": 5}, "was set up with the system's clock"),
        ({"time_zone": "Europe/Paris"}, "was set up with UTC, which is fixed once .* Leave out --time-zone"),
    ],
)
def test_an_installation_is_not_changed_afterwards(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    assert settle(wanted(tmp_path)).clock == ClockSetting()
    with pytest.raises(Conflict, match=sentence):
        settle(wanted(tmp_path, **change))


def test_a_busy_port_is_named_with_the_flag_that_changes_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"{port} (ingest)" in busy_ports(port - 1)
        with pytest.raises(Conflict, match=rf"{port} \(gateway\).*Choose another base with --port-base N"):
            require_free(port)


def test_ports_follow_the_base() -> None:
    assert ports(9000) == {"gateway": 9000, "ingest": 9001, "features": 9002, "scoring": 9003, "mlflow": 9004}
    assert addresses(9000).mlflow == "http://127.0.0.1:9004"


def test_every_process_gets_its_own_port_and_the_shared_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    keys = credentials.load_or_create(tmp_path)
    made = {program.name: program for program in programs(tmp_path, tmp_path / "repo", 9000, keys)}
    assert next(iter(made)) == "gateway"
    assert made["scoring"].environment["VIGIE_SCORING_PORT"] == "9003"
    assert made["scoring"].environment["VIGIE_MLFLOW_URI"] == "http://127.0.0.1:9004"
    assert made["ingest"].environment["VIGIE_INGEST_WRITE_KEYS"] == f"{keys.write_key}=default"
    assert {program.environment["TZ"] for program in made.values()} == {"UTC"}
    assert {program.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] for program in made.values()} == {"false"}
    assert not any(keys.service_token in argument for program in made.values() for argument in program.command)


def test_a_second_supervisor_is_refused_and_says_where_the_first_one_is(tmp_path: Path) -> None:
    with running.claim(tmp_path):
        running.record(tmp_path, port_base=9000, addresses=addresses(9000), feature_repo=tmp_path)
        sentence = rf"already runs on {tmp_path} \(process {os.getpid()}, http://127.0.0.1:9000\)"
        with pytest.raises(Conflict, match=sentence), running.claim(tmp_path):
            pass
        assert running.is_running(tmp_path)
        assert running.find(tmp_path).port_base == 9000
    assert not running.is_running(tmp_path)
    with pytest.raises(NotFound, match="start it with `vigie up --data"):
        running.find(tmp_path)


def test_the_claim_of_a_killed_supervisor_is_free_again(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from vigie_cli import running\n"
        "with running.claim(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert running.is_running(tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()
    until("the lock is free", lambda: not running.is_running(tmp_path))
    with running.claim(tmp_path):
        assert running.is_running(tmp_path)
