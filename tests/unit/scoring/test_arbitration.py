"""Filters with their verdicts, priorities by hand, exploration propensities against a full enumeration, replay."""

import hashlib
import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US
from vigie_contracts.offers import ContactPolicy, Offer, OfferFile
from vigie_contracts.scores import ReadPoint
from vigie_contracts.segments import Vocabulary
from vigie_scoring.arbitration import (
    KeptCatalogue,
    OfferCatalogue,
    Situation,
    decide,
    draw,
    explored_order,
    placement_propensities,
    verdict_of,
)
from vigie_scoring.domain import Contact, CustomerFacts

REPO = Path(__file__).parents[2] / "integration" / "scoring_repo"
VOCABULARY = Vocabulary(FeatureTable.load(REPO), ["closure"])
NOW = 400 * DAY_US


def offer(code: str, **changes: object) -> Offer:
    fields: dict[str, object] = {
        "code": code,
        "title": {"en": code},
        "terms": {"en": ""},
        "product": f"product_{code}",
        "topic": f"topic_{code}",
        "channels": ["IN_APP", "EMAIL"],
        "margin_minor": 1000,
    }
    return Offer(**{**fields, **changes})  # type: ignore[arg-type]


SAVINGS = offer("savings", eligible="login_count_30d > 0", margin_minor=3000, context={"login_count_7d > 2": 1.5})
CARD = offer("card", suitable="complaint_count_30d == 0", margin_minor=6000, topic="topic_money")
COACH = offer("coach", lever=5.0, channels=["IN_APP"], topic="topic_money")
MORTGAGE = offer("mortgage", regulated=True, margin_minor=12000, active_from_us=NOW - 10, active_to_us=NOW + 10)
POLICY = ContactPolicy(max_shown=2, window_days=7, cooling_off_days=30, decision_valid_hours=24, exploration_share=0.2)


def catalogue(*offers: Offer, policy: ContactPolicy = POLICY) -> OfferCatalogue:
    return OfferCatalogue.compiled(OfferFile(offer=list(offers), policy=policy), VOCABULARY)


ALL = catalogue(SAVINGS, CARD, COACH, MORTGAGE)


def situation(**changes: object) -> Situation:
    fields: dict[str, object] = {
        "facts": CustomerFacts(customer_id="c", first_seen_us=0),
        "channel": "IN_APP",
        "decided_at_us": NOW,
        "read_point": ReadPoint(t_us=NOW, pos={0: 9}),
        "values": {"login_count_30d": 5, "login_count_7d": 3, "complaint_count_30d": 0},
        "vector": [3, 5, 0, None],
        "propensities": {"savings": 0.2, "card": 0.1, "coach": 0.3, "mortgage": 0.05},
        "because": [],
        "churned": False,
        "model_version": "4",
        "spec_hash": "0" * 16,
        "catalogue_hash": ALL.hash,
    }
    return Situation(**{**fields, **changes})  # type: ignore[arg-type]


