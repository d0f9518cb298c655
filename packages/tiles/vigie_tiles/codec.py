"""A member's state as bytes: a canonical, sorted array of cells and the latest attributes.

Little endian: header (32 bytes: magic, cells, layout hash, newest, wide values, attribute bytes), wide values int64,
cells uint32 (slot 13 bits, age 9, value 10), padding to 8, attributes as JSON, padding to 8. The age counts hours or
local days back from the newest instant; the value 1023 says that the true value is the next wide one. The same events
give the same bytes, in whatever order and batches they came.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from vigie_contracts.errors import IncompatibleData

from vigie_tiles.layout import AGE_BITS, VALUE_BITS
from vigie_tiles.local_days import Ints

MAGIC = b"VGT1"
WIDE = (1 << VALUE_BITS) - 1
_HEADER = struct.Struct("<4sIQqII")
_MAGIC_WORD = int.from_bytes(MAGIC, "little")

_REBUILD = "rebuild the tiles with `vigie replay tiles`"
_CUT = f"a tile is cut short: {_REBUILD}"
_DAMAGED = f"a tile is damaged: {_REBUILD}"
_FORMAT = f"these are not tiles of format 1: {_REBUILD}"
_LAYOUT = f"the feature table or the time zone changed since these tiles were folded: {_REBUILD}"

Attribute = tuple[int, int, int, str, str, Any]
"""(number of the attribute, effective_at, known_at, source id, event id, JSON value)."""
_ATTRIBUTES = msgspec.json.Decoder(list[Attribute])


@dataclass(frozen=True)
class States:
    """The cells of many blobs in one array, sorted by (member, code); code = slot << 9 | age."""

    member: Ints
    code: Ints
    value: Ints
    newest: Ints
    attributes: list[bytes]


def decode(blobs: Sequence[bytes], layout_hash: int) -> States:
    """All cells of all blobs; `member` is the blob's index. IncompatibleData for another layout or damaged bytes."""
    if len(blobs) == 1:
        return _decode_one(blobs[0], layout_hash)
    if not blobs:
        none = np.zeros(0, dtype=np.int64)
        return States(none, none, none, none, [])
    joined = b"".join(blobs)
    lengths = np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs))
    ends = np.cumsum(lengths)
    header = _headers(joined, ends - lengths, lengths, layout_hash)
    cells, wide, attribute_bytes = header[:, 1], header[:, 6], header[:, 7]
    words, longs = np.frombuffer(joined, "<u4"), np.frombuffer(joined, "<i8")
    word_at = (ends - lengths) // 4 + 8
    raw = words[_ranges(word_at + 2 * wide, cells)].astype(np.int64)
    value = raw & WIDE
    value[value == WIDE] = longs[_ranges(word_at // 2, wide)]
    newest = longs[(ends - lengths) // 8 + 2]
    attribute_at = (word_at + 2 * wide + cells + (cells & 1)) * 4
    places = zip(attribute_at.tolist(), attribute_bytes.tolist(), strict=True)
    sections = [joined[at : at + size] if size else b"" for at, size in places]
    member = np.repeat(np.arange(len(blobs), dtype=np.int64), cells)
    return States(member, raw >> VALUE_BITS, value, newest, sections)


def _decode_one(blob: bytes, layout_hash: int) -> States:
    """The same for one blob, without the vectors that many need: reading one customer is the hot path."""
    if len(blob) < _HEADER.size or len(blob) % 8:
        raise IncompatibleData(_CUT)
    magic, cells, held_hash, newest, wide, attribute_bytes = _HEADER.unpack_from(blob)
    if magic != MAGIC or held_hash != layout_hash:
        raise IncompatibleData(_FORMAT if magic != MAGIC else _LAYOUT)
    attribute_at = _HEADER.size + 8 * wide + 4 * (cells + (cells & 1))
    if attribute_at + (attribute_bytes + 7) // 8 * 8 != len(blob):
        raise IncompatibleData(_DAMAGED)
    raw = np.frombuffer(blob, "<u4", cells, _HEADER.size + 8 * wide).astype(np.int64)
    value = raw & WIDE
    if wide:
        value[value == WIDE] = np.frombuffer(blob, "<i8", wide, _HEADER.size)
    member, sections = np.zeros(cells, dtype=np.int64), [blob[attribute_at : attribute_at + attribute_bytes]]
    return States(member, raw >> VALUE_BITS, value, np.array([newest], dtype=np.int64), sections)


def encode(states: States, layout_hash: int) -> list[bytes]:
    """One blob a member, in the order of `states.newest`; the inverse of `decode`."""
    is_wide = (states.value < 0) | (states.value >= WIDE)
    cells = (states.code << VALUE_BITS | np.where(is_wide, WIDE, states.value)).astype("<u4").tobytes()
    wide = states.value[is_wide].astype("<i8").tobytes()
    count = len(states.newest)
    cell_ends = np.searchsorted(states.member, np.arange(count), side="right")
    wide_ends = np.searchsorted(states.member[is_wide], np.arange(count), side="right")
    blobs, cell_at, wide_at = [], 0, 0
    for newest, section, cell_end, wide_end in zip(
        states.newest.tolist(), states.attributes, cell_ends.tolist(), wide_ends.tolist(), strict=True
    ):
        header = _HEADER.pack(MAGIC, cell_end - cell_at, layout_hash, newest, wide_end - wide_at, len(section))
        numbers = (wide[wide_at * 8 : wide_end * 8], cells[cell_at * 4 : cell_end * 4])
        pad = b"\0\0\0\0" if (cell_end - cell_at) & 1 else b""
        blobs.append(b"".join((header, *numbers, pad, section, b"\0" * (-len(section) % 8))))
        cell_at, wide_at = cell_end, wide_end
    return blobs


def decode_attributes(section: bytes) -> list[Attribute]:
    """The attributes of a blob's section, sorted by number."""
    return _ATTRIBUTES.decode(section) if section else []


def encode_attributes(attributes: Sequence[Attribute]) -> bytes:
    """The section of a blob, empty when there is none; sorted by number."""
    return msgspec.json.encode(sorted(attributes, key=lambda row: row[0])) if attributes else b""


def newest_us(blob: bytes) -> int:
    """The newest effective_at or known_at that was folded into a blob."""
    return int(_HEADER.unpack_from(blob)[3])


def code_of(slot: Ints, age: Ints) -> Ints:
    """Slot and age as one number that sorts by slot, then age."""
    return slot << AGE_BITS | age


def _headers(joined: bytes, starts: Ints, lengths: Ints, layout_hash: int) -> Ints:
    if ((lengths < _HEADER.size) | (lengths % 8 != 0)).any():
        raise IncompatibleData(_CUT)
    words: npt.NDArray[np.uint32] = np.frombuffer(joined, "<u4")
    header: Ints = words[(starts // 4)[:, None] + np.arange(8)].astype(np.int64)
    if (header[:, 0] != _MAGIC_WORD).any():
        raise IncompatibleData(_FORMAT)
    if (header[:, 2] != layout_hash & 0xFFFFFFFF).any() or (header[:, 3] != layout_hash >> 32).any():
        raise IncompatibleData(_LAYOUT)
    size = 32 + 8 * header[:, 6] + 4 * (header[:, 1] + (header[:, 1] & 1)) + (header[:, 7] + 7) // 8 * 8
    if (size != lengths).any():
        raise IncompatibleData(_DAMAGED)
    return header


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """The indices start, start + 1, … of each range, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1])
    found: Ints = np.repeat(starts - (ends - counts), counts) + np.arange(total)
    return found
