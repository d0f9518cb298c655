import json
import subprocess
import sys

CODE = """
import logging, threading
from vigie_kit import logs
logs.configure("ingest", "INFO")
logs.get("x").info("accepted", count=3)
logs.get("x").debug("not shown")
thread = threading.Thread(target=lambda: logs.get("x").warning("from a thread"))
thread.start(); thread.join()
logging.getLogger("library").warning("about %s", "something")
logging.getLogger("library").info("not shown")
try:
    1 / 0
except ZeroDivisionError:
    logs.get("x").exception("failed")
"""


def test_every_line_is_json_and_names_the_service() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["service"], line["level"], line["event"]) for line in lines] == [
        ("ingest", "info", "accepted"),
        ("ingest", "warning", "from a thread"),
        ("ingest", "warning", "about something"),
        ("ingest", "error", "failed"),
    ]
    assert lines[0]["count"] == 3
    assert lines[2]["logger"] == "library"
    assert "ZeroDivisionError" in lines[3]["exception"]
