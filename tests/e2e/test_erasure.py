"""A person's rights on a whole running Vigie: export, dry run, erasure that is killed on its way, proof, replay."""

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from vigie_cli import running
from vigie_contracts.features import FeatureTable
from vigie_gateway.identifiers import to_global
from vigie_tiles.batch import Batch
from vigie_training import erasure as training

from tests import warm
from tests.e2e.system import ROOT, System
from tests.servers import until

EMAIL = "erase.me@bank.example"
CLI_FAILPOINTS = ("cli.erasure_begun", "cli.erasure_asked", "cli.erasure_followed", "cli.erasure_overwritten")

HELD = [
    *(("ingest", name) for name in ("log of events", "identities", "attributes", "quarantine", "keys of sealed parts")),
    *(("features", name) for name in ("tiles", "archive", "log of changes", "memberships")),
    *(("scoring", name) for name in ("standing", "history", "log of scores", "work_list")),
    ("mlflow", "training sets"),
]


pytestmark = pytest.mark.large


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A simulated bank with a model that was trained on it, on the system's clock."""
    with System(Path(tmp_path_factory.mktemp("bank"))) as system:
        system.vigie("simulate", "--customers", "600", "--days", "150", "--seed", "5")
        system.vigie("train", "churn")
        system.vigie("promote", "vigie-churn-closure", "--override", "a test wants a model, not a good one")
        until("everybody to be scored and archived", lambda: settled(system), 180)
        yield system


def settled(system: System) -> bool:
    end = system.status("ingest")["offsets"]["events"]
    features, scoring = system.status("features"), system.status("scoring")
    offsets = {features["offsets"][name].get("0") for name in ("events", "archive")} | {
        scoring["offsets"]["events"].get("0")
    }
    waiting = {*scoring["lag"].values(), scoring["counts"]["pending"]}
    rescored = scoring["rescoring"].get("vigie-churn-closure") or {}
    return offsets == {end} and waiting == {0} and rescored.get("version") is not None and rescored["after"] is None


def somebody_in_the_training_set(system: System) -> str:
    """The user id of a customer in the set that MLflow keeps."""
    registry = training.Registry(system.addresses["mlflow"])
    ((_, _, kept),) = training._kept(registry)
    sql = (
        "SELECT i.value FROM identities i JOIN members m USING (member_no) WHERE i.namespace = 'user_id'"
        " AND m.customer_id IN (SELECT value FROM json_each(?)) ORDER BY 1 LIMIT 1"
    )
    with sqlite3.connect(system.data / "ingest.db") as db:
        found: str = db.execute(sql, (json.dumps(sorted(set(kept.rows.customer_ids.tolist()))),)).fetchone()[0]
    return found


def values(system: System, customer_ids: list[str], t_us: int, number: int) -> pa.Table:
    """Every feature of customers at one read point; parity says that the tiles agree."""
    count = len(customer_ids)
    labels = pa.table({"customer_id": customer_ids, "t_us": [t_us] * count, "pos": [number] * count})
    with Batch(system.data / "archive", FeatureTable.load(ROOT / "feature_repo"), "UTC") as batch:
        return batch.vectors(labels)


def others(system: System, gone: str) -> list[str]:
    """Three hundred customers beside one."""
    sql = "SELECT customer_id FROM customers WHERE customer_id != ? ORDER BY 1 LIMIT 300"
    with sqlite3.connect(system.data / "features.db") as db:
        return [row[0] for row in db.execute(sql, (gone,))]


def parity(system: System) -> list[int]:
    told = system.vigie("features", "parity", "--json", "--customers", "100", "--scores", "300", check=False).stdout
    return [json.loads(line)["differences"] for line in told.splitlines()]


def graph_knows(system: System, customer_id: str) -> Any:
    """What the graph answers to whoever kept the customer's id."""
    query = """query($id: ID!) { node(id: $id) { ... on Customer {
      externalId churn { ... on ScoreUnavailable { reason } } } } }"""
    return system.graphql(query, id=to_global("Customer", customer_id))["data"]["node"]


def killed(system: System, failpoint: str, *arguments: str) -> None:
    environment = {**os.environ, "VIGIE_DATA": str(system.data), "VIGIE_FAILPOINT": failpoint}
    done = warm.run("vigie_cli", *arguments, environment=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr


def receipt(system: System, event_id: str) -> Any:
    token = json.loads((system.data / "secrets.json").read_text())["service_token"]
    url = f"{system.addresses['ingest']}/v1/receipts/{event_id}"
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False).json()