def with_contacts(*contacts: Contact, **facts: object) -> Situation:
    return situation(facts=CustomerFacts(customer_id="c", first_seen_us=0, contacts=list(contacts), **facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "at", "code", "words"),
    [
        (SAVINGS, situation(), None, ""),
        (SAVINGS, with_contacts(denied=["marketing"]), "CONSENT", "denied: marketing"),
        (SAVINGS, with_contacts(denied=["profiling"]), "CONSENT", "denied: profiling"),
        (SAVINGS, with_contacts(denied=["analytics"]), None, ""),
        (MORTGAGE, situation(decided_at_us=NOW - 11), "NOT_VALID", "not yet active"),
        (MORTGAGE, situation(decided_at_us=NOW + 10), "NOT_VALID", "no longer active"),
        (COACH, situation(channel="EMAIL"), "NOT_VALID", "not offered on EMAIL"),
        (SAVINGS, situation(values={"login_count_30d": 0}), "NOT_ELIGIBLE", "needs login_count_30d > 0"),
        (SAVINGS, situation(values={}), "NOT_ELIGIBLE", "needs login_count_30d > 0"),
        (COACH, situation(churned=True), "NOT_ELIGIBLE", "the relationship has ended"),
        (CARD, with_contacts(owned=["product_card"]), "ALREADY_OWNED", "holds product_card"),
        (
            CARD,
            with_contacts(Contact("ACCEPTED", "card", 5)),
            "ALREADY_OWNED",
            "has accepted an offer of product_card",
        ),
        (CARD, situation(values={"complaint_count_30d": 1}), "NOT_SUITABLE", "needs complaint_count_30d == 0"),
        (COACH, situation(values={"in_arrears": 1}), "ARREARS_OR_VULNERABLE", "in_arrears"),
        (COACH, situation(values={"in_arrears": 0, "vulnerable": None}), None, ""),
        (
            COACH,
            with_contacts(Contact("SHOWN", "card", NOW - 7 * DAY_US), Contact("SHOWN", "x", NOW - 1)),
            "CONTACT_POLICY",
            "2 offers shown within 7 days",
        ),
        (COACH, with_contacts(Contact("SHOWN", "x", NOW - 7 * DAY_US - 1), Contact("SHOWN", "x", NOW - 1)), None, ""),
        (COACH, with_contacts(Contact("SHOWN", "card", NOW), Contact("CLICKED", "x", NOW - 1)), None, ""),
        (
            COACH,
            with_contacts(Contact("DECLINED", "card", NOW - 30 * DAY_US)),
            "CONTACT_POLICY",
            "topic topic_money was declined within 30 days",
        ),
        (COACH, with_contacts(Contact("DECLINED", "card", NOW - 30 * DAY_US - 1)), None, ""),
        (SAVINGS, with_contacts(Contact("DECLINED", "card", NOW - 1)), None, ""),
    ],
)
def test_each_filter_gives_its_verdict_and_the_first_one_counts(of, at, code, words):
    verdict = verdict_of(ALL, of, at)
    assert (verdict.offer, verdict.rejected_by, verdict.detail) == (of.code, code, words)


def test_consent_comes_before_every_other_filter():
    at = with_contacts(Contact("SHOWN", "x", NOW - 1), denied=["marketing"], owned=["product_card"])
    assert {verdict.rejected_by for verdict in decide(ALL, at).verdicts} == {"CONSENT"}


def test_priority_is_propensity_times_context_times_value_times_bounded_lever():
    silent = catalogue(SAVINGS, CARD, COACH, MORTGAGE, policy=msgspec.structs.replace(POLICY, exploration_share=0.0))
    decision = decide(silent, situation(catalogue_hash=silent.hash))
    rows = [(r.rank, r.offer, r.propensity, r.context, r.value, r.lever) for r in decision.recommendations]
    assert rows == [
        (1, "savings", 0.2, 1.5, 0.25, 1.0),
        (2, "card", 0.1, 1.0, 0.5, 1.0),
        (3, "mortgage", 0.05, 1.0, 1.0, 1.0),
        (4, "coach", 0.3, 1.0, 1000 / 12000, 2.0),
    ]
    assert [r.priority for r in decision.recommendations] == pytest.approx([0.075, 0.05, 0.05, 0.05])
    assert [r.exploration_propensity for r in decision.recommendations] == [1.0] * 4
    assert (decision.explored, decision.unavailable) == (False, None)
    assert decision.expires_at_us - decision.decided_at_us == 24 * HOUR_US


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (with_contacts(denied=["marketing"]), "CONSENT_WITHDRAWN"),
        (with_contacts(Contact("SHOWN", "x", NOW - 1), Contact("SHOWN", "y", NOW - 2)), "CONTACT_LIMIT_REACHED"),
        (situation(churned=True), "NOTHING_ELIGIBLE"),
        (situation(model_version=None, vector=[], propensities={}), "MODEL_UNAVAILABLE"),
    ],
)
def test_no_offer_has_a_reason(at, reason):
    decision = decide(ALL, at)
    assert (decision.unavailable, decision.recommendations) == (reason, [])


def test_a_withdrawn_decision_holds_no_vector():
    decision = decide(ALL, with_contacts(denied=["profiling"]))
    assert (decision.vector, decision.read_point) == ([], None)


