"""The parts of the demo that need no running system."""

from pathlib import Path

import msgspec
import pytest
from vigie_cli.demo.flow import _is_folded, _is_scored, in_words
from vigie_cli.demo.graph import AT_RISK, UPDATES, items
from vigie_cli.demo.live import following, moved_to_now
from vigie_cli.simulating import Bank as Bank_
from vigie_cli.simulating import bank_of
from vigie_contracts.errors import Unavailable
from vigie_contracts.instants import DAY_US, ClockSetting, parse_instant
from vigie_kit.clock import Clock
from vigie_simulator.bank import Bank
from vigie_simulator.stream import FILE, Simulation

NOON = parse_instant("2026-06-01T12:00:00Z")
SIMULATION = Simulation(
    seed=3, customers=40, activity=1.0, start_us=NOON - NOON % DAY_US - 20 * DAY_US, sent_until_us=0
)


def test_items_of_an_event_stream_are_read_until_it_completes() -> None:
    lines = [
        ": heartbeat", "event: next", 'data: {"data": {"n": 1}}', "", "event: next", 'data: {"data": {"n": 2}}', "",
        "event: complete", "data:", "", "event: next", 'data: {"data": {"n": 3}}',
    ]  # fmt: skip
    assert list(items(iter(lines))) == [{"n": 1}, {"n": 2}]


def test_an_error_in_the_stream_is_said() -> None:
    lines = ["event: next", 'data: {"data": null, "errors": [{"message": "no such field"}]}']
    with pytest.raises(Unavailable, match="no such field"):
        list(items(iter(lines)))


def test_the_next_day_of_the_bank_follows_what_was_sent() -> None:
    acts = list(following(SIMULATION, NOON))
    bank = Bank(seed=3, customers=40, start_us=SIMULATION.start_us)
    everything = [act for day in bank.days(24) for act in day]
    due = {act.event_id for act in everything if NOON <= act.at_us < NOON + DAY_US}
    assert {act.event_id for act in acts} == due
    assert [act.at_us for act in acts] == sorted(act.at_us for act in acts)


def test_an_act_is_moved_to_the_business_clock() -> None:
    act = next(following(SIMULATION, NOON))
    clock = Clock(ClockSetting(base_virtual_us=5, rate=0.0))
    assert moved_to_now(act, clock).at_us == 5
    assert moved_to_now(act, clock).event_id == act.event_id


@pytest.mark.parametrize(
    ("update", "words"),
    [
        (
            {
                "customer": {"externalId": "sim-1"},
                "previous": {"probability": 0.1, "band": "LOW"},
                "current": {"probability": 0.25, "band": "HIGH", "reasons": [{"text": "Fewer logins"}]},
            },
            "sim-1: 10.0% -> 25.0%, HIGH (Fewer logins)",
        ),
        (
            {"customer": None, "previous": {}, "current": {"probability": 0.5, "band": "HIGH"}},
            "a customer: 50.0%, HIGH",
        ),
        (
            {"customer": {"externalId": "sim-2"}, "previous": None, "current": {"reason": "CONSENT_WITHDRAWN"}},
            "sim-2: no score any more (CONSENT_WITHDRAWN)",
        ),
    ],
)
def test_an_update_is_one_line(update: dict[str, object], words: str) -> None:
    assert in_words(update) == words


def test_the_printed_documents_are_graphql() -> None:
    from graphql import parse

    assert [definition.operation.value for definition in parse(AT_RISK).definitions] == ["query"]  # type: ignore[attr-defined]
    assert [definition.operation.value for definition in parse(UPDATES).definitions] == ["subscription"]  # type: ignore[attr-defined]


def test_folding_is_done_when_state_and_archive_have_caught_up() -> None:
    assert _is_folded({"lag": {"records": 0, "seconds": 0.0, "archive_records": 0}})
    assert not _is_folded({"lag": {"records": 0, "seconds": 0.0, "archive_records": 7}})


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({}, True),
        ({"lag": {"changes": 1}}, False),
        ({"counts": {"pending": 2}}, False),
        ({"rescoring": {"churn": {"version": "1", "after": "customer-7"}}}, False),
        ({"rescoring": {"churn": {"version": None, "after": None}}}, False),
        ({"rescoring": {}}, False),
    ],
)
def test_scoring_is_done_when_nothing_waits_for_loaded_models(change: dict[str, object], done: bool) -> None:
    status = {"lag": {"changes": 0}, "counts": {"pending": 0}, "rescoring": {"churn": {"version": "1", "after": None}}}
    assert _is_scored({**status, **change}) is done


def test_a_second_run_continues_with_the_bank_that_is_there(tmp_path: Path) -> None:
    default = Bank_(seed=7, customers=1_000, days=150)
    assert bank_of(tmp_path, seed=None, customers=None, days=150, default=default) == default
    (tmp_path / FILE).write_bytes(msgspec.json.encode(SIMULATION))
    assert bank_of(tmp_path, seed=None, customers=None, days=150, default=default) == Bank_(3, 40, 150)
    assert bank_of(tmp_path, seed=None, customers=90, days=150, default=default) == Bank_(3, 90, 150)
