"""The tracking plan: compiled once, warned of or quarantined with the JSON path, values never told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_contracts.errors import InvalidInput
from vigie_contracts.imports import ImportRecord
from vigie_ingest.domain import Draft, Refusal
from vigie_ingest.identity import Rules
from vigie_ingest.messages import Normaliser, read
from vigie_ingest.plan import Plan

from tests.unit.ingest.ingest_world import CATALOGUE, NOW_US, World, identify, track

PLAN = """
[[event]]
event = "transfer.made"
on_violation = "quarantine"
schema = "transfer.json"
[[event]]
event = "Logged In"
schema = { required = ["device"], properties = { device = { type = "string", maxLength = 3 } } }
[[event]]
event = "identify"
schema = { properties = { email = { format = "email" } } }
[[event]]
event = "page.viewed"
schema = { properties = { depth = { type = "integer" } } }
"""
TRANSFER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"label": {"type": "string", "maxLength": 5}},
    "required": ["amount"],
    "properties": {"amount": {"type": "number"}, "labels": {"items": {"$ref": "#/$defs/label"}}},
}


def written(folder: Path, text: str = PLAN) -> Path:
    (folder / "transfer.json").write_bytes(msgspec.json.encode(TRANSFER))
    path = folder / "plan.toml"
    path.write_text(text)
    return path


@pytest.fixture
def normaliser(tmp_path: Path) -> Normaliser:
    written(tmp_path)
    return Normaliser(CATALOGUE, Rules(), Plan.load(tmp_path, CATALOGUE))


def sent(normaliser: Normaliser, *messages: dict[str, Any]) -> list[Draft | Refusal]:
    return normaliser.items(read(msgspec.json.encode({"batch": messages})), "app", NOW_US)


def test_an_event_that_fits_is_accepted_without_a_word(normaliser: Normaliser) -> None:
    (found,) = sent(normaliser, track("1", user="u", event="transfer.made", properties={"amount": 5, "labels": ["a"]}))
    assert isinstance(found, Draft)
    assert (found.notes, found.warned) == ((), False)


def test_a_violation_is_quarantined_with_its_path_and_without_its_value(normaliser: Normaliser) -> None:
    secret = "jean.martin@example.org"
    wrong = {"amount": 5, "labels": ["ok", secret]}
    good, bad, missing = sent(
        normaliser,
        track("1", user="u", properties={"device": "ios"}),
        track("2", user="u", event="transfer.made", properties=wrong),
        track("3", user="u", event="transfer.made"),
    )
    assert isinstance(good, Draft)
    assert isinstance(bad, Refusal)
    assert isinstance(missing, Refusal)
    assert (bad.code, bad.event_id) == ("plan_violation", "2")
    assert bad.reason == (
        "the tracking plan is violated at $.properties.labels[1]: the value is longer than 5 characters"
    )
    assert secret not in bad.reason
    assert missing.reason == 'the tracking plan is violated at $.properties: "amount" is a required property'


def test_a_warning_is_accepted_and_says_every_violation(normaliser: Normaliser) -> None:
    short, long, page, person = sent(
        normaliser,
        track("1", user="u"),
        track("2", user="u", properties={"device": "android"}),
        {"type": "page", "messageId": "3", "userId": "u", "name": "Home", "properties": {"depth": "x"}},
        identify("4", user="u", traits={"email": "nobody"}),
    )
    told = [(found.warned, found.notes) for found in (short, long, page, person) if isinstance(found, Draft)]
    assert told == [
        (True, ('the tracking plan is violated at $.properties: "device" is a required property',)),
        (True, ("the tracking plan is violated at $.properties.device: the value is longer than 3 characters",)),
        (True, ('the tracking plan is violated at $.properties.depth: the value is not of type "integer"',)),
        (True, ('the tracking plan is violated at $.traits.email: the value is not a "email"',)),
    ]


def test_rows_of_files_are_checked_too(normaliser: Normaliser) -> None:
    record = ImportRecord(kind="track", event_id="1", effective_at_us=1, name="transfer.made", user_id="u")
    found = normaliser.imported(record, "file", NOW_US)
    assert isinstance(found, Refusal)
    assert found.code == "plan_violation"


def test_the_receipt_of_a_warned_event_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    written(tmp_path)
    world.normaliser = Normaliser(CATALOGUE, Rules(), Plan.load(tmp_path, CATALOGUE))
    world.send(track("1", user="u"), track("2", user="u", event="transfer.made"))
    accepted, quarantined = (world.reads.receipt(event_id, "app") for event_id in ("1", "2"))
    assert accepted.verdict == "accepted"
    assert accepted.notes == ['the tracking plan is violated at $.properties: "device" is a required property']
    assert (quarantined.verdict, quarantined.code) == ("quarantined", "plan_violation")
    assert [(row.name, row.count, row.warned) for row in world.reads.arrivals(10).rows] == [("app.logged_in", 1, 1)]


def test_names_of_properties_that_may_be_personal_are_not_told(tmp_path: Path) -> None:
    closed = '[[event]]\nevent = "Logged In"\nschema = { properties = { a = {} }, additionalProperties = false }\n'
    by_name = '[[event]]\nevent = "x"\nschema = { propertyNames = { maxLength = 3 } }\n'
    nested = '[[event]]\nevent = "y"\nschema = { additionalProperties = { type = "integer" } }\n'
    plan = Plan.read(written(tmp_path, closed + by_name + nested), CATALOGUE)
    properties = {"jean@example.org": "v", "other": "v"}
    told = [str(plan.verdict("track", name, properties, {})) for name in ("app.logged_in", "x", "y")]
    assert told == [
        "$.properties: the plan does not have: aaaa@aaaaaaa.aaa, other",
        "$.properties: the name of a property does not fit (and 1 more)",
        "$.properties['aaaa@aaaaaaa.aaa']: the value is not of type \"integer\" (and 1 more)",
    ]


def test_without_a_file_there_is_no_plan(tmp_path: Path) -> None:
    plan = Plan.load(tmp_path, CATALOGUE)
    assert (len(plan), plan.verdict("track", "transfer.made", {}, {})) == (0, None)


def test_an_event_that_is_called_identify_is_no_identify_call(normaliser: Normaliser) -> None:
    (found,) = sent(normaliser, track("1", user="u", event="identify", properties={"email": "nobody"}))
    assert isinstance(found, Draft)
    assert not found.warned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[event]]\nevent = "x"\nschema = "absent.json"', "event 'x': the schema .*absent.json cannot be read"),
        ('[[event]]\nevent = "x"\nschema = "plan.toml"', "event 'x': the schema .* is no JSON"),
        ('[[event]]\nevent = "x"\nschema = { type = "wat" }', r"event 'x': no valid JSON Schema at \$.schema.type"),
        ('[[event]]\nevent = "x"\nschema = { "$ref" = "http://example.org/s" }', "write http://example.org/s into it"),
        ('[[event]]\nevent = "x"\nschema = { "$ref" = "file:///etc/passwd" }', "write file:///etc/passwd into it"),
        ('[[event]]\nevent = "x"\nschema = {}\non_violation = "drop"', "Invalid enum value 'drop'"),
        ('[[event]]\nevent = "x"\nschema = {}\ncolour = 1', "unknown field `colour`"),
        (
            '[[event]]\nevent = "Logged In"\nschema = {}\n[[event]]\nevent = "app.logged_in"\nschema = {}',
            "event 'app.logged_in': the plan has this event twice",
        ),
    ],
)
def test_a_wrong_plan_is_said_at_start(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, text)
    with pytest.raises(InvalidInput, match=message):
        Plan.load(tmp_path, CATALOGUE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(properties=st.dictionaries(st.sampled_from(["amount", "labels", "x y", "é"]), JSON, max_size=4))
def test_any_properties_get_a_verdict(tmp_path_factory: pytest.TempPathFactory, properties: dict[str, Any]) -> None:
    plan = Plan.read(written(tmp_path_factory.getbasetemp()), CATALOGUE)
    found = plan.verdict("track", "transfer.made", properties, {})
    amount = properties.get("amount")
    fits = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not fits:
        assert found is not None
        assert found.action == "quarantine"
        assert all(violation.path.startswith("$.properties") for violation in found.violations)
