"""Following the aliases of a real MLflow server: what is served, what is refused and why, what survives an outage."""

import pytest
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.scores import ChurnDefinition
from vigie_scoring.champions import Champions
from vigie_scoring.clients import MlflowRegistry

from tests.integration.scoring_fixtures import CHURN_MODEL, REPO, TABLE, Registry, mlflow_server

DEFINITIONS = ChurnDefinition.load_all(REPO)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def champions(address, folder, *, gated=True):
    return Champions(DEFINITIONS, TABLE, MlflowRegistry(address), folder / "models", gated=gated)


def row(found, name, alias="champion"):
    (one,) = [row for row in found.rows() if (row.name, row.alias) == (name, alias)]
    return one


def test_the_life_of_an_alias(server, tmp_path):
    registry = Registry(server, tmp_path)
    found = champions(server, tmp_path)
    assert found.poll() is False
    assert row(found, CHURN_MODEL).problem == f"no version of {CHURN_MODEL} has the alias champion"

    first = registry.churn()
    registry.promote(CHURN_MODEL, first)
    assert found.poll() is True
    assert (row(found, CHURN_MODEL).version, row(found, CHURN_MODEL).problem) == (first, None)
    assert found.poll() is False

    by_hand = registry.churn(seed=1)
    registry.promote(CHURN_MODEL, by_hand, gate=None)
    assert found.poll() is False
    assert row(found, CHURN_MODEL).version == first
    assert f"`vigie promote {CHURN_MODEL} --version {by_hand}`" in row(found, CHURN_MODEL).problem
    opened = champions(server, tmp_path / "open", gated=False)
    opened.poll()
    assert opened.serving.champion(CHURN_MODEL).ungated
    assert row(opened, CHURN_MODEL).problem.startswith("ungated")
    registry.promote(CHURN_MODEL, by_hand, gate="overridden")
    assert found.poll() is True
    assert row(found, CHURN_MODEL).version == by_hand
    assert found.previous[CHURN_MODEL, "champion"].version == first
    assert opened.poll() is True
    assert row(opened, CHURN_MODEL).problem is None

    wrong = registry.churn(spec_hash="f" * 16)
    registry.promote(CHURN_MODEL, wrong)
    other_gap = registry.churn(gap_days=3)
    found.poll()
    assert row(found, CHURN_MODEL).version == by_hand
    assert f"version {wrong}: its spec hash" in row(found, CHURN_MODEL).problem
    registry.promote(CHURN_MODEL, other_gap)
    found.poll()
    assert "another gap or horizon" in row(found, CHURN_MODEL).problem

    registry.promote(CHURN_MODEL, first)
    found.poll()
    assert (row(found, CHURN_MODEL).version, row(found, CHURN_MODEL).problem) == (first, None)

    registry.promote(CHURN_MODEL, by_hand, alias="shadow", gate=None)
    found.poll()
    assert found.serving.shadow(CHURN_MODEL).version == by_hand
    registry.promote(PROPENSITY_MODEL, registry.propensity())
    found.poll()
    assert row(found, PROPENSITY_MODEL).problem is None

    registry.client.delete_registered_model_alias(CHURN_MODEL, "champion")
    assert found.poll() is True
    assert found.serving.champion(CHURN_MODEL) is None
    registry.promote(CHURN_MODEL, first)
    found.poll()

    down = champions("http://127.0.0.1:9", tmp_path)
    down.restore()
    assert row(down, CHURN_MODEL).version == first
    assert down.serving.shadow(CHURN_MODEL).version == by_hand
    assert down.poll() is False
    assert row(down, CHURN_MODEL).version == first
    assert "does not answer" in down.registry_problem
