"""`vigie catalogue` beside a real ingest, and the tracking plan offline and at arrival."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from vigie_cli import credentials, running
from vigie_cli.addresses import Addresses
from vigie_kit.files import replace_file

from tests.integration.ingest_process import KEY, ROOT, TOKEN, IngestProcess
from tests.integration.ingest_process import running as ingest_running

PLAN = ROOT / "examples" / "plan"


def vigie(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "vigie_cli", *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[IngestProcess]:
    """An ingest with the example's plan, which commands find by its data directory."""
    repo = tmp_path / "feature_repo"
    shutil.copytree(ROOT / "feature_repo", repo)
    shutil.copytree(PLAN, repo, dirs_exist_ok=True)
    with ingest_running(tmp_path / "data", feature_repo=repo) as process:
        keys = credentials.Credentials(service_token=TOKEN, api_token="api", write_key=KEY)
        replace_file(process.folder / credentials.FILE, msgspec.json.encode(keys), mode=credentials.MODE)
        where = Addresses(gateway="", ingest=process.url, features="", scoring="", mlflow="")
        with running.claim(process.folder):
            running.record(process.folder, port_base=0, addresses=where, feature_repo=repo)
            yield process


def send(ingest: IngestProcess, *messages: dict[str, object]) -> None:
    answer = ingest.post("/v1/batch", {"writeKey": KEY, "batch": list(messages)})
    assert answer.json() == {"success": True}


def test_what_arrived_is_shown_without_values_and_with_suggestions(ingest: IngestProcess) -> None:
    send(
        ingest,
        {"type": "track", "event": "Ouverture e-mail", "userId": "u1", "properties": {"from": "jean@example.org"}},
        {"type": "track", "event": "Ouverture e-mail", "userId": "u2"},
        {"type": "track", "event": "Invoice Paid", "userId": "u1", "properties": {"total": 12.5}},
        {"type": "track", "event": "login", "userId": "u1"},
    )
    done = vigie("catalogue", "--data", str(ingest.folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "aaaa@aaaaaaa.aaa" in done.stdout
    assert "jean" not in done.stdout
    assert '"push_message.action", "Ouverture e-mail"]' in done.stdout
    assert 'name = "invoice.paid"' in done.stdout
    assert 'properties.total = { type = "decimal", scale = 2 }' in done.stdout
    told = msgspec.json.decode(vigie("catalogue", "--json", "--data", str(ingest.folder)).stdout)
    assert [(row["name"], row["count"], row["catalogued"]) for row in told["arrived"]] == [
        ("Ouverture e-mail", 2, False),
        ("Invoice Paid", 1, False),
        ("app.logged_in", 1, True),
    ]
    assert [(row["spelling"], row["name"]) for row in told["suggestions"]] == [
        ("Ouverture e-mail", "message.opened"),
        ("Invoice Paid", None),
    ]


def test_the_plan_says_offline_what_ingest_says_at_arrival(ingest: IngestProcess) -> None:
    offline = vigie("catalogue", "check", str(PLAN / "plan.toml"), str(PLAN / "events.jsonl"))
    assert offline.returncode == 1
    assert offline.stderr.endswith("events.jsonl has events that do not pass\n")
    flat = " ".join(offline.stdout.split())
    assert "5 events of 3 names were checked" in flat
    for number, line in enumerate((PLAN / "events.jsonl").read_text().splitlines()):
        body = msgspec.json.decode(line)
        messages = body.get("batch", [body])
        send(ingest, *({**message, "messageId": f"{number}-{at}"} for at, message in enumerate(messages)))
    receipts = [ingest.receipt(event_id) for event_id in ("0-0", "1-0", "2-0", "2-1", "3-0")]
    assert [receipt["verdict"] for receipt in receipts] == [
        "accepted", "quarantined", "accepted", "accepted", "accepted",
    ]  # fmt: skip
    assert receipts[1]["reason"] == (
        'the tracking plan is violated at $.properties.amount: the value is not of type "number"'
    )
    assert [receipt.get("notes", []) for receipt in receipts if receipt["verdict"] == "accepted"] == [
        [],
        ['the tracking plan is violated at $.properties: "channel" is a required property'],
        [],
        ['the tracking plan is violated at $.traits.email: the value is not a "email"'],
    ]


def test_a_plan_that_is_wrong_is_said_by_the_check_and_keeps_ingest_from_starting(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[[event]]\nevent = "login"\nschema = { type = "wat" }\n')
    done = vigie("catalogue", "check", str(plan))
    assert done.returncode == 1
    assert done.stderr.startswith(f"vigie: {plan}: event 'login': no valid JSON Schema at $.schema.type")


def test_a_good_plan_alone_passes() -> None:
    done = vigie("catalogue", "check", str(PLAN / "plan.toml"))
    assert (done.returncode, done.stdout) == (0, "The plan has 3 events; every schema is valid.\n")


def test_names_are_suggested_without_a_running_system() -> None:
    done = vigie("catalogue", "suggest", "emailOpened", "login")
    assert done.returncode == 0
    assert "'login' is app.logged_in already." in done.stdout
    assert "message.opened ('emailOpened' 1.00 sure, like 'Email Opened')" in done.stdout
