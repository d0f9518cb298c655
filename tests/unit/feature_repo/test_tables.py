"""The shipped tables: what the catalogue, the features and the concepts hold, and that they fit one another."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from vigie_cli.feature_page import page
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable, Measure, feature_spec_hash
from vigie_contracts.scores import load_concepts

ACTS = [
    "app.logged_in", "session.ended", "balance.viewed", "transactions.viewed", "report.viewed",
    "feature.first_used", "search.made", "survey.answered", "verbatim.left", "support.contacted",
    "chatbot.contacted", "chatbot.escalated", "ticket.opened", "ticket.resolved", "help.viewed",
    "contact_page.viewed", "complaint.filed", "payment_method.added", "budget_alert.set", "savings_goal.set",
    "sub_account.created", "recurring_transfer.set", "transfer.made", "card.used", "watchlist.created",
    "watchlist.deleted", "article.read", "tutorial.read", "simulation.opened", "webinar.opened",
    "notification_setting.changed", "message.sent", "message.opened", "message.clicked", "offer.shown",
    "offer.clicked", "offer.accepted", "offer.declined", "account.opened", "account.closed", "branch.visited",
    "event.attended", "app.uninstalled", "salary.received", "fee.charged", "page.viewed", "screen.viewed",
]  # fmt: skip
BY_THE_INSTITUTION = {"message.sent", "offer.shown", "ticket.resolved", "salary.received", "fee.charged"}
CATEGORIES = {
    "digital",
    "payments",
    "goals",
    "learning",
    "service",
    "messaging",
    "offers",
    "feedback",
    "lifecycle",
    "branch",
    "settings",
    "money",
}


@pytest.fixture(scope="module")
def catalogue(feature_repo: Path) -> Catalogue:
    return Catalogue.load(feature_repo)


@pytest.fixture(scope="module")
def table(feature_repo: Path) -> FeatureTable:
    return FeatureTable.load(feature_repo)


def test_the_catalogue_names_these_acts(catalogue: Catalogue) -> None:
    rows = catalogue.micro_conversions.values()
    assert sorted(row.name for row in rows) == sorted(ACTS)
    assert {row.name for row in rows if row.initiated_by == "institution"} == BY_THE_INSTITUTION
    assert {row.category for row in rows} == CATEGORIES


def test_every_act_is_labelled_in_both_languages_and_spelled_as_sources_do(catalogue: Catalogue) -> None:
    for row in catalogue.micro_conversions.values():
        assert set(row.label) == {"en", "fr"}, row.name
        assert all(row.label.values()), row.name
        assert row.spellings, row.name
        assert row.polarity in (-1, 0, 1), row.name
        assert 0 <= row.weight <= 10, row.name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Logged In", "app.logged_in"), ("login", "app.logged_in"), ("User Signed In", "app.logged_in"),
        (" CONNEXION ", "app.logged_in"), ("carte utilisée", "card.used"), ("Réclamation déposée", "complaint.filed"),
        ("no such act", None),
    ],
)  # fmt: skip
def test_spellings_resolve_whatever_their_case(sent: str, name: str | None, catalogue: Catalogue) -> None:
    assert catalogue.resolve(sent) == name


@pytest.mark.parametrize(
    ("name", "properties", "measures"),
    [
        ("card.used", {"amount": "12.345", "category": "food"}, {"amount": 1234}),
        ("transfer.made", {"amount": 5, "direction": "in"}, {"amount": 500}),
        ("session.ended", {"duration_seconds": 61.5}, {"duration_seconds": 62}),
        ("ticket.resolved", {"minutes": 30, "cost": 4.5}, {"minutes": 30, "cost": 450}),
        ("salary.received", {}, {}),
    ],
)
def test_numbers_become_whole(
    name: str, properties: dict[str, object], measures: dict[str, int], catalogue: Catalogue
) -> None:
    assert catalogue.measures(name, properties) == measures


def test_personal_attributes_say_so(catalogue: Catalogue) -> None:
    personal = {row.name: row.pii for row in catalogue.attributes.values() if row.pii}
    assert personal == {"display_name": "direct_identifier", "email": "contact", "phone": "contact"}


def test_the_feature_table_has_these_sizes(table: FeatureTable) -> None:
    assert len(table.features) == 126
    measures = [row.measure for row in table.features]
    assert {measure: measures.count(measure) for measure in get_args(Measure)} == {
        "count": 33, "sum": 10, "max": 5, "trend": 7, "baseline": 8, "rate": 11, "active_days": 5, "streak": 1,
        "longest_gap": 4, "breadth": 2, "weekday": 3, "weekend_share": 2, "hour": 2, "recency": 8, "tenure": 6,
        "nth": 5, "last": 5, "attribute": 5, "engagement": 4,
    }  # fmt: skip


def test_the_catalogue_page_is_that_of_the_table(feature_repo: Path) -> None:
    committed = (feature_repo.parent / "docs/feature-catalogue.md").read_text()
    assert committed == page(feature_repo), "run `vigie features list --markdown > docs/feature-catalogue.md`"


def test_every_feature_has_a_declared_concept_and_every_concept_a_feature(
    table: FeatureTable, feature_repo: Path
) -> None:
    assert {row.concept for row in table.features} == set(load_concepts(feature_repo))


def test_concepts_and_features_speak_both_languages(table: FeatureTable, feature_repo: Path) -> None:
    assert [c.code for c in load_concepts(feature_repo).values() if set(c.title) != {"en", "fr"}] == []
    assert [row.key for row in table.features if set(row.label) != {"en", "fr"}] == []
    for locale in ("en", "fr"):
        assert len({row.label[locale] for row in table.features}) == len(table.features)


def test_every_sum_says_what_it_counts(table: FeatureTable) -> None:
    amounts = [row for row in table.features if row.measure in ("sum", "max", "last")]
    assert [row.key for row in amounts if row.unit is None] == ["last_survey_score"]
    assert {row.key for row in table.features if row.unit is not None} <= {row.key for row in amounts}


def test_engagement_is_out_of_a_hundred(table: FeatureTable) -> None:
    scores = [row for row in table.features if row.measure == "engagement"]
    weights = {row.window_days: sum(part.weight for part in row.components) for row in scores}
    assert weights == {1: 100, 7: 100, 30: 100, 90: 100}


def test_names_say_their_window(table: FeatureTable) -> None:
    for row in table.features:
        if row.window_days is not None:
            assert row.name.endswith(f"_{row.window_days}d"), row.name
            assert str(row.window_days) in row.description or row.measure == "streak", row.name


def test_an_empty_past_has_each_features_default(table: FeatureTable) -> None:
    defaults = {row.key: row.default for row in table.features}
    names = ("login_count_7d", "login_trend_7d", "message_open_rate_30d", "login_recency")
    assert [defaults[name] for name in names] == [0, 1000, 0, None]


def test_the_hash_covers_meaning_and_order_but_no_words(table: FeatureTable) -> None:
    first, second, *_ = table.features
    reworded = msgspec.structs.replace(first, description="other words", concept="other", owner="other")
    assert feature_spec_hash([reworded, second]) == feature_spec_hash([first, second])
    assert feature_spec_hash([second, first]) != feature_spec_hash([first, second])
    assert msgspec.structs.replace(first, window_days=30).definition_hash != first.definition_hash


def test_a_feature_of_a_personal_attribute_is_refused(feature_repo: Path, tmp_path: Path) -> None:
    (tmp_path / "catalogue.toml").write_bytes((feature_repo / "catalogue.toml").read_bytes())
    row = '{ name = "mail", description = "", measure = "attribute", attribute = "email", categories = ["a"] }'
    (tmp_path / "features.toml").write_text(f"features = [{row}]")
    with pytest.raises(InvalidInput, match=r"'email' is personal \(contact\) and may not be a feature"):
        FeatureTable.load(tmp_path)
