"""Segments defined on the running system, previews, histories and migrations: exact against naive recounts."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.events import SegmentMoved
from vigie_contracts.instants import DAY_US
from vigie_contracts.reads import MembershipsRequest, SegmentMembersRequest
from vigie_contracts.segmentation import (
    DefineRequest,
    HistoryRequest,
    MigrationRequest,
    PreviewRequest,
    RetireRequest,
)
from vigie_contracts.segments import EXCLUSIVE_FAMILIES, SegmentTable
from vigie_features.defining import Defining
from vigie_features.definitions import ASSESS_AFTER
from vigie_features.previewing import Previewing
from vigie_features.store import SEGMENTS as SEGMENTS_LOG
from vigie_kit.sqlite_log import SqliteLogReader

from tests.unit.features.features_state import FeatureState
from tests.unit.features.features_world import LAYOUT, NOW_US, SEGMENTS, START_US, TABLE, records
from tests.unit.features.test_reading import reading

STAGES = {segment.spec.key for segment in SEGMENTS.segments if segment.spec.family == "life_cycle"}


def previewing(state: FeatureState, *ticks: float) -> Previewing:
    """With `ticks` the system's clock says these seconds, then stands still."""
    seconds = iter(ticks)
    last = ticks[-1] if ticks else 0.0
    return Previewing(
        state.store,
        TABLE,
        LAYOUT,
        state.definitions,
        lambda: state.now_us,
        lambda: True,
        system_seconds=lambda: next(seconds, last),
    )


def defining(state: FeatureState) -> Defining:
    return Defining(state.store, state.definitions, previewing(state), lambda: state.now_us, lambda: True)


def walk(state: FeatureState) -> None:
    while state.walking.step():
        pass


def moves(state: FeatureState) -> list[SegmentMoved]:
    log = SqliteLogReader(state.store.path, SEGMENTS_LOG)
    return [msgspec.json.decode(entry.payload, type=SegmentMoved) for entry in log.read({}, 100_000)]


def inside(state: FeatureState, key: str) -> list[str]:
    rows = reading(state).segment_members(SegmentMembersRequest(key=key, limit=1_000)).memberships
    return [row.customer_id for row in rows]


def asked(definition: str = "login_count_30d >= 2", **more: object) -> DefineRequest:
    return DefineRequest(**{"key": "regulars", "name": {"en": "Regulars"}, "definition": definition, **more})  # type: ignore[arg-type]


@pytest.fixture
def state(tmp_path: Path) -> FeatureState:
    found = FeatureState(tmp_path)
    for at in range(4):
        found.now_us = NOW_US - (3 - at) * 10 * DAY_US
        found.consume(records(5, members=40)[at * 100 : (at + 1) * 100])
        found.sweep()
    return found


def test_a_preview_of_a_standing_definition_finds_exactly_its_members(state: FeatureState) -> None:
    seen = 0
    for segment in SEGMENTS.without_scores:
        if segment.spec.family in EXCLUSIVE_FAMILIES:
            continue
        answer = previewing(state).preview(PreviewRequest(definition=segment.spec.predicate, limit=100))
        assert answer.customer_ids == inside(state, segment.spec.key)
        own = next(row for row in answer.overlaps if row.key == segment.spec.key)
        assert own.size == own.both == answer.size == len(answer.customer_ids)
        assert (answer.complete, answer.estimated_size) == (True, answer.size)
        seen += answer.size
    assert seen > 0


def test_a_preview_counts_the_overlap_with_every_segment_and_pages_by_customer(state: FeatureState) -> None:
    whole = previewing(state).preview(PreviewRequest(definition="", limit=100))
    assert whole.customer_ids == state.customers()
    assert whole.size == whole.population == len(state.customers())
    assert {row.key: row.both for row in whole.overlaps} == {row.key: row.size for row in whole.overlaps}
    pages, after, more = [], None, True
    while more:
        page = previewing(state).preview(PreviewRequest(definition="", after=after, limit=4))
        assert page.size == whole.size
        pages.append(page.customer_ids)
        after, more = page.customer_ids[-1], page.has_next
    assert [one for page in pages for one in page] == whole.customer_ids
    assert len(pages[0]) == 4


def test_a_preview_that_runs_out_of_time_says_how_far_it_came(
    state: FeatureState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vigie_features.previewing.PAGE", 3)
    answer = previewing(state, 0.0, 1.0, 6.0).preview(PreviewRequest(definition="tenure_days >= 0", limit=1))
    total = len(state.customers())
    assert (answer.examined, answer.size, answer.population, answer.complete) == (6, 6, total, False)
    assert answer.estimated_size == total


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("login_cont_30d > 1", "at character 1: nothing is called 'login_cont_30d'; did you mean login_count_30d"),
        ('churn.closure.band == "HIGH"', "evaluated by scoring"),
        ('{"type":"comparison","subject":"login_count_30d"}', "the tree is no predicate"),
    ],
)
def test_a_wrong_definition_is_refused_by_preview_and_define_alike(
    state: FeatureState, definition: str, words: str
) -> None:
    for refused in (
        lambda: previewing(state).preview(PreviewRequest(definition=definition)),
        lambda: defining(state).define(asked(definition)),
    ):
        with pytest.raises(InvalidInput, match=words.replace("?", "[?]")):
            refused()


