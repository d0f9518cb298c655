"""`vigie quarantine` against a real ingest: all that waits for one reason is released when the reason is gone."""

import shutil
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from vigie_cli import connection as cli_connection
from vigie_cli.commands.quarantine import quarantine
from vigie_cli.connection import Connection
from vigie_cli.quarantine import PAGE
from vigie_kit.client import SyncServiceClient

from tests.integration.ingest_process import KEY, ROOT, IngestProcess, running

PLAN = """
[[event]]
event = "Logged In"
on_violation = "quarantine"
schema = { required = ["device"] }
"""
MANY = PAGE + 3


class _System:
    """Of a running system, ingest."""

    def __init__(self, process: IngestProcess) -> None:
        self._process = process

    def client(self, _service: str) -> SyncServiceClient:
        return self._process.client()


def test_what_waits_for_a_reason_is_released_at_once_when_the_plan_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(ROOT / "feature_repo", repo, ignore=shutil.ignore_patterns("__pycache__"))
    (repo / "plan.toml").write_text(PLAN)
    with running(tmp_path / "data", feature_repo=repo) as ingest:
        monkeypatch.setattr(cli_connection, "connect", lambda _data: cast(Connection, _System(ingest)))

        def run(*words: str, code: int) -> str:
            done = CliRunner().invoke(quarantine, ["release", *words])
            assert done.exit_code == code, done.output
            return done.output

        def login(number: int) -> dict[str, object]:
            return {"type": "track", "event": "Logged In", "userId": "ann", "messageId": f"m{number}"}

        nameless = {"type": "track", "userId": "ann", "messageId": "nameless"}
        sent = {"batch": [*map(login, range(MANY)), nameless]}
        assert ingest.post("/v1/batch", sent, auth=(KEY, "")).status_code == 200
        assert "still in quarantine (plan_violation), such as" in run("--code", "plan_violation", code=1)
        assert ingest.events() == []
        assert "give the IDs to release, or with --source and --code" in run(code=2)
        assert "give the IDs to release, or with --source and --code" in run("1", "--code", "x", code=2)

        ingest.stop()
        (repo / "plan.toml").unlink()
        ingest.start()
        assert run("--code", "plan_violation", "--source", "nobody", code=0) == "0 accepted.\n"
        assert run("--code", "plan_violation", code=0) == f"{MANY:,} accepted.\n"
        assert len(ingest.events()) == MANY
        told = run("--source", "app", code=1).splitlines()
        assert (told[0], len(told)) == ("0 accepted.", 2)
        assert told[1].startswith("1 still in quarantine (no_event_name), such as ")
