"""Tiny programs for the supervisor, and what the tests wait with."""

import os
import sys
from pathlib import Path

from vigie_cli.programs import Program

from tests.servers import free_port

SERVE = """
import http.server, os, subprocess, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
folder, name, port = sys.argv[1:4]
open(f"{folder}/{name}.pid", "a").write(f"{os.getpid()}\\n")
if "grandchild" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(f"{folder}/{name}.grandchild", "w").write(str(child.pid))
if "fail" in sys.argv:
    print("the reason why it fails"); sys.exit(3)
print(f"{name} serves", os.environ.get("VIGIE_FAILPOINT"), os.environ["TZ"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def serving(folder: Path, name: str, *flags: str, **environment: str) -> Program:
    """A program that answers 200 everywhere and leaves its pid in `folder`."""
    port = free_port()
    return Program(
        name=name,
        command=(sys.executable, "-c", SERVE, str(folder), name, str(port), *flags),
        port=port,
        environment={**os.environ, "TZ": "UTC", **environment},
    )


def pids(folder: Path, name: str) -> list[int]:
    path = folder / f"{name}.pid"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
