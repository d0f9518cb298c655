"""The checks of `vigie doctor`. Each answers one finding: whether it is well, and a sentence."""

import shutil
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import NotFound, VigieError
from vigie_contracts.offers import load_offers
from vigie_contracts.scores import ChurnDefinition, load_concepts
from vigie_kit import installation
from vigie_kit.database import open_engine

from vigie_cli import credentials, running
from vigie_cli.addresses import NAMES, busy_ports
from vigie_cli.system import describe_clock

LEAST_FREE_BYTES = 2_000_000_000
PYTHONS = ((3, 11), (3, 13))
FULL = 2


@dataclass(frozen=True)
class Finding:
    """One check's result."""

    ok: bool
    sentence: str


def diagnose(data: Path, feature_repo: Path, port_base: int) -> list[Finding]:
    """All findings, in the order in which a person would mend them."""
    return [
        python(sys.version_info[:2]),
        disk(data),
        durability(data),
        databases(data),
        data_directory(data),
        secrets(data),
        listening(data, port_base),
        repository(feature_repo),
    ]


def python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is one that Vigie supports."""
    text = ".".join(map(str, version))
    if PYTHONS[0] <= version[:2] <= PYTHONS[1]:
        return Finding(True, f"Python {text} is supported.")
    return Finding(False, f"Python {text} is not supported; install Python 3.11, 3.12 or 3.13.")


def disk(data: Path, least: int = LEAST_FREE_BYTES) -> Finding:
    """Whether the disk of the data directory has room."""
    free = shutil.disk_usage(_existing(data)).free
    if free >= least:
        return Finding(True, f"{free / 1e9:.1f} GB are free on the disk of {data}.")
    return Finding(False, f"Only {free / 1e9:.1f} GB are free on the disk of {data}; Vigie wants {least / 1e9:.0f} GB.")


def durability(data: Path) -> Finding:
    """Whether a database on that disk really gets write-ahead logging and synced commits."""
    with tempfile.TemporaryDirectory(dir=_existing(data), prefix=".doctor-") as folder:
        engine = open_engine(Path(folder) / "probe.db")
        with engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        engine.dispose()
    if mode == "wal" and synchronous >= FULL:
        return Finding(True, "SQLite commits are durable here (write-ahead log, synchronous=FULL).")
    return Finding(
        False,
        f"SQLite commits are not durable here (journal {mode}, synchronous {synchronous}); "
        "put the data on a local disk, not on a network share.",
    )


def databases(data: Path) -> Finding:
    """Whether each database of the data directory can be read."""
    found = sorted(data.glob("*.db"))
    broken = [f"{path.name} ({problem})" for path in found if (problem := _problem(path)) is not None]
    if broken:
        return Finding(False, f"Databases that cannot be trusted: {', '.join(broken)}; restore them from a backup.")
    return Finding(True, f"{len(found)} databases can be read." if found else "There is no database yet.")


def data_directory(data: Path) -> Finding:
    """Whether the installation can be read by this version."""
    try:
        found = installation.load(data)
    except NotFound:
        return Finding(True, f"Nothing is set up in {data} yet; `vigie up` does it.")
    except VigieError as error:
        return Finding(False, error.message)
    return Finding(
        True, f"{data} is an installation in time zone {found.time_zone} with {describe_clock(found.clock)}."
    )


def secrets(data: Path) -> Finding:
    """Whether only the owner can read the keys."""
    path = data / credentials.FILE
    if not path.exists():
        return Finding(True, "There are no keys yet; `vigie up` makes them.")
    if credentials.too_open(data):
        return Finding(False, f"Others may read {path}; run `chmod 600 {path}`.")
    try:
        credentials.load(data)
    except VigieError as error:
        return Finding(False, error.message)
    return Finding(True, f"Only its owner can read {path}.")


def listening(data: Path, port_base: int) -> Finding:
    """Whether the ports are free, or ours."""
    if running.is_running(data):
        return Finding(True, f"Vigie runs on {data}.")
    last = port_base + len(NAMES) - 1
    busy = busy_ports(port_base)
    if busy:
        return Finding(False, f"In use by another program: {', '.join(busy)}; choose other ports with --port-base N.")
    return Finding(True, f"Ports {port_base} to {last} are free.")


def repository(feature_repo: Path) -> Finding:
    """Whether everything that is declared there can be read."""
    from vigie_contracts.features import FeatureTable

    try:
        catalogue = Catalogue.load(feature_repo)
        table = FeatureTable.load(feature_repo)
        offers, definitions = load_offers(feature_repo), ChurnDefinition.load_all(feature_repo)
        load_concepts(feature_repo)
    except VigieError as error:
        return Finding(False, f"The feature repository is wrong: {error.message}")
    return Finding(
        True,
        f"{feature_repo} declares {len(catalogue.micro_conversions)} micro-conversions, "
        f"{len(table.features)} features, "
        f"{len(definitions)} churn definitions and {len(offers.offer)} offers.",
    )


def _existing(path: Path) -> Path:
    """The path itself or its nearest parent that exists."""
    return next(candidate for candidate in (path, *path.parents) if candidate.is_dir())


def _problem(path: Path) -> str | None:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
    return None
