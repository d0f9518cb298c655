"""The fold: the same events give the same bytes, in whatever order and batches; nothing that can be seen is dropped."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.errors import IncompatibleData, InvalidInput
from vigie_contracts.events import Event
from vigie_contracts.features import Component
from vigie_tiles import kernel
from vigie_tiles.codec import decode, decode_attributes
from vigie_tiles.layout import Kind, Layout

from tests.unit.tiles.tile_world import DAY, HOUR, NOON, blob_of, event, feature, identify, table

NAMES = ("a", "b", "c")
ZONES = ("UTC", "Europe/Paris", "America/Sao_Paulo", "Asia/Kathmandu")
TABLE = table(
    *(
        row
        for days in (1, 7, 30, 90)
        for row in (
            feature(f"count_{days}", "count", events=("a", "b"), window_days=days),
            feature(f"sum_{days}", "sum", events=("a",), value_property="amount", where={"k": "x"}, window_days=days),
            feature(f"trend_{days}", "trend", events=NAMES, window_days=days),
            feature(f"rate_{days}", "rate", events=("a",), where={"k": "x"}, denominator=("b",), window_days=days),
            feature(f"days_{days}", "active_days", events=NAMES, window_days=days),
            feature(f"streak_{days}", "streak", events=("b", "c"), window_days=days),
            feature(f"breadth_{days}", "breadth", events=NAMES, window_days=days),
            feature(f"gap_{days}", "longest_gap", events=("a", "b"), window_days=days),
        )
    ),
    *(feature(f"baseline_{days}", "baseline", events=("a", "c"), window_days=days) for days in (1, 7, 30)),
    *(
        row
        for days in (30, 90)
        for row in (
            feature(f"max_{days}", "max", events=("a", "b"), value_property="amount", window_days=days),
            feature(f"weekday_{days}", "weekday", events=NAMES, window_days=days),
            feature(f"weekend_{days}", "weekend_share", events=("b",), window_days=days),
        )
    ),
    feature("hour_1", "hour", events=NAMES, window_days=1),
    feature("hour_7", "hour", events=("a",), where={"k": "x"}, window_days=7),
    *(feature(f"nth_{number}", "nth", events=("a", "b"), nth=number) for number in (2, 5)),
    feature("nth_x", "nth", events=("b",), where={"k": "x"}, nth=3),
    feature("last", "last", events=("a", "b"), value_property="amount"),
    feature("last_x", "last", events=NAMES, where={"k": "x"}, value_property="amount"),
    feature("recency", "recency", events=("a", "b")),
    feature("tenure", "tenure", events=NAMES),
    feature("attribute", "attribute", attribute="x"),
    feature(
        "engagement",
        "engagement",
        window_days=7,
        components=(
            Component(events=("a",), weight=70, cap=3),
            Component(events=("c",), measure="active_days", weight=30, cap=4),
        ),
    ),
)
LAYOUTS = {zone: Layout(TABLE, zone) for zone in ZONES}


@st.composite
def histories(draw: st.DrawFn, members: Sequence[str] = ("m1",)) -> list[Event]:
    """Events over a drawn span, crowded on hour and day edges, some known late."""
    span = draw(st.sampled_from([2 * DAY, 20 * DAY, 250 * DAY, 3000 * DAY]))
    count = draw(st.integers(0, 25))
    source = random.Random(draw(st.integers(0, 2**32)))
    return [_event(source, members, number, span) for number in range(count)]


def _event(source: random.Random, members: Sequence[str], number: int, span: int) -> Event:
    at = NOON - source.randrange(span)
    if source.random() < 0.5:
        at = at // HOUR * HOUR + source.choice((-1, 0, 1, HOUR // 2))
    known = max(at, NOON - source.randrange(span)) if source.random() < 0.3 else at
    stated = source.random() < 0.2
    return event(
        at,
        "identify" if stated else source.choice((*NAMES, "unheard")),
        event_id=f"e{number}",
        member_id=source.choice(members),
        kind="identify" if stated else "track",
        catalogued=not stated,
        known_at_us=known,
        properties=source.choice(({}, {"k": "x"}, {"k": 1})),
        measures=source.choice(({}, {"amount": 12}, {"amount": -(2**50)})),
        traits={"x": source.choice((1, 2.5, None, "text", [1]))} if stated else {},
    )


@given(histories(), st.sampled_from(ZONES), st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None)
def test_order_and_batches_do_not_change_a_byte(events: list[Event], zone: str, source: random.Random) -> None:
    layout = LAYOUTS[zone]
    whole = kernel.fold(layout, {"m1": None}, events)
    source.shuffle(events)
    blob: bytes | None = None
    for batch in _split(events, source):
        blob = kernel.fold(layout, {"m1": blob}, batch)["m1"].blob
    assert blob == (whole["m1"].blob if events else None)
    if events:
        assert whole["m1"].newest_us == max(max(row.effective_at_us, row.known_at_us) for row in events)


@given(histories(members=("m1", "m2", "m3")), st.sampled_from(ZONES), st.integers(0, 400 * DAY))
@settings(max_examples=120, deadline=None)
def test_members_joined_at_read_are_the_union_of_their_events(events: list[Event], zone: str, later: int) -> None:
    layout, t = LAYOUTS[zone], NOON + 1 + later
    folded = kernel.fold(layout, {"m1": None, "m2": None, "m3": None}, events)
    single = [event_as_m1(row) for row in events]
    apart = kernel.finalise(layout, TABLE.features, [[row.blob for row in folded.values()]], t)
    together = kernel.finalise(layout, TABLE.features, [[blob_of(layout, single)] if single else []], t)
    assert apart.values.tolist() == together.values.tolist()
    assert apart.valid.tolist() == together.valid.tolist()
    moments = [
        kernel.next_change(layout, [blobs], t).tolist()
        for blobs in ([row.blob for row in folded.values()], [blob_of(layout, single)] if single else [])
    ]
    assert moments[0] == moments[1]


def test_many_members_fold_together_as_each_alone() -> None:
    source = random.Random(7)
    layout = LAYOUTS["Europe/Paris"]
    members = [f"m{number}" for number in range(40)]
    events = [_event(source, members, number, 200 * DAY) for number in range(900)]
    first, second = events[:500], events[500:]
    half = kernel.fold(layout, dict.fromkeys(members), first)
    state = {member: half[member].blob if member in half else None for member in members}
    whole = half | kernel.fold(layout, state, second)
    alone = {
        member: kernel.fold(layout, {member: None}, [row for row in events if row.member_id == member])[member]
        for member in members
    }
    assert whole == alone


def test_cells_that_no_feature_sees_any_more_leave_the_blob() -> None:
    layout = Layout(table(feature("n", "count", events=("a",), window_days=7)), "UTC")
    kept = blob_of(layout, [event(NOON - 7 * DAY, "a"), event(NOON, "a")])
    dropped = blob_of(layout, [event(NOON - 7 * DAY - HOUR, "a"), event(NOON, "a")])
    assert _cells(layout, kept) == [("a", Kind.HOUR, 0, 1), ("a", Kind.HOUR, 168, 1)]
    assert _cells(layout, dropped) == [("a", Kind.HOUR, 0, 1)]
    assert dropped == blob_of(layout, [event(NOON, "a")])


def test_a_blob_holds_one_cell_an_hour_or_day_that_a_feature_needs() -> None:
    layout = Layout(
        table(
            feature("n", "count", events=("a",), window_days=1),
            feature("d", "active_days", events=("a",), window_days=7),
            feature("s", "sum", events=("a",), value_property="amount", window_days=30),
            feature("l", "recency", events=("a",)),
            feature("f", "tenure", events=("a",)),
        ),
        "UTC",
    )
    events = [event(NOON - 2 * HOUR, "a", measures={"amount": 5_000}), event(NOON, "a"), event(NOON - 1, "a")]
    assert _cells(layout, blob_of(layout, events)) == [
        ("a", Kind.HOUR, 0, 2),
        ("a", Kind.HOUR, 2, 1),
        ("a", Kind.DAY, 0, 3),
        ("a", Kind.LAST, 0, NOON),
        ("a", Kind.FIRST, 0, NOON - 2 * HOUR),
        ("a amount", Kind.DAY, 0, 5_000),
    ]
    assert len(blob_of(layout, events)) == 32 + 3 * 8 + 5 * 4 + 6 * 2


def test_the_latest_attribute_is_kept_whatever_came_last() -> None:
    layout = LAYOUTS["UTC"]
    later, earlier = identify(NOON, x=2, unused="y"), identify(NOON - 1, x=[1, 2])
    (attribute,) = _attributes(layout, [later, earlier])
    assert attribute == (0, NOON, NOON, "app", later.event_id, 2)
    (only,) = _attributes(layout, [earlier])
    assert only[5] == []
    assert blob_of(layout, [later, earlier]) == blob_of(layout, [earlier, later])


def test_uncatalogued_and_unneeded_events_only_move_the_newest_instant() -> None:
    layout = LAYOUTS["UTC"]
    folded = kernel.fold(layout, {"m1": None}, [event(NOON, "unheard"), event(NOON - 5, "a", catalogued=False)])
    assert _cells(layout, folded["m1"].blob) == []
    assert folded["m1"].newest_us == NOON


def test_folding_without_the_present_state_is_refused() -> None:
    with pytest.raises(InvalidInput, match="missing: \\['m1'\\]"):
        kernel.fold(LAYOUTS["UTC"], {}, [event(NOON, "a")])
    assert kernel.fold(LAYOUTS["UTC"], {}, []) == {}


def test_folding_into_a_tile_of_another_layout_is_refused() -> None:
    blob = blob_of(LAYOUTS["UTC"], [event(NOON, "a")])
    with pytest.raises(IncompatibleData, match="rebuild the tiles with `vigie replay tiles`"):
        kernel.fold(LAYOUTS["Europe/Paris"], {"m1": blob}, [event(NOON, "a")])


def event_as_m1(row: Event) -> Event:
    return event(
        row.effective_at_us,
        row.name,
        event_id=row.event_id,
        kind=row.kind,
        catalogued=row.catalogued,
        known_at_us=row.known_at_us,
        properties=row.properties,
        measures=row.measures,
        traits=row.traits,
    )


def _split(events: list[Event], source: random.Random) -> list[list[Event]]:
    batches, rest = [], list(events)
    while rest:
        size = source.randint(1, 9)
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


def _cells(layout: Layout, blob: bytes) -> list[tuple[str, Kind, int, int]]:
    states = decode([blob], layout.hash)
    found = []
    for code, value in zip(states.code.tolist(), states.value.tolist(), strict=True):
        slot = layout.slots[code >> 9]
        found.append((f"{'+'.join(slot.atom.names)} {slot.atom.value_property}".strip(), slot.kind, code & 511, value))
    return found


def _attributes(layout: Layout, events: list[Event]) -> list[tuple[object, ...]]:
    return list(decode_attributes(decode([blob_of(layout, events)], layout.hash).attributes[0]))
