"""Mapping files: strict, with errors that name the table and the key."""

from pathlib import Path

import pytest
from vigie_cli.importing import load_mapping
from vigie_contracts.errors import InvalidInput

EVENT = """
source = "s"
[[table]]
file = "e.csv"
kind = "event"
event = "x"
user_id = "{id}"
effective_at = { column = "at" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mapping.toml"
    path.write_text(text)
    return path


def test_the_shipped_mapping_is_read(repository: Path) -> None:
    mapping = load_mapping(repository / "examples/oulad/mapping.toml")
    assert [table.title for table in mapping.table] == [
        "profiles", "registrations", "course_starts", "withdrawals", "submissions", "clicks",
    ]  # fmt: skip
    assert mapping.variables["courses"] == ["AAA-2013J", "AAA-2014J", "BBB-2013B", "BBB-2013J"]


def test_variables_are_set_from_outside(tmp_path: Path) -> None:
    text = EVENT.replace('source = "s"', 'source = "s"\n[variables]\ncourses = ["a"]')
    mapping = load_mapping(written(tmp_path, text))
    assert mapping.with_variables({"courses": ["b", "c"]}).variables == {"courses": ["b", "c"]}
    with pytest.raises(InvalidInput, match=r"no variable 'course' \(it declares: courses\)"):
        mapping.with_variables({"course": ["b"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "event"', 'kind = "event"\ncolour = "red"'), "unknown field `colour`"),
        (('event = "x"', ""), "table 'e.csv': an event needs either `event` or `event_column`"),
        (('user_id = "{id}"', ""), "say whose the rows are by `user_id` or `anonymous_id`"),
        (('effective_at = { column = "at" }', ""), "an event needs `effective_at`"),
        (('{ column = "at" }', '{ column = "at", constant = "2014-01-01T00:00:00Z" }'), "an instant is one of"),
        (('{ column = "at" }', '{ base = "start", key = "{id}" }'), r"`base` needs a \[maps.start\]"),
        (('kind = "event"', 'kind = "event"\njoin = [{ lookup = "l", key = ["{id}"] }]'), "no .*lookup.* is named 'l'"),
        (('kind = "event"', 'kind = "event"\nwhere = [{ value = "{id}", among = "$v" }]'), r"'\$v' is no variable"),
        (('kind = "event"', 'kind = "event"\nwhere = [{ among = ["a"] }]'), "a filter is either"),
        (('kind = "event"', 'kind = "profile"'), "`event` and `properties` belong to kind"),
        (('kind = "event"\nevent = "x"', 'kind = "profile"'), None),
        (
            ('kind = "event"\nevent = "x"', 'kind = "profile"\nproperties = { a = "b" }'),
            "`event` and `properties` belong",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    path = written(tmp_path, EVENT.replace(*change))
    if message is None:
        assert load_mapping(path).table[0].kind == "profile"
        return
    with pytest.raises(InvalidInput, match=message):
        load_mapping(path)


def test_a_profile_must_state_when_it_is_effective(tmp_path: Path) -> None:
    text = EVENT.replace('kind = "event"\nevent = "x"', 'kind = "profile"').replace(
        'effective_at = { column = "at" }', ""
    )
    with pytest.raises(InvalidInput, match="a profile must state `effective_at`"):
        load_mapping(written(tmp_path, text))
    assert (
        load_mapping(written(tmp_path, text + 'effective_at = "first_event"\n')).table[0].effective_at == "first_event"
    )
