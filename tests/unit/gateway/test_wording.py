"""Reasons in words: units for people, both languages, nothing claimed beyond the figures."""

from pathlib import Path

import pytest
from vigie_contracts.features import FeatureTable
from vigie_gateway.graph.wording import sentences, shown

TABLE = FeatureTable.load(Path(__file__).parents[3] / "feature_repo")


@pytest.mark.parametrize(
    ("feature", "value", "english", "french"),
    [
        ("login_count_30d", 1, "1", "1"),
        ("digital_acts_90d", 12_345, "12,345", "12\u202f345"),
        ("transfers_out_30d", 5_709_750, "57,097.50", "57\u202f097,50"),
        ("session_seconds_30d", 7_500, "2 h 05 min", "2 h 05 min"),
        ("message_open_rate_30d", 125, "12 %", "12 %"),
        ("login_trend_30d", 2_000, "200 %", "200 %"),
        ("login_recency", 1, "1 hour", "1 heure"),
        ("login_recency", 47, "47 hours", "47 heures"),
        ("login_recency", 264, "11 days", "11 jours"),
        ("login_recency", None, "never", "jamais"),
        ("active_days_30d", 0, "0 days", "0 jour"),
        ("active_days_30d", 2.5, "2.5 days", "2,5 jours"),
        ("tenure_days", 2_366, "2,366 days", "2\u202f366 jours"),
        ("engagement_score_30d", 41, "41 of 100", "41 sur 100"),
        ("quiet_stretch_30d", 1, "1 day", "1 jour"),
        ("login_baseline_7d", 480, "48 %", "48 %"),
        ("activity_weekday_90d", 7, "Sunday", "dimanche"),
        ("activity_weekday_90d", None, "none", "aucun"),
        ("activity_hour_7d", 0, "0 h", "0 h"),
        ("days_to_third_transfer", None, "not yet", "pas encore"),
        ("largest_payment_30d", 1_250, "12.50", "12,50"),
        ("days_since_first_goal", None, "never", "jamais"),
        ("age_band", 1, "25-34", "25-34"),
        ("age_band", None, "not stated", "non indiqué"),
    ],
)
def test_values_are_told_in_units_of_people(feature: str, value: float | None, english: str, french: str) -> None:
    spec = TABLE.by_key[feature]
    assert (shown(spec, value, "en"), shown(spec, value, "fr")) == (english, french)


def test_a_sentence_has_the_label_the_value_and_what_is_usual() -> None:
    assert sentences(TABLE.by_key["login_count_30d"], 2, 9.5) == {
        "en": "Logins in 30 days: 2, usually 9.5",
        "fr": "Connexions en 30 jours : 2, d’habitude 9,5",
    }


def test_without_a_typical_value_and_for_attributes_nothing_is_said_to_be_usual() -> None:
    assert sentences(TABLE.by_key["service_recency"], 3, None)["en"] == "Time since the last service contact: 3 hours"
    assert sentences(TABLE.by_key["age_band"], 0, 2.0)["fr"] == "Tranche d’âge déclarée : 18-24"


def test_every_declared_feature_can_be_told_in_both_languages() -> None:
    for spec in TABLE.features:
        for value in (None, 0, 1, 1_000):
            told = sentences(spec, value, value)
            assert set(told) == {"en", "fr"}
            assert all("{" not in text for text in told.values())
