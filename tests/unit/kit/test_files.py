import os
import subprocess
import sys
from pathlib import Path

from vigie_kit.files import replace_file


def test_a_file_is_replaced_whole_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"x" * 100_000, mode=0o600)
    assert path.read_bytes() == b"x" * 100_000
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secrets.json"]


def _run(failpoint: str) -> int:
    code = "from vigie_kit import failpoints\nfor _ in range(3): failpoints.hit('kit.before_commit')\nprint('alive')"
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, "VIGIE_FAILPOINT": failpoint}).returncode


def test_a_failpoint_kills_at_its_nth_passing_and_only_when_named() -> None:
    assert _run("kit.before_commit") == -9
    assert _run("kit.before_commit:3") == -9
    assert _run("kit.before_commit:4") == 0
    assert _run("kit.after_commit") == 0
    assert _run("") == 0
