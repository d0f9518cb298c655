"""Installs pinned, hashed requirements and Vigie's own members into the virtual environment that runs this file.

Usage: python requirements/install.py run|test

uv does the work; pip installs uv. uv does not read pip's configuration, so an index, extra index or certificate that is
set for pip and not for uv is handed over. A second run with unchanged files does nothing.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = (
    "packages/contracts",
    "packages/kit",
    "packages/tiles",
    "services/ingest",
    "services/features",
    "services/scoring",
    "gateway",
    "packages/training",
    "packages/simulator",
    "packages/cli",
)
DOWNLOAD = {
    "run": "about 350 MB (MLflow, Feast, XGBoost, DuckDB, Arrow)",
    "test": "about 400 MB (the above and test tools)",
}


def refuse_foreign_machine() -> None:
    """End with one sentence on a machine that Vigie does not run on."""
    if platform.system() not in ("Linux", "Darwin"):
        sys.exit("Vigie runs on Linux and macOS; on Windows use it inside WSL2.")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            f"Vigie needs Python 3.11, 3.12 or 3.13; this is {platform.python_version()}. Try: make PYTHON=python3.11 …"
        )


def fingerprint(kind: str) -> str:
    """Hash of everything that this installation depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for path in [ROOT / f"requirements/{kind}.txt", *(ROOT / member / "pyproject.toml" for member in MEMBERS)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def pip_setting(name: str) -> str | None:
    """A setting of pip's from its files or environment, or None."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = [
        line.split("=", 1)[1].strip().strip("'")
        for line in answer.splitlines()
        if line.split("=")[0].endswith("." + name)
    ]
    return found[-1] if found else None


def reachable(locations: str) -> str:
    """Index locations without the local folders that do not exist (pip passes over them, uv stops)."""
    return " ".join(
        location for location in locations.split() if not location.startswith("file://") or Path(location[7:]).is_dir()
    )


def environment() -> dict[str, str]:
    """This environment, with pip's index settings repeated for uv where uv has none of its own."""
    settings = dict(os.environ)
    for name, variable in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("cert", "SSL_CERT_FILE"),
    ):
        value = pip_setting(name)
        if value and variable not in settings and (value := reachable(value)):
            settings[variable] = value
    # Hashes decide what is installed, so every index may be asked, as pip does.
    settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return settings


def main() -> None:
    """Install what is missing and remember it in the virtual environment."""
    kind = sys.argv[1] if len(sys.argv) == 2 and sys.argv[1] in DOWNLOAD else sys.exit(__doc__)
    refuse_foreign_machine()
    stamp = Path(sys.prefix) / f"vigie-{kind}.json"
    mark = fingerprint(kind)
    if stamp.exists() and json.loads(stamp.read_text()) == mark:
        return
    print(f"Installing Python packages into {sys.prefix}: {DOWNLOAD[kind]}, once.", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(ROOT / "requirements/uv.txt"),
        ],
        check=True,
    )
    # Compiled at once: Feast and MLflow take ten seconds to import from source, in every process, where Python may not
    # write bytecode itself.
    uv = [sys.executable, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", sys.executable]
    settings = environment()
    editable = [part for member in MEMBERS for part in ("-e", str(ROOT / member))]
    try:
        subprocess.run(
            [*uv, "--require-hashes", "-r", str(ROOT / f"requirements/{kind}.txt")], check=True, env=settings
        )
        subprocess.run([*uv, "--quiet", "--no-deps", "--no-build-isolation", *editable], check=True, env=settings)
    except subprocess.CalledProcessError:
        sys.exit(
            "The installation stopped (the reason stands above). Mend it and run the same command again: it continues."
        )
    stamp.write_text(json.dumps(mark))


if __name__ == "__main__":
    main()
