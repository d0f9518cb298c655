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
        assert len(blob) % 8 == 0
        assert decode([blob], HASH).value.tolist() == wanted.value[wanted.member == number].tolist()
        assert decode_attributes(sections[number]) == sorted(members[number][1], key=lambda row: row[0])


def test_the_bytes_of_a_small_state_are_written_down() -> None:
    state = states([{3 << 9 | 7: 5, 4 << 9: 2000}], [b""], [99])
    wanted = struct.pack("<4sIQqII", b"VGT1", 2, HASH, 99, 1, 0)
    wanted += struct.pack("<q", 2000) + struct.pack("<II", (3 << 9 | 7) << 10 | 5, (4 << 9) << 10 | 1023)
    assert encode(state, HASH) == [wanted]


def test_no_blobs_are_no_cells() -> None:
    assert decode([], HASH).code.tolist() == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda blob: b"", "cut short"),
        (lambda blob: blob[:24], "cut short"),
        (lambda blob: blob[:-3], "cut short"),
        (lambda blob: blob[:-8], "damaged"),
        (lambda blob: blob + b"\0" * 8, "damaged"),
        (lambda blob: b"VGT2" + blob[4:], "not tiles of format 1"),
        (lambda blob: blob[:8] + b"\1" + blob[9:], "the feature table or the time zone changed"),
        (lambda blob: blob[:15] + b"\2" + blob[16:], "the feature table or the time zone changed"),
        (lambda blob: blob[:4] + b"\x7f" + blob[5:], "damaged"),
    ],
)
def test_damage_and_other_layouts_are_said_with_what_to_do(damage, said: str) -> None:
    (blob,) = encode(states([{1: 1, 2: 5000, 3: 3}], [b"[]"], [5]), HASH)
    with pytest.raises(IncompatibleData, match=f"{said}.*vigie replay tiles"):
        decode([blob, damage(blob)], HASH)
    with pytest.raises(IncompatibleData, match=f"{said}.*vigie replay tiles"):
        decode([damage(blob)], HASH)
