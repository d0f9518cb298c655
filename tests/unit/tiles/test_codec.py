"""Blobs: what goes in comes out, and damage is noticed."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vigie_contracts.errors import IncompatibleData
from vigie_tiles.codec import States, decode, decode_attributes, encode, encode_attributes, newest_us

HASH = 0x0123_4567_89AB_CDEF
CELLS = st.dictionaries(st.integers(0, 2**22 - 1), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2000), max_size=30)
ATTRIBUTES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2**60), st.integers(0, 2**60), st.text(), st.text(), st.text()),
    max_size=3,
    unique_by=lambda row: row[0],
)


def states(cells: list[dict[int, int]], attributes: list[bytes], newest: list[int]) -> States:
    rows = [(member, code, held[code]) for member, held in enumerate(cells) for code in sorted(held)]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return States(columns[:, 0], columns[:, 1], columns[:, 2], np.array(newest, dtype=np.int64), attributes)


@given(st.lists(st.tuples(CELLS, ATTRIBUTES, st.integers(-(2**62), 2**62)), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_blobs_hold_what_was_encoded_alone_and_together(members: list[tuple[dict[int, int], list, int]]) -> None:
    sections = [encode_attributes(attributes) for _, attributes, _ in members]
    wanted = states([cells for cells, _, _ in members], sections, [newest for _, _, newest in members])
    blobs = encode(wanted, HASH)
    found = decode(blobs, HASH)
    for name in ("member", "code", "value", "newest"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist()
    assert found.attributes == sections
    assert [newest_us(blob) for blob in blobs] == wanted.newest.tolist()
    for number, blob in enumerate(blobs):
        assert decode([blob], HASH).value.tolist() == wanted.value[wanted.member == number].tolist()
        assert decode_attributes(sections[number]) == sorted(members[number][1], key=lambda row: row[0])


def test_the_bytes_of_a_small_state_are_written_down() -> None:
    state = states([{3 << 9 | 7: 5, 4 << 9: 2000}], [b""], [99])
    wanted = struct.pack("<2sHIQqII", b"V2", 2, 2, HASH, 99, 1, 0)
    wanted += struct.pack("<q", 2000) + struct.pack("<HHHH", 3, 1, 4, 1) + struct.pack("<HH", 7 << 7 | 5, 127)
    assert encode(state, HASH) == [wanted]


def format_1(cells: dict[int, int], section: bytes, newest: int, layout_hash: int = HASH) -> bytes:
    """As the version before wrote it."""
    wide = [held for _, held in sorted(cells.items()) if not 0 <= held < 1023]
    words = [code << 10 | (held if 0 <= held < 1023 else 1023) for code, held in sorted(cells.items())]
    blob = struct.pack("<4sIQqII", b"VGT1", len(cells), layout_hash, newest, len(wide), len(section))
    blob += struct.pack(f"<{len(wide)}q", *wide) + struct.pack(f"<{len(words)}I", *words)
    return blob + bytes(-len(blob) % 8) + section + bytes(-len(section) % 8)


@given(CELLS, ATTRIBUTES, st.integers(-(2**62), 2**62))
@settings(max_examples=60, deadline=None)
def test_format_1_is_read_alone_and_among_newer_ones(cells: dict[int, int], attributes: list, newest: int) -> None:
    section = encode_attributes(attributes)
    wanted = states([cells], [section], [newest])
    (new,), old = encode(wanted, HASH), format_1(cells, section, newest)
    assert newest_us(old) == newest
    for blobs in ([old], [new, old], [old, old, new]):
        found = decode(blobs, HASH)
        for member in range(len(blobs)):
            mine = found.member == member
            assert found.code[mine].tolist() == wanted.code.tolist()
            assert found.value[mine].tolist() == wanted.value.tolist()
        assert found.newest.tolist() == [newest] * len(blobs)
        assert found.attributes == [section] * len(blobs)


@pytest.mark.parametrize(
    ("old", "said"),
    [
        (format_1({1: 1}, b"", 5)[:24], "cut short"),
        (format_1({1: 1}, b"[]", 5)[:-8], "damaged"),
        (format_1({1: 1}, b"", 5, HASH + 1), "the feature table or the time zone changed"),
    ],
)
def test_damage_of_format_1_is_said_too(old: bytes, said: str) -> None:
    with pytest.raises(IncompatibleData, match=said):
        decode([old], HASH)


def test_no_blobs_are_no_cells() -> None:
    assert decode([], HASH).code.tolist() == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda blob: b"", "cut short"),
        (lambda blob: blob[:24], "cut short"),
        (lambda blob: blob[:-3], "cut short"),
        (lambda blob: blob[:-8], "cut short"),
        (lambda blob: blob + b"\0" * 8, "damaged"),
        (lambda blob: b"V3" + blob[2:], "not tiles of format 1 or 2"),
        (lambda blob: blob[:8] + b"\1" + blob[9:], "the feature table or the time zone changed"),
        (lambda blob: blob[:15] + b"\2" + blob[16:], "the feature table or the time zone changed"),
        (lambda blob: blob[:4] + b"\x7f" + blob[5:], "cut short"),
        (lambda blob: blob[:42] + b"\x09" + blob[43:], "damaged"),
        (lambda blob: blob[:44] + b"\xff" + blob[45:], "damaged"),
    ],
)
def test_damage_and_other_layouts_are_said_with_what_to_do(damage, said: str) -> None:
    (blob,) = encode(states([{1: 1, 2: 5000, 3: 3}], [b"[]"], [5]), HASH)
    with pytest.raises(IncompatibleData, match=f"{said}.*vigie replay tiles"):
        decode([blob, damage(blob)], HASH)
    with pytest.raises(IncompatibleData, match=f"{said}.*vigie replay tiles"):
        decode([damage(blob)], HASH)