def test_a_defined_segment_begins_with_an_enter_log_of_those_inside(state: FeatureState) -> None:
    before = len(moves(state))
    answer = defining(state).define(asked())
    assert (answer.changed, answer.segment.version, answer.segment.size, answer.segment.evaluating) == (
        True,
        1,
        0,
        True,
    )
    walk(state)
    entered = moves(state)[before:]
    expected = previewing(state).preview(PreviewRequest(definition="login_count_30d >= 2", limit=100))
    assert [move.customer_id for move in entered] == expected.customer_ids == inside(state, "regulars")
    assert {(move.key, move.version, move.entered, move.at_us) for move in entered} == {
        ("regulars", 1, True, state.now_us)
    }
    assert answer.estimated_size == expected.size == len(entered) > 0
    row = next(row for row in reading(state).segments().segments if row.key == "regulars")
    assert (row.size, row.evaluating, row.because) == (len(entered), False, {"en": "login_count_30d >= 2"})


def test_defining_again_changes_nothing_and_another_definition_is_the_next_version(state: FeatureState) -> None:
    commands = defining(state)
    commands.define(asked())
    walk(state)
    count = len(moves(state))
    again = commands.define(asked("  login_count_30d>=2 ", expected_version=0))
    walk(state)
    assert (again.changed, again.segment.version, len(moves(state))) == (False, 1, count)

    members = inside(state, "regulars")
    changed = commands.define(asked("login_count_30d >= 1", expected_version=1))
    walk(state)
    assert (changed.changed, changed.segment.version) == (True, 2)
    after = moves(state)[count:]
    assert {move.customer_id for move in after if not move.entered} == set(members)
    assert {(move.version, move.entered) for move in after} == {(1, False), (2, True)}
    row = next(row for row in reading(state).segments().segments if row.key == "regulars")
    assert [(one.version, one.definition, one.made_by) for one in row.versions] == [
        (2, "login_count_30d >= 1", "api"),
        (1, "login_count_30d >= 2", "api"),
    ]
    assert row.size == len(inside(state, "regulars"))
    with pytest.raises(Conflict, match="is at version 2, not 1"):
        commands.define(asked("login_count_30d >= 3", expected_version=1))


def test_other_texts_are_no_new_version(state: FeatureState) -> None:
    defining(state).define(asked(because={"en": "Often here"}))
    renamed = defining(state).define(asked(name={"fr": "Habitués"}))
    assert (renamed.changed, renamed.segment.version, renamed.segment.name) == (
        True,
        1,
        {"en": "Regulars", "fr": "Habitués"},
    )
    assert renamed.segment.because == {"en": "Often here"}


def test_a_retired_segment_is_left_by_everybody_and_keeps_its_history(state: FeatureState) -> None:
    commands = defining(state)
    commands.define(asked())
    walk(state)
    members, count = inside(state, "regulars"), len(moves(state))
    assert [commands.retire(RetireRequest(key="regulars")).changed for _ in range(2)] == [True, False]
    walk(state)
    assert [(move.customer_id, move.entered) for move in moves(state)[count:]] == [(one, False) for one in members]
    with pytest.raises(NotFound):
        inside(state, "regulars")
    assert commands.define(asked()).segment.version == 2


def test_what_stands_in_the_file_is_changed_or_retired_with_its_place_in_mind(state: FeatureState) -> None:
    commands = defining(state)
    with pytest.raises(InvalidInput, match="take it out there"):
        commands.retire(RetireRequest(key="seniors"))
    with pytest.raises(InvalidInput, match=r"declare a new one in segments\.toml"):
        commands.define(asked(family="life_cycle"))
    with pytest.raises(InvalidInput, match=r"stand in segments\.toml"):
        commands.define(asked('age_band == "65+"', key="seniors", name={"en": "Old"}))
    with pytest.raises(InvalidInput, match="evaluated by scoring"):
        commands.define(asked(key="at_risk"))
    with pytest.raises(InvalidInput, match="is no key"):
        commands.define(asked(key="No key"))
    with pytest.raises(NotFound, match="there is no segment 'nobody'"):
        commands.retire(RetireRequest(key="nobody"))
    changed = commands.define(asked('age_band in ("50-64", "65+")', key="seniors", name={"en": "Seniors"}))
    walk(state)
    assert (changed.segment.version, changed.segment.family) == (2, "demographic")
    own = previewing(state).preview(PreviewRequest(definition='age_band in ("50-64", "65+")', limit=100))
    assert inside(state, "seniors") == own.customer_ids


