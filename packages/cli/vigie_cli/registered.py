"""What is registered in MLflow, asked over REST: importing MLflow to list a few versions would take seconds."""

from dataclasses import dataclass
from typing import Any

import httpx
from vigie_contracts.errors import NotFound, Unavailable
from vigie_contracts.instants import format_instant
from vigie_contracts.models import CHALLENGER, CHAMPION

GATE_TAG = "vigie.gate"
PAGE = 200


@dataclass(frozen=True)
class Registered:
    """A registered version. `gate` is what the gate said (held, overridden, refused), None when it was not asked."""

    name: str
    version: str
    aliases: tuple[str, ...]
    gate: str | None
    created_at: str


def versions(mlflow_url: str) -> list[Registered]:
    """Every registered version, newest first within a model; Unavailable when MLflow does not answer."""
    found: list[Registered] = []
    for model in _all(mlflow_url, "registered-models/search", "registered_models", {}):
        aliases = [(alias["alias"], str(alias["version"])) for alias in model.get("aliases", [])]
        asked = {"filter": f"name='{model['name']}'"}
        rows = _all(mlflow_url, "model-versions/search", "model_versions", asked)
        found += [_version(row, aliases) for row in sorted(rows, key=lambda row: -int(row["version"]))]
    return sorted(found, key=lambda version: version.name)


def champion(mlflow_url: str, name: str) -> str | None:
    """The champion's version, None when there is none."""
    here = [row for row in versions(mlflow_url) if row.name == name and CHAMPION in row.aliases]
    return here[0].version if here else None


def awaiting(rows: list[Registered]) -> list[str]:
    """Models whose challenger is not champion; NotFound when there is none."""
    names = sorted({row.name for row in rows if CHALLENGER in row.aliases and CHAMPION not in row.aliases})
    if not names:
        raise NotFound(
            "no challenger waits for promotion; `vigie train churn` or `vigie train next-best-offer` makes one"
        )
    return names


def _version(row: dict[str, Any], aliases: list[tuple[str, str]]) -> Registered:
    tags = {tag["key"]: tag["value"] for tag in row.get("tags", [])}
    return Registered(
        name=row["name"],
        version=str(row["version"]),
        aliases=tuple(sorted(alias for alias, version in aliases if version == str(row["version"]))),
        gate=tags.get(GATE_TAG),
        created_at=format_instant(int(row["creation_timestamp"]) * 1_000),
    )


def _all(mlflow_url: str, path: str, key: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
    """All pages of a search."""
    found: list[dict[str, Any]] = []
    page = ""
    while True:
        answer = _ask(f"{mlflow_url}/api/2.0/mlflow/{path}", {**parameters, "page_token": page} if page else parameters)
        found += answer.get(key, [])
        page = answer.get("next_page_token", "")
        if not page:
            return found


def _ask(url: str, parameters: dict[str, str]) -> dict[str, Any]:
    try:
        answer = httpx.get(url, params={"max_results": str(PAGE), **parameters}, timeout=30, trust_env=False)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"the model registry at {url} does not answer as expected: {error}") from error
    return found
