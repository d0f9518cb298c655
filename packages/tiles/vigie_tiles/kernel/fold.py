"""Events into blobs. State is order-free: late, reordered and differently batched events give the same bytes.

A cell whose age, counted from the member's newest instant, exceeds what any feature sees is dropped. The newest
instant only grows, so that dropping on the way equals dropping at the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from vigie_contracts.errors import InvalidInput
from vigie_contracts.events import Event
from vigie_contracts.instants import HOUR_US

from vigie_tiles.codec import Attribute, States, code_of, decode, decode_attributes, encode, encode_attributes
from vigie_tiles.layout import AGE_BITS, MAX_SLOTS, Kind, Layout, Route, accepts
from vigie_tiles.local_days import Ints

_CODE_BITS = 22
_NEVER = -(2**62)
_INSTANTS = np.isin(np.arange(len(Kind)), (Kind.LAST, Kind.FIRST, Kind.RANK))
_GREATEST = np.isin(np.arange(len(Kind)), (Kind.LAST, Kind.PEAK))


class FoldedMember(NamedTuple):
    """A member's new state; `newest_us` is the greatest effective_at or known_at in it."""

    blob: bytes
    newest_us: int


class _Ranks(NamedTuple):
    """Instants that may be among the first few: one row for each; `of` = member << 13 | slot."""

    of: Ints
    instant: Ints


class _Hits(NamedTuple):
    """One row for each route that accepted an event."""

    member: Ints
    route: Ints
    effective: Ints
    value: Ints


def fold(layout: Layout, blobs: Mapping[str, bytes | None], events: Sequence[Event]) -> dict[str, FoldedMember]:
    """New state of every member that has events.

    `blobs` holds each such member's present state, None for a new member: InvalidInput when one is missing, because
    folding without it would lose its history. That no event comes twice is the caller's duty (its log offset).
    """
    names = list(dict.fromkeys(event.member_id for event in events))
    missing = [name for name in names if name not in blobs]
    if missing:
        raise InvalidInput(f"fold needs the present state of every member with events; missing: {missing[:3]}")
    before = _load(layout, [blobs[name] for name in names])
    hits, newest, stated = _route(layout, {name: row for row, name in enumerate(names)}, events)
    newest = np.maximum(before.newest, newest)
    increments, ranks = _increments(layout, hits, newest)
    member, code, value = _merged(layout, _aged(layout, before, newest), increments, ranks)
    attributes = _attributes(before.attributes, stated)
    encoded = encode(States(member, code, value, newest, attributes), layout.hash)
    return {name: FoldedMember(blob, at) for name, blob, at in zip(names, encoded, newest.tolist(), strict=True)}


def _load(layout: Layout, blobs: Sequence[bytes | None]) -> States:
    """Decode, with an empty state in the place of each new member."""
    rows = [row for row, blob in enumerate(blobs) if blob]
    found = decode([blob for blob in blobs if blob], layout.hash)
    newest = np.full(len(blobs), _NEVER, dtype=np.int64)
    newest[rows] = found.newest
    attributes = [b""] * len(blobs)
    for row, section in zip(rows, found.attributes, strict=True):
        attributes[row] = section
    return States(np.array(rows, dtype=np.int64)[found.member], found.code, found.value, newest, attributes)


def _route(
    layout: Layout, rows: Mapping[str, int], events: Sequence[Event]
) -> tuple[_Hits, Ints, dict[int, list[Attribute]]]:
    """Route hits, each member's newest instant in these events, and the attributes that they state."""
    hits: list[tuple[int, int, int, int]] = []
    newest = [_NEVER] * len(rows)
    stated: dict[int, list[Attribute]] = {}
    routes, latest_routes, attribute_index = layout.routes, layout.latest_routes, layout.attribute_index
    for event in events:
        row, effective, known = rows[event.member_id], event.effective_at_us, event.known_at_us
        latest = effective if effective > known else known
        if latest > newest[row]:
            newest[row] = latest
        if event.catalogued and event.name in routes:
            for where, value_property, number in routes[event.name]:
                if where and not accepts(where, event.properties):
                    continue
                value = event.measures.get(value_property) if value_property else 1
                if value is not None:
                    hits.append((row, number, effective, value))
        if event.catalogued and event.name in latest_routes:
            _keep_latest(stated, row, latest_routes[event.name], event)
        if event.traits and event.kind == "identify":
            _state(stated.setdefault(row, []), attribute_index, event)
    table = np.array(hits, dtype=np.int64).reshape(-1, 4)
    return _Hits(*(table[:, column] for column in range(4))), np.array(newest, dtype=np.int64), stated


def _keep_latest(stated: dict[int, list[Attribute]], row: int, routes: Sequence[Route], event: Event) -> None:
    for where, value_property, number in routes:
        value = event.measures.get(value_property)
        if value is not None and accepts(where, event.properties):
            stated.setdefault(row, []).append((number, *event.order_key, value))


def _state(rows: list[Attribute], attribute_index: Mapping[str, int], event: Event) -> None:
    for name in event.traits.keys() & attribute_index.keys():
        rows.append((attribute_index[name], *event.order_key, _scalar(event.traits[name])))


def _scalar(value: Any) -> Any:
    """Lists and objects can be no feature's value; only that something was said is kept."""
    return [] if isinstance(value, list | dict) else value


