"""The layout keeps what declared features need, and its hash says when tiles must be rebuilt."""

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import Component
from vigie_tiles.layout import MAX_SLOTS, Atom, Kind, Layout

from tests.unit.tiles.tile_world import feature, table


def slots(*features) -> list[tuple[Atom, Kind, int]]:
    return [(slot.atom, slot.kind, slot.span) for slot in Layout(table(*features), "UTC").slots]


@pytest.mark.parametrize(
    ("row", "kind", "span"),
    [
        (feature("f", "count", events=("a",), window_days=1), Kind.HOUR, 24),
        (feature("f", "count", events=("a",), window_days=7), Kind.HOUR, 168),
        (feature("f", "trend", events=("a",), window_days=7), Kind.HOUR, 336),
        (feature("f", "breadth", events=("a",), window_days=30), Kind.DAY, 30),
        (feature("f", "trend", events=("a",), window_days=90), Kind.DAY, 180),
        (feature("f", "active_days", events=("a",), window_days=7), Kind.DAY, 7),
        (feature("f", "streak", events=("a",), window_days=1), Kind.DAY, 1),
        (feature("f", "recency", events=("a",)), Kind.LAST, 0),
        (feature("f", "tenure", events=("a",)), Kind.FIRST, 0),
    ],
)
def test_each_measure_keeps_its_kind_of_cell_as_far_as_it_sees(row, kind: Kind, span: int) -> None:
    assert slots(row) == [(Atom(("a",)), kind, span)]


def test_features_share_cells_and_the_longest_reach_counts() -> None:
    rows = [feature(f"f{days}", "count", events=("a", "b"), window_days=days) for days in (1, 7, 30)]
    measures = ("count", "active_days")
    parts = tuple(Component(events=("b",), measure=measure, weight=1, cap=1) for measure in measures)
    engagement = feature("e", "engagement", components=parts, window_days=90)
    assert slots(*rows, engagement) == [
        (Atom(("a",)), Kind.HOUR, 168),
        (Atom(("a",)), Kind.DAY, 30),
        (Atom(("b",)), Kind.HOUR, 168),
        (Atom(("b",)), Kind.DAY, 90),
    ]


def test_first_and_nth_instants_have_one_cell_for_all_names_and_last_ones_are_shared_by_name() -> None:
    rows = [
        feature("l", "recency", events=("b", "a")),
        feature("f", "tenure", events=("a", "b")),
        feature("n", "nth", events=("a", "b"), nth=3),
        feature("o", "recency", events=("a",)),
    ]
    both = Atom(("a", "b"))
    assert slots(*rows) == [
        (Atom(("a",)), Kind.LAST, 0),
        (both, Kind.FIRST, 0),
        (both, Kind.RANK, 2),
        (Atom(("b",)), Kind.LAST, 0),
    ]


def test_filters_and_summed_properties_are_atoms_of_their_own() -> None:
    row = feature("r", "rate", events=("a",), where={"k": "x", "b": "y"}, denominator=("a",), window_days=1)
    summed = feature("s", "sum", events=("a",), value_property="amount", window_days=1)
    filtered = Atom(("a",), (("b", "y"), ("k", "x")))
    assert [slot[0] for slot in slots(row, summed)] == [Atom(("a",)), Atom(("a",), (), "amount"), filtered]


def test_the_hash_follows_what_a_blob_means_and_not_how_features_are_called() -> None:
    seven = feature("f", "count", events=("a",), window_days=7)
    base = Layout(table(seven), "UTC").hash
    shorter = feature("g", "count", events=("a",), window_days=1)
    same = [table(feature("other", "breadth", events=("a",), window_days=7)), table(seven, shorter)]
    assert {Layout(rows, "UTC").hash for rows in same} == {base}
    others = [
        Layout(table(feature("f", "count", events=("b",), window_days=7)), "UTC"),
        Layout(table(feature("f", "trend", events=("a",), window_days=7)), "UTC"),
        Layout(table(seven, feature("x", "attribute", attribute="x")), "UTC"),
        Layout(table(seven), "Europe/Paris"),
        Layout(table(seven), "Europe/Berlin"),
    ]
    assert len({base, *(layout.hash for layout in others)}) == 6
    assert Layout(table(seven), "UTC").hash == base


def test_a_table_that_needs_too_many_cells_is_refused() -> None:
    names = tuple(f"n{number}" for number in range(MAX_SLOTS + 1))
    with pytest.raises(InvalidInput, match="needs 8193 kinds of cells; a blob has room for 8192"):
        Layout(table(feature("f", "count", events=names, window_days=1)), "UTC")


def test_a_window_beyond_the_reach_of_an_age_is_refused() -> None:
    with pytest.raises(InvalidInput, match="further back than 510"):
        Layout(table(feature("f", "count", events=("a",), window_days=600)), "UTC")
