"""The simulated bank: what makes its customers leave, and that a seed fixes everything."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
import vigie_simulator
from sklearn.metrics import roc_auc_score
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.instants import DAY_US
from vigie_simulator.bank import Bank

FEATURE_REPO = Path(__file__).parents[3] / "feature_repo"


def days_of(bank: Bank, count: int) -> list[list]:
    return list(bank.days(count))


@pytest.fixture(scope="module")
def observed() -> tuple[Bank, np.ndarray, np.ndarray]:
    """A bank after 140 days with the true leave rate and who was there on day 90."""
    bank = Bank(seed=11, customers=4_000, start_us=0)
    rates = present = np.empty(0)
    for day, _ in enumerate(bank.days(140)):
        if day == 90:
            rates, present = bank.leave_rate.copy(), bank.population.joined_day < 60
    return bank, rates, present


def test_an_oracle_who_sees_the_latent_state_stays_below_an_auc_of_085(observed):
    bank, rates, present = observed
    at_risk = present & (bank.left_day >= 97)
    leaves = (bank.left_day >= 97) & (bank.left_day < 127)
    auc = roc_auc_score(leaves[at_risk], rates[at_risk])
    assert 0.74 < auc < 0.85
    assert 0.02 < leaves[at_risk].mean() < 0.08


def test_the_leave_rate_is_a_function_of_the_latent_state_alone(observed):
    bank, _, _ = observed
    before = bank.leave_rate.copy()
    bank.mood = bank.mood + 5
    bank.population.activity[:] = 0
    assert np.array_equal(bank.leave_rate, before)


def test_a_seed_fixes_every_act_and_more_days_only_append():
    short, long = (days_of(Bank(seed=3, customers=60, start_us=DAY_US), count) for count in (10, 20))
    assert short == long[:11]
    assert days_of(Bank(seed=4, customers=60, start_us=DAY_US), 10) != short


def test_nobody_acts_after_the_account_was_closed():
    bank = Bank(seed=5, customers=800, start_us=0)
    closed: dict[int, int] = {}
    for day, acts in enumerate(bank.days(80)):
        for act in acts:
            assert act.customer not in closed or closed[act.customer] >= day - 1
            if act.name == "account.closed":
                closed[act.customer] = day
    assert len(closed) > 20


def test_event_ids_are_unique():
    ids = [act.event_id for day in Bank(seed=6, customers=300, start_us=0).days(30) for act in day]
    assert len(ids) == len(set(ids)) > 5_000


def test_every_act_is_in_the_catalogue():
    catalogue = Catalogue.load(FEATURE_REPO)
    names = {act.name for day in Bank(seed=6, customers=400, start_us=0).days(40) for act in day}
    assert {name for name in names if catalogue.resolve(name) is None} == {"identify"}


def test_the_simulator_imports_neither_features_nor_tiles():
    imported: set[str] = set()
    for path in Path(vigie_simulator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    assert not [name for name in imported if "tiles" in name or "feature" in name]


def test_ordered_acts_are_those_of_the_days_in_order_and_can_begin_later():
    whole = [act for day in Bank(seed=3, customers=60, start_us=0).days(12) for act in day]
    ordered = list(itertools.islice(Bank(seed=3, customers=60, start_us=0).ordered(), len(whole) - 200))
    assert [act.at_us for act in ordered] == sorted(act.at_us for act in ordered)
    assert {act.event_id for act in ordered} <= {act.event_id for act in whole}
    later = list(itertools.islice(Bank(seed=3, customers=60, start_us=0).ordered(5), 100))
    tail = [act for act in ordered if act.at_us >= 6 * DAY_US]
    assert [act for act in later if act.at_us >= 6 * DAY_US][:20] == tail[:20]
