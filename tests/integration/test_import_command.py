"""`vigie import` as a process beside a real ingest: killed, interrupted, mended, rehearsed, on real data."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vigie_cli import credentials, running
from vigie_cli.addresses import Addresses
from vigie_kit.files import replace_file

from tests import warm
from tests.integration.ingest_process import ROOT, TOKEN, IngestProcess
from tests.integration.ingest_process import running as ingest_running
from tests.mappings import LOGINS

ROWS = 30_000
INVOICES = """
source = "retail"
[[table]]
name = "invoices"
file = "online_retail.parquet"
kind = "event"
event = "invoice.paid"
user_id = "{CustomerID}"
event_id = "{InvoiceNo}:{row}"
effective_at = { column = "InvoiceDate", time_zone = "Europe/London" }
[table.properties]
quantity = { column = "Quantity", type = "integer" }
price = { column = "UnitPrice", type = "decimal" }
"""


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[IngestProcess]:
    """An ingest that `vigie import` finds by its data directory."""
    with ingest_running(tmp_path / "data") as process:
        keys = credentials.Credentials(service_token=TOKEN, api_token="api", write_key="key")
        replace_file(process.folder / credentials.FILE, msgspec.json.encode(keys), mode=credentials.MODE)
        where = Addresses(gateway="", ingest=process.url, features="", scoring="", mlflow="")
        with running.claim(process.folder):
            running.record(process.folder, port_base=0, addresses=where, feature_repo=process.feature_repo)
            yield process


def arguments_of(ingest: IngestProcess, folder: Path, *more: str) -> list[str]:
    return ["import", str(folder), "--mapping", str(folder / "mapping.toml"), "--data", str(ingest.folder), *more]


def imported(
    ingest: IngestProcess, folder: Path, *more: str, failpoint: str = ""
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "VIGIE_FAILPOINT": failpoint}
    return warm.run("vigie_cli", *arguments_of(ingest, folder, *more), environment=environment)


def report_of(ingest: IngestProcess, folder: Path, *more: str) -> dict[str, Any]:
    path = folder / "report.json"
    done = imported(ingest, folder, "--report", str(path), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "files"
    found.mkdir()
    lines = [f"c{n % 500},2014-02-03T12:00:00Z,{n}" for n in range(1, ROWS + 1)]
    lines[99] = "c1,2014-02-03T12:00:00Z,many"
    lines[199] = "null,2014-02-03T12:00:00Z,200"
    (found / "logins.csv").write_text("\n".join(["id,at,n", *lines]) + "\n")
    (found / "mapping.toml").write_text(LOGINS)
    return found


def assert_whole(ingest: IngestProcess) -> None:
    expected = Counter(f"logins:{n}" for n in range(1, ROWS + 1) if n not in (100, 200))
    assert Counter(event.event_id for event in ingest.events()) == expected


KILLS = [("import.before_state:4", 15_001), ("import.after_state:4", 20_001)]


@pytest.mark.parametrize(("failpoint", "resumed_at"), KILLS)
def test_a_killed_import_goes_on_and_doubles_nothing(
    ingest: IngestProcess, folder: Path, failpoint: str, resumed_at: int
) -> None:
    assert imported(ingest, folder, failpoint=failpoint).returncode == -signal.SIGKILL
    assert 19_999 <= len(ingest.events()) <= 24_999  # four requests, and the fifth was under way
    report = report_of(ingest, folder)
    (table,) = report["tables"]
    assert table["resumed_at"] == resumed_at
    assert (report["rows"], report["accepted"] + report["duplicates"]) == (ROWS, ROWS - 2)
    assert (report["refused"], report["quarantined"]) == (1, 1)
    assert_whole(ingest)


def test_ctrl_c_stops_in_a_sentence_and_the_same_command_goes_on(ingest: IngestProcess, folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vigie_cli", *arguments_of(ingest, folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("logins: 5,001 of about 30,000 rows")
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err == "vigie: the import was interrupted; run the same command again and it goes on where it stopped\n"
    report = report_of(ingest, folder)
    assert report["tables"][0]["resumed_at"] >= 5_001
    assert_whole(ingest)


def test_what_was_not_accepted_is_mended_and_imported(ingest: IngestProcess, folder: Path) -> None:
    report = report_of(ingest, folder)
    refused = ingest.folder / "imports" / "refused" / "mapping"
    assert report["refused_files"] == [str(refused / "logins.csv")]
    assert [row["reason"] for row in report["quarantined_by_reason"]] == [
        "the event's ids are placeholders that stand for nobody"
    ]
    text = (refused / "logins.csv").read_text()
    (refused / "logins.csv").write_text(text.replace("many", "100").replace("null", "c0"))
    again = report_of(ingest, folder, "--mended", str(refused))
    assert (again["rows"], again["accepted"], again["refused"], again["quarantined"]) == (2, 2, 0, 0)
    assert Counter(event.event_id for event in ingest.events()) == Counter(f"logins:{n}" for n in range(1, ROWS + 1))
    receipt = httpx.get(
        f"{ingest.url}/v1/receipts/logins:200", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    )
    assert receipt.json()["verdict"] == "accepted"


def test_a_dry_run_foretells_the_import_and_writes_nothing(ingest: IngestProcess, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ingest.folder.rglob("*") if "db" not in path.name}
    told = report_of(ingest, folder, "--dry-run", "--feature-repo", str(ROOT / "feature_repo"))
    assert {path: path.stat().st_mtime_ns for path in ingest.folder.rglob("*") if "db" not in path.name} == before
    assert ingest.events() == []
    done = report_of(ingest, folder)
    same = ("rows", "skipped", "accepted", "duplicates", "quarantined", "refused", "refused_by_reason")
    assert [told[name] for name in same] == [done[name] for name in same]
    assert told["quarantined_by_reason"] == done["quarantined_by_reason"]
    assert (told["dry_run"], done["dry_run"]) == (True, False)


def test_a_file_that_changed_is_said(ingest: IngestProcess, folder: Path) -> None:
    imported(ingest, folder, failpoint="import.after_state:2")
    file = folder / "logins.csv"
    file.write_text(file.read_text().replace("c3,", "c4,", 1))
    done = imported(ingest, folder)
    assert done.returncode == 1
    assert done.stderr.startswith("vigie: logins.csv has changed since 10,001 of its rows were imported")


def test_invoices_of_a_shop_are_imported_with_their_gaps(
    ingest: IngestProcess, tmp_path: Path, test_data: Path
) -> None:
    folder = tmp_path / "retail"
    folder.mkdir()
    first: pa.Table = pq.read_table(test_data / "online_retail" / "online_retail.parquet").slice(0, 20_000)
    pq.write_table(first, folder / "online_retail.parquet")
    (folder / "mapping.toml").write_text(INVOICES)
    report = report_of(ingest, folder)
    rows = zip(first.column("CustomerID").to_pylist(), first.column("Quantity").to_pylist(), strict=True)
    known = [(str(int(who)), quantity) for who, quantity in rows if who is not None]
    nobody = 20_000 - len(known)
    assert nobody == first.column("CustomerID").null_count > 0
    assert (report["rows"], report["accepted"], report["refused"]) == (20_000, len(known), nobody)
    assert [row["reason"] for row in report["refused_by_reason"]] == ["is empty: the row belongs to nobody"]
    events = ingest.events()
    assert [(event.user_id, event.properties["quantity"]) for event in events] == known