def _aged(layout: Layout, before: States, newest: Ints) -> States:
    """The old cells with ages counted from the new newest instant, without those that no feature sees any more."""
    if not len(before.code):
        return before
    slot = before.code >> AGE_BITS
    old = np.where(before.newest == _NEVER, newest, before.newest)
    steps = np.zeros((len(Kind), len(newest)), dtype=np.int64)
    steps[Kind.HOUR] = newest // HOUR_US - old // HOUR_US
    steps[Kind.DAY] = steps[Kind.PEAK] = layout.days.day(newest) - layout.days.day(old)
    step = np.take(steps, layout.kinds[slot] * len(newest) + before.member)
    seen = (before.code & ((1 << AGE_BITS) - 1)) + step <= layout.spans[slot]
    code = before.code + step
    if seen.all():
        return States(before.member, code, before.value, newest, before.attributes)
    return States(before.member[seen], code[seen], before.value[seen], newest, before.attributes)


def _increments(layout: Layout, hits: _Hits, newest: Ints) -> tuple[tuple[Ints, Ints], _Ranks]:
    """(sorted keys, values) of the new cells, equal keys already combined; key = member << 22 | code. And the ranks."""
    starts, counts, flat = layout.route_slots
    count = counts[hits.route]
    ends = np.cumsum(count)
    each = np.repeat(np.arange(len(count), dtype=np.int64), count)
    slot = flat[np.repeat(starts[hits.route] - (ends - count), count) + np.arange(len(each))]
    kind, member, effective = layout.kinds[slot], hits.member[each], hits.effective[each]
    ages = np.zeros((len(Kind), len(hits.member)), dtype=np.int64)
    ages[Kind.HOUR] = newest[hits.member] // HOUR_US - hits.effective // HOUR_US
    ages[Kind.DAY] = ages[Kind.PEAK] = layout.days.day(newest)[hits.member] - layout.days.day(hits.effective)
    age = ages[kind, each]
    value = np.where(_INSTANTS[kind], effective, hits.value[each])
    ranked = kind == Kind.RANK
    seen = (age <= layout.spans[slot]) & ~ranked
    key = (member << _CODE_BITS | code_of(slot, age))[seen]
    order = np.argsort(key, kind="stable")
    ranks = _Ranks((member << (_CODE_BITS - AGE_BITS) | slot)[ranked], effective[ranked])
    return _combined(layout, key[order], value[seen][order]), ranks


def _combined(layout: Layout, key: Ints, value: Ints) -> tuple[Ints, Ints]:
    if not len(key):
        return key, value
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    kind = layout.kinds[_slot(key[starts])]
    added = np.add.reduceat(value, starts)
    added = np.where(_GREATEST[kind], np.maximum.reduceat(value, starts), added)
    return key[starts], np.where(kind == Kind.FIRST, np.minimum.reduceat(value, starts), added)


def _merged(layout: Layout, aged: States, increments: tuple[Ints, Ints], ranks: _Ranks) -> tuple[Ints, Ints, Ints]:
    """Old cells and increments as one sorted (member, code, value)."""
    new_key, new_value = increments
    key, value = aged.member << _CODE_BITS | aged.code, aged.value
    place = np.searchsorted(key, new_key)
    known = np.zeros(len(new_key), dtype=bool)
    inside = place < len(key)
    known[inside] = key[place[inside]] == new_key[inside]
    at, kind, add = place[known], layout.kinds[_slot(new_key[known])], new_value[known]
    old = value[at]
    joined = np.where(_GREATEST[kind], np.maximum(old, add), old + add)
    value[at] = np.where(kind == Kind.FIRST, np.minimum(old, add), joined)
    key = np.insert(key, place[~known], new_key[~known])
    value = np.insert(value, place[~known], new_value[~known])
    if len(ranks.of):
        key, value = _ranked(layout, key, value, ranks)
    return key >> _CODE_BITS, key & ((1 << _CODE_BITS) - 1), value


def _ranked(layout: Layout, key: Ints, value: Ints, ranks: _Ranks) -> tuple[Ints, Ints]:
    """The cells with the first few instants of each (member, slot) chosen anew among the old and the new ones."""
    old = layout.kinds[_slot(key)] == Kind.RANK
    of, at = np.concatenate((key[old] >> AGE_BITS, ranks.of)), np.concatenate((value[old], ranks.instant))
    order = np.lexsort((at, of))
    of, at = of[order], at[order]
    rank = np.arange(len(of)) - np.searchsorted(of, of)
    kept = rank <= layout.spans[of & (MAX_SLOTS - 1)]
    chosen = of[kept] << AGE_BITS | rank[kept]
    key, value = key[~old], value[~old]
    place = np.searchsorted(key, chosen)
    return np.insert(key, place, chosen), np.insert(value, place, at[kept])


def _slot(key: Ints) -> Ints:
    return (key & ((1 << _CODE_BITS) - 1)) >> AGE_BITS


def _attributes(sections: Sequence[bytes], stated: Mapping[int, Sequence[Attribute]]) -> list[bytes]:
    """Each member's latest attributes; the greatest (effective_at, known_at, source id, event id) wins."""
    after = list(sections)
    for row, found in stated.items():
        latest: dict[int, Attribute] = {}
        for attribute in (*decode_attributes(sections[row]), *found):
            held = latest.get(attribute[0])
            if held is None or attribute[1:5] > held[1:5]:
                latest[attribute[0]] = attribute
        after[row] = encode_attributes(list(latest.values()))
    return after