def bytes_of(data: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(data.rglob("*")):
        if path.is_file() and path.suffix != ".db-shm":
            yield path, path.read_bytes()


def test_an_export_a_dry_run_and_an_erasure_through_kills_leave_a_proof_and_nobody_else_changes(
    bank: System, tmp_path: Path
) -> None:
    user = somebody_in_the_training_set(bank)
    message = {
        "type": "track",
        "event": "Logged In",
        "userId": user,
        "messageId": "late-copy",
        "properties": {"x": "y"},
    }
    bank.send(message, {"type": "identify", "userId": user, "messageId": "who", "traits": {"email": EMAIL}})
    bank.send({"type": "track", "userId": user, "messageId": "bad", "event": "Logged In", "timestamp": "yesterday"})
    until("all of it to be followed", lambda: settled(bank), 60)

    # export
    out = tmp_path / "export.json"
    bank.vigie("subject", "export", "--customer", user, "--out", str(out))
    exported = json.loads(out.read_text())
    customer = exported["about"]["customer"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert {"namespace": "user_id", "value": user} in exported["about"]["known_as"]
    stated = {row["name"]: row["value"] for row in exported["ingest"]["attributes"]["rows"]}
    assert stated["email"] == EMAIL
    assert [row["event_id"] for row in exported["ingest"]["quarantine"]["rows"]] == ["bad"]
    assert any(row.get("user_id") == user for row in exported["ingest"]["events"]["rows"])
    assert len(exported["features"]["features"]["rows"]) > 20
    assert exported["scoring"]["standing"]["rows"][0]["current"]["type"] == "score"
    assert exported["training"]["training sets"]["rows"]

    # dry run
    log_end = bank.status("ingest")["offsets"]["events"]
    shown = bank.vigie("erase", "--customer", user, "--dry-run").stdout
    assert "Nothing was changed" in shown
    assert bank.status("ingest")["offsets"]["events"] == log_end
    assert not (bank.data / "erasures").exists()

    # erasure, killed at each step of the command
    neighbours = others(bank, customer)
    t_us = time.time_ns() // 1_000
    before = values(bank, neighbours, t_us, log_end)
    assert parity(bank) == [0, 0, 0]
    killed(bank, CLI_FAILPOINTS[0], "erase", "--customer", user, "--yes")
    assert bank.status("ingest")["offsets"]["events"] == log_end
    for failpoint in CLI_FAILPOINTS[1:]:
        killed(bank, failpoint, "erase", "--resume")
    bank.vigie("erase", "--resume", "--proof", str(tmp_path / "proof.json"))
    assert "No erasure is unfinished" in bank.vigie("erase", "--resume").stdout
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert (proof["status"], proof["customer_id"], proof["number"]) == ("complete", customer, log_end + 1)
    assert all(place["verified"] and place["found_after"] == 0 for place in proof["places"])
    held = {(place["part"], place["place"]): place["found_before"] for place in proof["places"]}
    for place in HELD:
        assert held[place] > 0, place
    assert [model["may_have_learned_from_the_person"] for model in proof["models"]] == [True]

    # what is left, and for whom
    assert "nobody is known under" in bank.vigie("erase", "--customer", user, "--dry-run", check=False).stderr
    assert [path for path, content in bytes_of(bank.data) if EMAIL.encode() in content] == []
    bank.send(message)
    assert receipt(bank, "late-copy")["verdict"] == "erased"
    assert receipt(bank, "bad")["verdict"] == "erased"
    assert bank.status("ingest")["offsets"]["events"] == log_end + 1
    until("scoring to rest", lambda: settled(bank), 60)
    assert values(bank, neighbours, t_us, log_end).equals(before)
    assert parity(bank) == [0, 0, 0]
    assert graph_knows(bank, customer) is None

    # replay
    bank.stop()
    until("the last child to let go of the data", lambda: not running.is_running(bank.data), 60)
    shutil.rmtree(bank.data / "archive")
    with sqlite3.connect(bank.data / "features.db") as db:
        db.execute("UPDATE installation SET value = 'another' WHERE key = 'layout_hash'")
    bank.start()
    until("features to have replayed the log", lambda: settled(bank), 180)
    assert values(bank, neighbours, t_us, log_end).equals(before)
    assert parity(bank)[1:] == [0, 0]
