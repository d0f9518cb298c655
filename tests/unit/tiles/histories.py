"""Generated logs of a few members, the archive as features writes it, and the three engines on them."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from vigie_contracts.events import Event, LogRecord, MapChanged, MapMove, Position, encode_record
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.instants import DAY_US, HOUR_US, MINUTE_US, parse_instant
from vigie_features.archive import Archive
from vigie_kit.log import Entry
from vigie_tiles import kernel, oracle
from vigie_tiles.batch import Batch
from vigie_tiles.layout import Layout
from vigie_tiles.local_days import local_days

from tests.unit.tiles.tile_world import feature

MEMBERS = ("m0", "m1", "m2", "m3")
SILENT = "quiet"
ZONES = {
    "UTC": "2026-01-05T00:00:00Z",
    "Europe/Paris": "2026-03-29T00:00:00Z",  # clocks go forward on that day
    "America/Sao_Paulo": "2018-11-04T00:00:00Z",  # midnight was skipped on that day
    "Asia/Kolkata": "2026-01-05T00:00:00Z",  # half an hour off the UTC hours
    "America/New_York": "2026-11-01T00:00:00Z",  # a day of 25 hours
    "America/St_Johns": "2010-11-07T02:31:00Z",  # a minute after midnight it was 23:01 again
}
NAMES = (
    "app.logged_in",
    "card.used",
    "transfer.made",
    "savings_goal.set",
    "message.sent",
    "message.opened",
    "offer.shown",
    "offer.declined",
    "notification_setting.changed",
    "account.opened",
    "help.viewed",
    "ticket.resolved",
    "not.catalogued",
)
PROPERTIES: tuple[dict[str, Any], ...] = (
    {},
    {"direction": "in"},
    {"direction": "out"},
    {"enabled": False},
    {"enabled": "false"},
    {"enabled": 0},
    {"direction": None},
    {"enabled": True, "direction": "in"},
)
TRAITS: tuple[dict[str, Any], ...] = (
    {"age_band": "25-34"},
    {"age_band": None},
    {"age_band": 25},
    {"region": "north", "income_band": "high"},
    {"region": True},
    {"digital_affinity": "low", "age_band": "65+"},
    {"locale": "fr"},
)
DISTANCES_DAYS = (0, 1, 2, 7, 14, 30, 60, 90, 91, 92, 180, 181, 400, 3700)

HABITS = (
    *(feature(f"gap_{days}", "longest_gap", events=NAMES[:2], window_days=days) for days in (1, 7, 30, 90)),
    *(feature(f"baseline_{days}", "baseline", events=NAMES[:4], window_days=days) for days in (1, 7, 30)),
    *(
        row
        for days in (30, 90)
        for row in (
            feature(f"max_{days}", "max", events=NAMES[1:3], window_days=days, value_property="amount"),
            feature(f"weekday_{days}", "weekday", events=NAMES[:4], window_days=days),
            feature(f"weekend_{days}", "weekend_share", events=NAMES[:4], window_days=days, zero_over_zero=0),
        )
    ),
    feature("max_in", "max", events=NAMES[:4], window_days=90, value_property="amount", where={"direction": "in"}),
    *(feature(f"hour_{days}", "hour", events=NAMES[:6], window_days=days) for days in (1, 7)),
    *(feature(f"nth_{number}", "nth", events=NAMES[:4], nth=number) for number in (2, 3, 5)),
    feature("nth_in", "nth", events=NAMES[:6], nth=2, where={"direction": "in"}),
    feature("last_amount", "last", events=NAMES[1:4], value_property="amount"),
    feature("last_in", "last", events=NAMES[:6], value_property="amount", where={"direction": "in"}),
)
"""Every window and form of the measures of which the shipped table has only some."""

Row = list[int | None]


class Label(NamedTuple):
    customer_id: str
    t_us: int


class History(NamedTuple):
    """A log with the instants at which it is asked, in one time zone."""

    time_zone: str
    log: tuple[tuple[Position, LogRecord], ...]
    labels: tuple[Label, ...]


@st.composite
def histories(draw: st.DrawFn, zones: Sequence[str] = tuple(ZONES)) -> History:
    """Late, reordered and simultaneous events on and around the edges of windows; merges and their undoing; silence."""
    zone = draw(st.sampled_from(zones))
    anchor = parse_instant(ZONES[zone]) + draw(st.integers(-30, 30)) * HOUR_US // 2
    instants = draw(st.lists(_instants(anchor), min_size=1, max_size=30))
    events = [draw(_events(at)) for at in instants]
    records: list[LogRecord] = [*events, *draw(_moves(anchor))]
    records.sort(key=lambda record: record.known_at_us)
    times = [anchor, *instants, *(event.known_at_us for event in events)]
    label = st.builds(Label, st.sampled_from((*MEMBERS, SILENT)), _near(times))
    labels = draw(st.lists(label, min_size=1, max_size=12))
    return History(zone, tuple((Position(0, row + 1), record) for row, record in enumerate(records)), tuple(labels))


def dense(zone: str, rnd: random.Random, events: int, labels: int) -> History:
    """A history without chance left out: everything happens and is asked on an edge, or a microsecond beside it."""
    anchor = parse_instant(ZONES[zone]) + rnd.choice((0, 9, 23)) * HOUR_US
    days = local_days(zone)
    today = days.day(np.array([anchor]))
    midnights = [int(days.midnight(today - back)[0]) for back in (0, 1, 2, 7, 14, 30, 31, 60, 61, 90, 91, 180)]
    edges = [*midnights, *(anchor - hours * HOUR_US for hours in (0, 1, 24, 48, 25, 168, 336, 5, 100))]

    def near() -> int:
        return rnd.choice(edges) + rnd.choice((0, 0, 1, -1, HOUR_US // 2, -HOUR_US, 5 * HOUR_US))

    made: list[LogRecord] = [_dense_event(rnd, near(), number) for number in range(events)]
    for member in MEMBERS[1:3]:
        merged = anchor - rnd.choice((0, 1, 30)) * DAY_US
        made.append(MapChanged(moves=[MapMove(member, member, "m0")], known_at_us=merged, because="test"))
    made.sort(key=lambda record: record.known_at_us)
    stamps = [at for record in made if isinstance(record, Event) for at in (record.effective_at_us, record.known_at_us)]
    asked = [
        Label(
            rnd.choice(("m0", "m0", "m0", "m1", "m3")),
            rnd.choice((anchor, near(), rnd.choice(stamps), anchor + DAY_US)),
        )
        for _ in range(labels)
    ]
    return History(zone, tuple((Position(0, row + 1), record) for row, record in enumerate(made)), tuple(asked))


def _dense_event(rnd: random.Random, at_us: int, number: int) -> Event:
    known = at_us + rnd.choice((0, 0, 0, 1, HOUR_US, 3 * DAY_US))
    identify = rnd.random() < 0.12
    name = "identify" if identify else rnd.choice((*NAMES[:6], *NAMES[:6], *NAMES))
    return Event(
        member_id=rnd.choice(("m0", "m0", "m1", "m2", "m3")),
        event_id=f"e{number}",
        source_id=rnd.choice(("app", "crm")),
        kind="identify" if identify else "track",
        name=name,
        catalogued=not identify and name != "not.catalogued" and rnd.random() > 0.05,
        received_at_us=max(known, at_us),
        known_at_us=known,
        timestamp_us=at_us,
        effective_at_us=at_us,
        properties={} if identify else rnd.choice(PROPERTIES),
        measures={"amount": rnd.randint(-5_000, 5_000)} if not identify and rnd.random() < 0.7 else {},
        traits=rnd.choice(TRAITS) if identify else {},
    )


def _instants(anchor: int) -> st.SearchStrategy[int]:
    """Around a whole number of days or hours before the anchor, on the edge or a step beside it."""
    steps = st.sampled_from((0, 0, 1, -1, MINUTE_US, HOUR_US, -HOUR_US, 5 * HOUR_US))
    days, hours = st.sampled_from(DISTANCES_DAYS), st.integers(0, 30)
    return st.builds(lambda day, hour, step: anchor - day * DAY_US - hour * HOUR_US + step, days, hours, steps)


def _near(times: Sequence[int]) -> st.SearchStrategy[int]:
    steps = st.sampled_from((0, 1, HOUR_US, DAY_US, 2 * DAY_US, 7 * DAY_US, 30 * DAY_US, 91 * DAY_US, 400 * DAY_US))
    return st.builds(int.__add__, st.sampled_from(times), steps)


@st.composite
def _events(draw: st.DrawFn, at_us: int) -> Event:
    known = at_us + draw(st.sampled_from((0, 0, 0, 1, HOUR_US, 3 * DAY_US, 40 * DAY_US)))
    identify = draw(st.integers(0, 4)) == 0
    name = "identify" if identify else draw(st.sampled_from(NAMES))
    measured = not identify and draw(st.booleans())
    return Event(
        member_id=draw(st.sampled_from(MEMBERS)),
        event_id=f"e{draw(st.integers(0, 10**9))}",
        source_id=draw(st.sampled_from(("app", "crm"))),
        kind="identify" if identify else "track",
        name=name,
        catalogued=not identify and name != "not.catalogued",
        received_at_us=max(known, at_us),
        known_at_us=known,
        timestamp_us=at_us,
        effective_at_us=at_us,
        properties={} if identify else draw(st.sampled_from(PROPERTIES)),
        measures={"amount": draw(st.integers(-(2**53) + 1, 2**53 - 1))} if measured else {},
        traits=draw(st.sampled_from(TRAITS)) if identify else {},
    )


@st.composite
def _moves(draw: st.DrawFn, anchor: int) -> list[MapChanged]:
    """Merges into m0 and, for some, their undoing later."""
    changes: list[MapChanged] = []
    for member in draw(st.lists(st.sampled_from(MEMBERS[1:]), unique=True, max_size=3)):
        merged = anchor - draw(st.sampled_from((0, 1, 30, 100))) * DAY_US
        changes.append(MapChanged(moves=[MapMove(member, member, "m0")], known_at_us=merged, because="test"))
        if draw(st.booleans()):
            undone = merged + draw(st.sampled_from((0, 1, DAY_US)))
            changes.append(MapChanged(moves=[MapMove(member, "m0", member)], known_at_us=undone, because="undone"))
    return changes


def write_archive(folder: Path, log: Iterable[tuple[Position, LogRecord]]) -> Path:
    """The archive of a log as the features service writes it, in two files a kind where there is enough."""
    archive = Archive(folder)
    archive.open()
    entries = [Entry(position, encode_record(record)) for position, record in log]
    half = len(entries) // 2
    for part in (entries[:half], entries[half:]):
        if part:
            archive.append(part)
    return folder


def label_table(labels: Sequence[Label], positions: Sequence[int | None] | None = None) -> pa.Table:
    columns = {
        "customer_id": pa.array([label.customer_id for label in labels], pa.string()),
        "t_us": pa.array([label.t_us for label in labels], pa.int64()),
    }
    return pa.table(columns if positions is None else columns | {"pos": pa.array(positions, pa.int64())})


def rows_of(vectors: pa.Table) -> list[Row]:
    """A list a label row, in column order."""
    columns = [column.to_pylist() for column in vectors.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def by_batch(batch: Batch, history: History, positions: Sequence[int | None] | None = None) -> list[Row]:
    return rows_of(batch.vectors(label_table(history.labels, positions)))


def by_oracle(
    features: Sequence[FeatureSpec], history: History, positions: Sequence[int | None] | None = None
) -> list[Row]:
    known = positions or [None] * len(history.labels)
    return [
        [oracle.value(row, history.log, label.customer_id, label.t_us, history.time_zone, pos) for row in features]
        for label, pos in zip(history.labels, known, strict=True)
    ]


def by_kernel(
    layout: Layout,
    history: History,
    positions: Sequence[int | None] | None = None,
    shuffle: Callable[[list[Event]], None] = random.Random(7).shuffle,
) -> list[Row]:
    """Fold what each label may see, in another order and in two steps, and finalise it."""
    known = positions or [None] * len(history.labels)
    return [_folded(layout, history, label, pos, shuffle) for label, pos in zip(history.labels, known, strict=True)]


def online(history: History) -> History:
    """The labels at which tiles can be read: after everything that is visible was known (t = newest + 1 µs online)."""
    events = [record for _, record in history.log if isinstance(record, Event)]
    known = {event.known_at_us for event in events if event.effective_at_us < event.known_at_us}
    return history._replace(labels=tuple(label for label in history.labels if label.t_us not in known))


def _folded(
    layout: Layout, history: History, label: Label, pos: int | None, shuffle: Callable[[list[Event]], None]
) -> Row:
    applied = [pair for pair in history.log if pos is None or pair[0].number <= pos]
    members = sorted(oracle.members_at(applied, label.customer_id, label.t_us))
    events = [record for _, record in applied if isinstance(record, Event) and _visible(record, label.t_us)]
    shuffle(events)
    blobs: dict[str, bytes | None] = {}
    half = len(events) // 2
    for part in (events[:half], events[half:]):
        touched = {event.member_id: blobs.get(event.member_id) for event in part}
        blobs |= {member: folded.blob for member, folded in kernel.fold(layout, touched, part).items()}
    found = [blob for member in members if (blob := blobs.get(member)) is not None]
    matrix = kernel.finalise(layout, layout.table.features, [found], label.t_us)
    pairs = zip(matrix.values[0].tolist(), matrix.valid[0].tolist(), strict=True)
    return [value if valid else None for value, valid in pairs]


def _visible(event: Event, t_us: int) -> bool:
    return event.known_at_us <= t_us and event.effective_at_us < t_us


def differences(
    table: FeatureTable, history: History, left: Sequence[Row], right: Sequence[Row]
) -> list[tuple[Label, str, int | None, int | None]]:
    """(label, feature, left's value, right's value) wherever two engines differ."""
    assert len(left) == len(right) == len(history.labels)
    return [
        (label, feature.key, one, other)
        for label, ones, others in zip(history.labels, left, right, strict=True)
        for feature, one, other in zip(table.features, ones, others, strict=True)
        if one != other
    ]


def perturbed(event: Event, **changes: Any) -> Event:
    """The event with other contents."""
    return msgspec.structs.replace(event, **changes)
