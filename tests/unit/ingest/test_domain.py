"""Time rules, names, traits and consent: pure."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.instants import from_micros, to_micros
from vigie_ingest import domain
from vigie_ingest.domain import Names, Unacceptable

from tests.unit.ingest.ingest_world import CATALOGUE

RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
instants = st.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def times_of(original: datetime | None, sent: datetime | None, received: datetime) -> domain.Times:
    sent_us = None if sent is None else domain.micros("sentAt", sent)
    return domain.event_times(original, sent_us, to_micros(received))


@given(original=instants, sent=instants, received=instants)
def test_a_client_clock_is_corrected_by_its_own_sent_stamp(
    original: datetime, sent: datetime, received: datetime
) -> None:
    timestamp = received - (sent - original)
    if timestamp < datetime(1970, 1, 1, tzinfo=UTC):
        return
    times = times_of(original, sent, received)
    assert from_micros(times.timestamp_us) == timestamp
    assert from_micros(times.effective_us) == min(timestamp, received)
    assert (times.original_us, times.sent_us) == (to_micros(original), to_micros(sent))


@given(skew=st.timedeltas(timedelta(days=-400), timedelta(days=400)), offline=st.integers(0, 10**12))
def test_a_constant_skew_of_the_client_clock_changes_nothing(skew: timedelta, offline: int) -> None:
    acted = RECEIVED - timedelta(microseconds=offline)
    times = times_of(acted + skew, RECEIVED + skew, RECEIVED)
    assert times.effective_us == to_micros(acted)


@given(original=instants)
def test_without_sent_at_the_clients_stamp_counts_and_the_future_is_clamped(original: datetime) -> None:
    times = times_of(original, None, RECEIVED)
    assert times.timestamp_us == to_micros(original)
    assert times.effective_us == min(to_micros(original), to_micros(RECEIVED))


@given(sent=st.none() | instants)
def test_without_a_stamp_the_event_counts_when_it_was_received(sent: datetime | None) -> None:
    times = times_of(None, sent, RECEIVED)
    assert (times.timestamp_us, times.effective_us) == (to_micros(RECEIVED), to_micros(RECEIVED))


def test_an_offset_is_understood() -> None:
    paris = datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    assert times_of(paris, None, RECEIVED).effective_us == to_micros(RECEIVED)


@pytest.mark.parametrize(
    ("original", "sent", "code"),
    [
        (datetime(2026, 1, 1), None, "naive_time"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), "naive_time"),  # noqa: DTZ001
        (datetime(1969, 12, 31, tzinfo=UTC), None, "time_out_of_range"),
        (datetime(1980, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC), "time_out_of_range"),
    ],
)
def test_a_stamp_that_means_no_instant_is_refused(original: datetime, sent: datetime | None, code: str) -> None:
    with pytest.raises(Unacceptable) as refusal:
        times_of(original, sent, RECEIVED)
    assert refusal.value.reason_code == code


def test_an_imported_row_may_not_lie_in_the_future() -> None:
    now_us = to_micros(RECEIVED)
    assert domain.imported_times(now_us, now_us).effective_us == now_us
    with pytest.raises(Unacceptable) as refusal:
        domain.imported_times(now_us + 1, now_us)
    assert refusal.value.reason_code == "in_the_future"


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        ("track", " logged in ", ("app.logged_in", True, "digital", False)),
        ("track", "transfer.made", ("transfer.made", True, "money", True)),
        ("track", "Something New", ("Something New", False, None, False)),
        ("page", "Help", ("help.viewed", True, "service", False)),
        ("page", "Logged In", ("page.viewed", True, "digital", False)),
        ("screen", None, ("screen.viewed", False, None, False)),
        ("identify", None, ("identify", False, None, False)),
    ],
)
def test_names_follow_the_catalogue(kind: str, sent: str | None, expected: tuple[Any, ...]) -> None:
    names = Names(CATALOGUE)
    assert tuple(names.of(kind, sent)) == expected
    assert tuple(names.of(kind, sent)) == expected


@pytest.mark.parametrize("sent", [None, "", "  ", "x" * 201])
def test_a_track_call_needs_a_usable_name(sent: str | None) -> None:
    with pytest.raises(Unacceptable):
        Names(CATALOGUE).of("track", sent)


def test_traits_take_the_catalogues_names_and_types() -> None:
    sent = {"ageBand": "25-34", "income": "1200", "vip": "true", "nick": {"a": 1}, "email": None}
    expected = {"age_band": "25-34", "income": 1200, "vip": True, "nick": {"a": 1}, "email": None}
    assert domain.canonical_traits(CATALOGUE, sent) == expected


def test_the_catalogues_own_spelling_wins_whatever_the_order() -> None:
    for traits in ({"ageBand": "a", "age_band": "b"}, {"age_band": "b", "ageBand": "a"}):
        assert domain.canonical_traits(CATALOGUE, traits) == {"age_band": "b"}


@pytest.mark.parametrize(
    "traits", [{"income": "much"}, {"vip": "perhaps"}, {"customer_since": "2026-01-01"}, {"age_band": []}]
)
def test_an_attribute_of_another_type_is_refused(traits: dict[str, Any]) -> None:
    with pytest.raises(Unacceptable) as refusal:
        domain.canonical_traits(CATALOGUE, traits)
    assert refusal.value.reason_code == "bad_attribute"


def test_consent_is_read_from_category_preferences() -> None:
    preferences = {"profiling": False, "marketing": True, "analytics": "maybe", "advertising": True}
    context = {"consent": {"categoryPreferences": preferences}}
    expected = (("analytics", "unset"), ("marketing", "granted"), ("profiling", "denied"))
    assert domain.stated_consents(context) == expected
    assert domain.stated_consents({"consent": []}) == ()
    assert domain.stated_consents({}) == ()
