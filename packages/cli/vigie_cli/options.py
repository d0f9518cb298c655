"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
CHECKOUT = Path(__file__).resolve().parents[3]
"""The root of the checkout that this package is installed from, in place."""

_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="VIGIE_DATA",
    default=Path(".vigie"),
    show_default=True,
    help="The data directory (VIGIE_DATA).",
)
_feature_repo = click.option(
    "--feature-repo",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="VIGIE_FEATURE_REPO",
    help="The feature repository (VIGIE_FEATURE_REPO); default: ./feature_repo, else the one of Vigie's checkout.",
)


def data_option(command: F) -> F:
    """`--data DIR`, absolute."""
    return _data(command)


def feature_repo_option(command: F) -> F:
    """`--feature-repo DIR`; `resolve_feature_repo` says which one is meant."""
    return _feature_repo(command)


def resolve_feature_repo(given: Path | None) -> Path:
    """The feature repository asked for, or the default, as an absolute path; a usage error when it is not there."""
    here = Path("feature_repo")
    found = (given or (here if here.is_dir() else CHECKOUT / "feature_repo")).resolve()
    if not (found / "catalogue.toml").is_file():
        raise click.UsageError(
            f"{found} is no feature repository (it has no catalogue.toml); name one by --feature-repo"
        )
    return found


def repository_of(data: Path, given: Path | None) -> Path:
    """The feature repository asked for, else the one that the system running on `data` reads, else the default."""
    from vigie_cli import running

    reads = None if given is not None or not running.is_running(data) else Path(running.find(data).feature_repo)
    return resolve_feature_repo(given or reads)
