"""Cost with variables, and rules that are made once."""

import pytest
from graphql import parse
from vigie_contracts.errors import LimitExceeded
from vigie_gateway import limits
from vigie_gateway.limits import Bucket, price


@pytest.mark.parametrize(
    ("query", "variables", "cost"),
    [
        ("{ viewer { clientName } }", {}, 2),
        ("{ customers(first: 3) { edges { node { id } } } }", {}, 1 + 3 * 3),
        ("query($n: Int!) { customers(first: $n) { edges { node { id } } } }", {"n": 50}, 1 + 50 * 3),
        ("{ customers { edges { node { id } } } }", {}, 1 + 20 * 3),
        (
            "{ customers(first: 10) { edges { node { ...c } } } } fragment c on Customer { id anonymous }",
            {},
            1 + 10 * 4,
        ),
        (
            "{ customers(first: 2) { edges { node { identityExplanation { refused { reason } } } } } }",
            {},
            1 + 2 * (4 + 20),
        ),
        (
            "{ customers(first: 10) { edges { node { timeline(first: 10) { edges { cursor } } } } } }",
            {},
            1 + 10 * (3 + 20),
        ),
    ],
)
def test_a_query_costs_a_point_a_field_times_the_lists_around_it(query, variables, cost):
    assert price(parse(query), None, variables) == cost


def test_a_bucket_refuses_with_the_seconds_to_wait():
    bucket = Bucket(size=100, refill_per_second=1)
    assert bucket.take(60) == 40
    with pytest.raises(LimitExceeded, match="try again in") as refused:
        bucket.take(60)
    assert refused.value.details["retry_after"] in (20, 21)


def test_the_rules_are_the_same_objects_for_every_request():
    first, second = ([make() for make in limits.EXTENSIONS if callable(make)] for _ in range(2))
    rules = [one.validation_rules for one in (*first, *second) if hasattr(one, "validation_rules")]
    assert len(rules) == 2
    assert all(a is b for a, b in zip(rules[0], rules[1], strict=True))
