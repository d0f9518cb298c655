"""The command line as a person meets it: exit codes and sentences, never a traceback."""

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from vigie_cli.main import COMMANDS


def vigie(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "vigie_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_help_lists_every_command() -> None:
    done = vigie("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_there_and_documented(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("arguments", [("nonsense",), ("up", "--port-base", "many"), ("promote", "--nonsense")])
def test_a_wrong_command_line_exits_2(arguments: tuple[str, ...]) -> None:
    done = vigie(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: vigie" in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_that_need_a_running_system_say_how_to_start_one(tmp_path: Path) -> None:
    for name in ("status", "down"):
        done = vigie(name, "--data", str(tmp_path))
        assert (done.returncode, done.stderr) == (
            1,
            f"vigie: no Vigie runs on {tmp_path}; start it with `vigie up --data {tmp_path}`\n",
        )
    assert vigie("down", "--quiet", VIGIE_DATA=str(tmp_path)).returncode == 0


def test_a_wrong_clock_is_a_sentence(tmp_path: Path) -> None:
    done = vigie("up", "--data", str(tmp_path / "data"), "--clock", "yesterday")
    assert (done.returncode, done.stderr) == (
        1, "vigie: --clock 'yesterday' is no instant with an offset; write it as 2014-11-03T00:00Z\n",
    )  # fmt: skip
    assert not (tmp_path / "data").exists()


def test_the_light_commands_import_nothing_heavy() -> None:
    code = (
        "import sys; import vigie_cli.commands.status, vigie_cli.commands.up, vigie_cli.commands.down\n"
        "print([name for name in ('feast', 'mlflow', 'pandas', 'xgboost', 'rich', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_finding_that_is_a_problem_makes_doctor_exit_1(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        done = vigie("doctor", "--data", str(tmp_path), "--port-base", str(busy.getsockname()[1]))
    assert (done.returncode, done.stderr) == (1, "")
    assert "PROBLEM" in done.stdout
