"""What a version must prove before it may score."""

from pathlib import Path

import numpy as np
import pytest
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.models import BOOSTER_FILE, MODEL_FILE, Calibrator, GoldenRow
from vigie_scoring.domain import reasons_of
from vigie_scoring.loaded import as_rows, load_model

from tests.unit.scoring.scoring_models import churn_booster, propensity_booster, write_model

REPO = Path(__file__).parents[2] / "integration" / "scoring_repo"
TABLE = FeatureTable.load(REPO)
ROWS = [[0, 3, 2, 100], [7, 30, 0, 2], [2, 9, 1, None]]


def test_contributions_and_bias_add_up_to_the_margin_of_each_row(tmp_path):
    write_model(tmp_path, TABLE, churn_booster())
    model = load_model(tmp_path, "vigie-churn-closure", "1", TABLE)
    rows = as_rows(ROWS)
    contributions, bias = model.contributions(rows)
    margins = model.booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
    assert contributions.shape == (3, 4)
    assert (contributions.sum(axis=1) + bias).tolist() == pytest.approx(margins.tolist(), abs=1e-5)
    reasons = reasons_of(contributions[0], model.features, ROWS[0], model.document.typical)
    by_concept = {"activity": sum(contributions[0][:2]), "service": contributions[0][2], "recency": contributions[0][3]}
    assert {reason.code: reason.contribution for reason in reasons} == pytest.approx(by_concept)


def test_a_row_has_the_same_probability_alone_and_in_a_batch(tmp_path):
    write_model(tmp_path, TABLE, churn_booster())
    model = load_model(tmp_path, "vigie-churn-closure", "1", TABLE)
    together = model.probabilities(as_rows(ROWS * 50)).tolist()
    alone = [model.probabilities(as_rows([row])).tolist()[0] for row in ROWS]
    assert together == alone * 50


def test_a_propensity_row_is_the_features_followed_by_one_hot_offers(tmp_path):
    write_model(tmp_path, TABLE, propensity_booster(["a", "b"]), kind="propensity", offers=["a", "b"])
    model = load_model(tmp_path, "vigie-next-best-offer", "1", TABLE)
    rows = model.offer_rows(as_rows([[1, 2, 3, 4]])[0], ["b", "new", "a"])
    assert rows.tolist() == [[1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 1, 0]]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"spec_hash": "f" * 16}, InvalidInput, "spec hash"),
        ({"definition_hashes": ["0" * 16] * 4}, InvalidInput, "other definitions of login_count_7d"),
        ({"golden": [GoldenRow([1, 2, 0, 40], 0.123)]}, IncompatibleData, "golden rows differ"),
        ({"golden": []}, IncompatibleData, "no golden rows"),
    ],
)
def test_a_version_that_does_not_fit_is_refused_with_the_reason(tmp_path, changes, error, words):
    write_model(tmp_path, TABLE, churn_booster(), **changes)
    with pytest.raises(error, match=words):
        load_model(tmp_path, "vigie-churn-closure", "7", TABLE)


@pytest.mark.parametrize(
    ("before", "after", "error", "words"),
    [
        ('"offers": []', '"offers": ["a"]', IncompatibleData, "4 inputs, but 5 are declared"),
        ('"login_count_7d"', '"no_such"', InvalidInput, "not live: no_such"),
        ('"kind": "churn"', '"kind": "other"', IncompatibleData, "vigie.json is damaged"),
    ],
)
def test_a_document_that_was_changed_is_refused_with_the_reason(tmp_path, before, after, error, words):
    write_model(tmp_path, TABLE, churn_booster())
    path = tmp_path / MODEL_FILE
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(error, match=words):
        load_model(tmp_path, "vigie-churn-closure", "7", TABLE)


def test_a_damaged_booster_is_refused(tmp_path):
    write_model(tmp_path, TABLE, churn_booster(), calibrator=Calibrator(kind="isotonic", x=[-3, 3], y=[0.1, 0.9]))
    (tmp_path / BOOSTER_FILE).write_bytes(b"not a model")
    with pytest.raises(IncompatibleData, match="no XGBoost model"):
        load_model(tmp_path, "vigie-churn-closure", "7", TABLE)
