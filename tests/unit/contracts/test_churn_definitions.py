"""Churn definition files: what the shipped ones say, and what is refused with the file and the reason."""

from pathlib import Path

import pytest
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput, NotFound
from vigie_contracts.scores import ChurnDefinition

REPO = Path(__file__).parents[3] / "feature_repo"
INACTIVITY = (REPO / "churn" / "inactivity.toml").read_text()
ATTRITION = (REPO / "churn" / "balance_attrition.toml").read_text()


def written(folder: Path, text: str, key: str = "inactivity") -> ChurnDefinition:
    """A definition of a repository that has the shipped catalogue."""
    (folder / "churn").mkdir()
    (folder / "catalogue.toml").write_bytes((REPO / "catalogue.toml").read_bytes())
    (folder / "churn" / f"{key}.toml").write_text(text)
    return ChurnDefinition.load(folder, key)


def test_three_definitions_ship_and_closure_is_the_primary_one() -> None:
    found = ChurnDefinition.load_all(REPO)
    assert [(one.key, one.kind, one.primary) for one in found] == [
        ("closure", "closure", True),
        ("balance_attrition", "balance_attrition", False),
        ("inactivity", "inactivity", False),
    ]
    assert [one.model_name for one in found] == [
        "vigie-churn-closure", "vigie-churn-balance-attrition", "vigie-churn-inactivity",
    ]  # fmt: skip


def test_the_catalogue_says_what_is_an_act_of_the_customer() -> None:
    catalogue = Catalogue.load(REPO)
    acts = set(ChurnDefinition.load(REPO, "inactivity").activity)
    by_customer = {row.name for row in catalogue.micro_conversions.values() if row.initiated_by == "customer"}
    assert acts == by_customer - {"account.closed"}
    assert not acts & {"fee.charged", "salary.received", "message.sent"}


def test_another_horizon_asks_for_the_history_that_its_median_needs() -> None:
    declared = ChurnDefinition.load(REPO, "balance_attrition")
    assert (declared.trailing_days, declared.min_history_days) == (180, 180)
    assert (declared.at_horizon(60).min_history_days, declared.at_horizon(7).min_history_days) == (360, 180)
    assert ChurnDefinition.load(REPO, "closure").trailing_days == 0


def test_an_unknown_definition_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(NotFound, match=r"no churn definition 'nosuch'.* has balance_attrition, closure, inactivity"):
        ChurnDefinition.load(REPO, "nosuch")
    with pytest.raises(NotFound, match=r"no churn definition '\.\./churn/closure'"):
        ChurnDefinition.load(REPO, "../churn/closure")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (INACTIVITY + "horizon = 3\n", "inactivity.toml: Object contains unknown field `horizon`"),
        (INACTIVITY.replace('kind = "inactivity"', 'kind = "silence"'), "Invalid enum value 'silence'"),
        (INACTIVITY.replace('"@customer"', '"@nobody"'), "'@nobody' is not in the catalogue"),
        (INACTIVITY.replace('"@customer"', '"app.loged_in"'), "'app.loged_in' is not in the catalogue"),
        (INACTIVITY.replace('"@customer"', '"account.closed"'), "`activity` names no micro-conversion but the outcome"),
        (INACTIVITY.replace('outcome = "account.closed"', 'outcome = "gone"'), "'gone' is not in the catalogue"),
        (INACTIVITY.replace("horizon_days = 30", "horizon_days = 0"), "horizon_days is at least 1"),
        (INACTIVITY.replace('kind = "inactivity"', 'kind = "balance_attrition"'), r"a table \[attrition\] belongs to"),
        (INACTIVITY.replace('key = "inactivity"', 'key = "quiet"'), "the key is 'quiet', but the file's name says"),
        (ATTRITION.replace('key = "balance_attrition"', 'key = "inactivity"').replace("= 180", "= 90"), "at least 180"),
        (ATTRITION.replace("share = 0.4", "share = 40"), "0 < share < 1"),
        (ATTRITION.replace('key = "balance_attrition"', 'key = "inactivity"').replace(
            'value_property = "amount", where = { direction = "in" }', 'value_property = "direction"'),
         "'direction' must be a numeric property"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        written(tmp_path, text)
    assert "churn/inactivity.toml" in refused.value.message


def test_exactly_one_definition_is_primary(tmp_path: Path) -> None:
    assert written(tmp_path, INACTIVITY).primary is False
    with pytest.raises(InvalidInput, match="exactly one definition must say primary = true"):
        ChurnDefinition.load_all(tmp_path)
