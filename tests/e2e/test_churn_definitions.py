"""A further churn definition on a whole Vigie: previewed, trained, promoted and served beside one without a model."""

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.system import ROOT, System
from tests.servers import until

CHURNS = """churns { __typename ... on ChurnScore { definition { key } probability modelVersion reasons { text } }
  ... on ScoreUnavailable { definition { key } reason } }"""
AT_RISK = (
    "{ customers(filter: {definition: %s}, first: 5) { totalCount edges { node { externalId " + CHURNS + " } } } }"
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A simulated bank whose inactivity has shorter days than the one that ships, so that less history will do."""
    folder = tmp_path_factory.mktemp("definitions")
    shutil.copytree(ROOT / "feature_repo", folder / "repo")
    file = folder / "repo" / "churn" / "inactivity.toml"
    text = re.sub(r"(?m)^(horizon|min_history)_days = .*", r"\1_days = 10", file.read_text())
    file.write_text(re.sub(r"(?m)^gap_days = .*", "gap_days = 3", text))
    with System(folder, arguments=("--feature-repo", str(folder / "repo"))) as system:
        nothing = system.vigie("churn", "preview", "inactivity", check=False)
        assert (nothing.returncode, "holds no events yet" in nothing.stderr) == (1, True), nothing.stderr
        system.vigie("simulate", "--customers", "700", "--days", "120", "--activity", "0.3", "--seed", "5")
        yield system


def at_risk(system: System, definition: str) -> dict[str, Any]:
    return system.graphql(AT_RISK % json.dumps(definition))


def test_from_preview_to_served_scores_while_the_others_say_why_they_have_none(bank: System) -> None:
    told = json.loads(bank.vigie("churn", "preview", "inactivity", "--horizons", "5,21", "--json").stdout)
    lines = {line["horizon_days"]: line for line in told["horizons"]}
    assert {5, 10, 21} <= set(lines)
    assert all(line["active"] + line["lost"] == line["eligible"] <= line["rows"] for line in lines.values())
    assert 0 < lines[21]["lost"] / lines[21]["eligible"] < lines[5]["lost"] / lines[5]["eligible"] < 1
    assert lines[21]["returning"] < lines[10]["returning"] < lines[5]["returning"]
    assert told["suggestion"]["days"] in lines
    shown = bank.vigie("churn", "preview", "inactivity").stdout
    assert "10 d *" in shown
    assert "a horizon of " in shown
    unknown = bank.vigie("churn", "preview", "nosuch", check=False)
    assert unknown.returncode == 1
    assert "no churn definition 'nosuch'" in unknown.stderr

    refused = at_risk(bank, "inactivity")
    assert refused["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    assert "vigie train churn --definition inactivity" in refused["errors"][0]["message"]
    assert [row for row in bank.status("scoring")["problems"] if "inactivity" in row or "attrition" in row] == []

    bank.vigie("train", "churn", "--definition", "inactivity")
    bank.vigie("promote", "vigie-churn-inactivity", "--override", "a test wants a model, not a good one")
    until("somebody has a score", lambda: scores(at_risk(bank, "inactivity")), 120)
    served = scores(at_risk(bank, "inactivity"))
    for churns in served:
        found = {one["definition"]["key"]: one for one in churns}
        assert found["inactivity"]["modelVersion"] == "vigie-churn-inactivity/1"
        assert 0 < found["inactivity"]["probability"] < 1
        assert found["inactivity"]["reasons"]
        assert {found[key]["reason"] for key in ("closure", "balance_attrition")} == {"MODEL_UNAVAILABLE"}
    with_primary = bank.graphql(
        "{ customers(first: 1) { edges { node { churn { ... on ScoreUnavailable { reason } } } } } }"
    )
    assert with_primary["data"]["customers"]["edges"][0]["node"]["churn"] == {"reason": "MODEL_UNAVAILABLE"}


def scores(answer: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The assessments of the customers that are scored for inactivity."""
    if "errors" in answer:
        return []
    all_of = [edge["node"]["churns"] for edge in answer["data"]["customers"]["edges"]]
    return [
        churns
        for churns in all_of
        if any(one["definition"]["key"] == "inactivity" and one["__typename"] == "ChurnScore" for one in churns)
    ]