# ---- exploration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regulated", list(itertools.product([False, True], repeat=4)))
def test_placement_propensities_are_those_of_the_enumerated_policy(regulated):
    greedy = ["a", "b", "c", "d"]
    free = [code for code, bound in zip(greedy, regulated, strict=True) if not bound]
    share = 0.2
    expected: dict[tuple[str, int], float] = {}
    choices = len(free) if len(free) > 1 else 1
    weights = [(index, (share / choices) + (1 - share if index == 0 else 0)) for index in range(choices)]
    for drawn, weight in weights:
        for rank, code in enumerate(explored_order(greedy, free, drawn), start=1):
            expected[code, rank] = expected.get((code, rank), 0.0) + weight
    found = placement_propensities(greedy, free, share)
    assert found == pytest.approx(expected)
    for rank in range(1, 5):
        assert sum(chance for (_, at), chance in found.items() if at == rank) == pytest.approx(1.0)
    for rank, (code, bound) in enumerate(zip(greedy, regulated, strict=True), start=1):
        if bound:
            assert found[code, rank] == pytest.approx(1.0)


def test_an_explored_offer_takes_the_first_free_place_and_regulated_ones_keep_theirs():
    assert explored_order(["m", "a", "b", "n", "c"], ["a", "b", "c"], 2) == ["m", "c", "a", "n", "b"]
    assert explored_order(["m", "a", "b"], ["a", "b"], 0) == ["m", "a", "b"]
    assert explored_order(["m"], [], 0) == ["m"]


def test_the_draw_explores_its_share_and_chooses_evenly():
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]
    drawn = [draw(one, 0.2, 4) for one in ids]
    explored = [one for one in drawn if one is not None]
    assert abs(len(explored) / len(ids) - 0.2) < 0.01
    assert all(abs(explored.count(index) / len(explored) - 0.25) < 0.03 for index in range(4))
    assert [draw(one, 0.2, 1) for one in ids[:50]] == [None] * 50
    assert [draw(one, 0.0, 4) for one in ids[:50]] == [None] * 50
    assert None not in [draw(one, 1.0, 4) for one in ids[:50]]


chances = st.floats(min_value=0, max_value=1, allow_nan=False)


@given(
    propensities=st.fixed_dictionaries({code: chances for code in ("savings", "card", "coach", "mortgage")}),
    values=st.dictionaries(
        st.sampled_from(["login_count_30d", "login_count_7d", "complaint_count_30d"]), st.integers(0, 4) | st.none()
    ),
    instant=st.integers(NOW - 40 * DAY_US, NOW + 40 * DAY_US),
    shown=st.lists(st.integers(NOW - 10 * DAY_US, NOW), max_size=4),
)
def test_a_decision_read_back_from_json_is_recomputed_bit_for_bit(propensities, values, instant, shown):
    facts = CustomerFacts(customer_id="c", first_seen_us=0, contacts=[Contact("SHOWN", "x", at) for at in shown])
    made_from = situation(propensities=propensities, values=values, decided_at_us=instant, facts=facts)
    stored = msgspec.json.encode(decide(ALL, made_from))
    again = msgspec.json.decode(msgspec.json.encode(made_from), type=Situation)
    offers = OfferCatalogue(msgspec.json.decode(msgspec.json.encode(ALL.kept), type=KeptCatalogue))
    assert offers.hash == ALL.hash
    assert msgspec.json.encode(decide(offers, again)) == stored


# ---- the offer file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "words"),
    [
        ((SAVINGS, SAVINGS), "share the code 'savings'"),
        ((SAVINGS, offer("x", currency="USD")), "different currencies"),
        ((offer("x", margin_minor=0),), "positive `margin_minor`"),
        ((offer("x", context={"login_count_7d > 0": 0.0}),), "context weight"),
        ((offer("x", eligible="no_such > 1"),), "offer 'x': 'no_such > 1': at character 1"),
    ],
)
def test_a_wrong_offer_file_is_refused_with_the_offer_and_the_reason(offers, words):
    with pytest.raises(InvalidInput, match=words):
        catalogue(*offers)


def test_the_shipped_offers_fit_the_shipped_features(feature_repo):
    from vigie_contracts.offers import load_offers

    shipped = OfferCatalogue.compiled(
        load_offers(feature_repo), Vocabulary(FeatureTable.load(feature_repo), ["closure"])
    )
    assert list(shipped.offers) == [
        "savings_boost",
        "premium_card",
        "budget_coach",
        "mortgage_review",
        "investment_plan",
        "fee_waiver",
    ]
    assert [code for code, row in shipped.offers.items() if row.regulated] == ["mortgage_review", "investment_plan"]
    for row in shipped.file.offer:
        assert set(row.title) == set(row.terms) == {"en", "fr"}