def test_a_restart_keeps_what_was_defined_and_a_kill_in_the_walk_goes_on(state: FeatureState, tmp_path: Path) -> None:
    defining(state).define(asked())
    state.walking.step()
    again = FeatureState(tmp_path)
    again.now_us = state.now_us
    with again.store.snapshot() as snapshot:
        assert snapshot.setting(ASSESS_AFTER)
    while again.walking.step():
        pass
    assert (
        inside(again, "regulars")
        == previewing(again).preview(PreviewRequest(definition="login_count_30d >= 2", limit=100)).customer_ids
    )


def test_a_file_that_changes_a_version_is_refused_and_a_higher_one_moves_its_members(
    state: FeatureState, tmp_path: Path
) -> None:
    def edited(version: int) -> SegmentTable:
        specs = [segment.spec for segment in SEGMENTS.segments]
        changed = {"seniors": {"predicate": 'age_band in ("50-64", "65+")', "version": version}}
        return SegmentTable([replace(spec, **changed.get(spec.key, {})) for spec in specs], SEGMENTS.vocabulary)

    with pytest.raises(InvalidInput, match=r"set version = 2 in segments\.toml"):
        FeatureState(tmp_path, declared=edited(1))
    members = inside(state, "seniors")
    again = FeatureState(tmp_path, declared=edited(2))
    again.now_us = state.now_us
    while again.walking.step():
        pass
    left = {
        move.customer_id for move in moves(again) if (move.key, move.version, move.entered) == ("seniors", 1, False)
    }
    assert left >= set(members) != set()
    standing = reading(again).memberships(MembershipsRequest(customer_ids=members)).memberships
    assert {row.version for row in standing if row.key == "seniors"} == {2}


def test_a_customers_history_is_its_log_newest_first_and_pages_by_number(state: FeatureState) -> None:
    said = Counter(move.customer_id for move in moves(state))
    customer_id, count = said.most_common(1)[0]
    expected = [
        (number, move.key, move.version, move.entered, move.at_us)
        for number, move in enumerate(moves(state), start=1)
        if move.customer_id == customer_id
    ][::-1]
    found, before = [], None
    while len(found) < count:
        page = reading(state).segment_history(HistoryRequest(customer_ids=[customer_id], before=before, limit=3)).moves
        found += [(one.number, one.key, one.version, one.entered, one.at_us) for one in page]
        before = page[-1].number
    assert found == expected
    both = reading(state).segment_history(HistoryRequest(customer_ids=["nobody", customer_id, "m00"], limit=2)).moves
    assert [one.customer_id for one in both] == [customer_id] * 2 + (["m00"] * 2 if customer_id != "m00" else [])


def test_an_index_that_is_missing_is_made_from_the_log(state: FeatureState) -> None:
    dump = "SELECT * FROM segment_moves ORDER BY number"
    with state.store.snapshot() as snapshot:
        before = snapshot.connection.exec_driver_sql(dump).fetchall()
    with state.store.writing() as tx:
        tx.connection.exec_driver_sql("DELETE FROM segment_moves WHERE number > 7")
    state.store.create()
    with state.store.snapshot() as snapshot:
        assert snapshot.connection.exec_driver_sql(dump).fetchall() == before
    assert len(before) == len(moves(state)) > 7


def naive_standing(log: list[SegmentMoved], at_us: int) -> dict[str, str | None]:
    """By replaying the log record by record."""
    found: dict[str, str | None] = {}
    for move in log:
        if move.key in STAGES and move.at_us <= at_us:
            found[move.customer_id] = move.key if move.entered else None
    return found


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_the_migration_matrix_is_a_naive_recount_of_the_log(tmp_path: Path, seed: int) -> None:
    state, found = FeatureState(tmp_path), records(seed)
    for at in range(8):
        state.now_us = NOW_US + at * 12 * DAY_US
        state.consume(found[at * 50 : (at + 1) * 50])
        state.sweep()
    log = moves(state)
    instants = sorted({START_US, NOW_US - 1, *(move.at_us for move in log), state.now_us})
    seen: Counter[tuple[str | None, str | None]] = Counter()
    for first, second in [*pairwise(instants), (instants[0], instants[-1]), (instants[1], instants[-1])]:
        earlier, later = naive_standing(log, first), naive_standing(log, second)
        pairs = Counter((earlier.get(one), later.get(one)) for one in later)
        pairs.pop((None, None), None)
        answer = reading(state).migration(MigrationRequest(family="life_cycle", from_us=first, to_us=second))
        assert {(cell.from_key, cell.to_key): cell.customers for cell in answer.cells} == dict(pairs)
        seen.update(pairs)
    assert set(answer.keys) == STAGES
    assert len(seen) >= 4


def test_a_migration_needs_an_exclusive_family_and_two_instants_in_order(state: FeatureState) -> None:
    with pytest.raises(InvalidInput, match="name one of life_cycle, support_model, value_tier"):
        reading(state).migration(MigrationRequest(family="behavioural", from_us=0, to_us=1))
    for first, second in ((2, 2), (START_US, state.now_us + 1)):
        with pytest.raises(InvalidInput, match="before the second"):
            reading(state).migration(MigrationRequest(family="life_cycle", from_us=first, to_us=second))
