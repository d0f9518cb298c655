"""A member's state as bytes: a canonical, sorted array of cells and the latest attributes.

Format 2, little endian: header (32 bytes: magic, runs, cells, layout hash, newest, wide values, attribute bytes), wide
values int64, runs (slot, number of cells; uint16 each), cells uint16 (age 9 bits, value 7), attributes as JSON. A run
holds the cells of one slot. The age counts hours or local days back from the newest instant; the value 127 says that
the true value is the next wide one. The same events give the same bytes, in whatever order and batches they came.

Format 1 had no runs: cells were uint32 (slot 13 bits, age 9, value 10). It is read, and written anew with the next
events of the member.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from vigie_contracts.errors import IncompatibleData

from vigie_tiles.layout import AGE_BITS
from vigie_tiles.local_days import Ints

MAGIC, OLD_MAGIC = b"V2", b"VGT1"
VALUE_BITS, OLD_VALUE_BITS = 7, 10
WIDE, OLD_WIDE = (1 << VALUE_BITS) - 1, (1 << OLD_VALUE_BITS) - 1
_AGE_MASK = (1 << AGE_BITS) - 1
_HEADER, _OLD_HEADER = struct.Struct("<2sHIQqII"), struct.Struct("<4sIQqII")
_HEADERS = np.dtype(
    {
        "names": ["magic", "runs", "cells", "layout", "newest", "wide", "attribute_bytes"],
        "formats": ["S2", "<u2", "<u4", "<u8", "<i8", "<u4", "<u4"],
    }
)
"""Many headers; the fields of _HEADER."""

_REBUILD = "rebuild the tiles with `vigie replay tiles`"
_CUT = f"a tile is cut short: {_REBUILD}"
_DAMAGED = f"a tile is damaged: {_REBUILD}"
_FORMAT = f"these are not tiles of format 1 or 2: {_REBUILD}"
_LAYOUT = f"the feature table or the time zone changed since these tiles were folded: {_REBUILD}"

Attribute = tuple[int, int, int, str, str, Any]
"""(number of the attribute, effective_at, known_at, source id, event id, JSON value)."""
_ATTRIBUTES = msgspec.json.Decoder(list[Attribute])


@dataclass(frozen=True)
class Runs:
    """The cells of many blobs as they lie there: runs (member, slot, cells) one after the other; `age`, `value` a cell.

    `newest` and `attributes` are one a blob.
    """

    member: Ints
    slot: Ints
    cells: Ints
    age: Ints
    value: Ints
    newest: Ints
    attributes: list[bytes]


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
    found = decode_runs(blobs, layout_hash)
    code = (found.slot << AGE_BITS).repeat(found.cells) | found.age
    return States(found.member.repeat(found.cells), code, found.value, found.newest, found.attributes)


def decode_runs(blobs: Sequence[bytes], layout_hash: int) -> Runs:
    """As `decode`, a run a slot."""
    if len(blobs) == 1:
        return _decode_one(blobs[0], layout_hash)
    if not blobs:
        none = np.zeros(0, dtype=np.int64)
        return Runs(none, none, none, none, none, none, [])
    blobs = [_renewed(blob, layout_hash) for blob in blobs]
    header = _headers(blobs, layout_hash)
    counts = header["runs"].astype(np.int64)
    runs_at = _HEADER.size + 8 * header["wide"].astype(np.int64)
    cells_at = runs_at + 4 * counts
    ends = cells_at + 2 * header["cells"].astype(np.int64)
    bounds = list(zip(blobs, runs_at.tolist(), cells_at.tolist(), ends.tolist(), strict=True))
    wide = np.frombuffer(b"".join([blob[_HEADER.size : begin] for blob, begin, _, _ in bounds]), "<i8")
    runs = np.frombuffer(b"".join([blob[begin:end] for blob, begin, end, _ in bounds]), "<u2")
    raw = np.frombuffer(b"".join([blob[begin:end] for blob, _, begin, end in bounds]), "<u2")
    member = np.arange(len(blobs), dtype=np.int64).repeat(counts)
    return _runs(member, runs, raw, wide, header["newest"].astype(np.int64), [blob[end:] for blob, _, _, end in bounds])


def _decode_one(blob: bytes, layout_hash: int) -> Runs:
    """The same for one blob, without the vectors that many need: reading one customer is the hot path."""
    blob = _renewed(blob, layout_hash)
    if len(blob) < _HEADER.size:
        raise IncompatibleData(_CUT)
    magic, runs, cells, held_hash, newest, wide, attribute_bytes = _HEADER.unpack_from(blob)
    if magic != MAGIC or held_hash != layout_hash:
        raise IncompatibleData(_FORMAT if magic != MAGIC else _LAYOUT)
    runs_at = _HEADER.size + 8 * wide
    cells_at = runs_at + 4 * runs
    end = cells_at + 2 * cells
    if end + attribute_bytes != len(blob):
        raise IncompatibleData(_CUT if end + attribute_bytes > len(blob) else _DAMAGED)
    return _runs(
        np.zeros(runs, dtype=np.int64),
        np.frombuffer(blob, "<u2", 2 * runs, runs_at),
        np.frombuffer(blob, "<u2", cells, cells_at),
        np.frombuffer(blob, "<i8", wide, _HEADER.size),
        np.array([newest], dtype=np.int64),
        [blob[end:]],
    )


def _runs(member: Ints, runs: Any, raw: Any, wide: Any, newest: Ints, attributes: list[bytes]) -> Runs:
    value, pairs = (raw & WIDE).astype(np.int64), runs.astype(np.int64).reshape(-1, 2)
    wide_at = (value == WIDE).nonzero()[0]
    if len(wide_at) != len(wide) or pairs[:, 1].sum() != len(raw):
        raise IncompatibleData(_DAMAGED)
    value[wide_at] = wide
    return Runs(member, pairs[:, 0], pairs[:, 1], (raw >> VALUE_BITS).astype(np.int64), value, newest, attributes)


def encode(states: States, layout_hash: int) -> list[bytes]:
    """One blob a member, in the order of `states.newest`; the inverse of `decode`."""
    is_wide = (states.value < 0) | (states.value >= WIDE)
    age, slot = states.code & _AGE_MASK, states.code >> AGE_BITS
    cells = (age << VALUE_BITS | np.where(is_wide, WIDE, states.value)).astype("<u2").tobytes()
    wide = states.value[is_wide].astype("<i8").tobytes()
    begins = _begins(states.member, slot)
    lengths = np.diff(begins, append=len(slot))
    runs = np.stack((slot[begins], lengths), axis=1).astype("<u2").tobytes()
    members = np.arange(len(states.newest))
    cell_ends = states.member.searchsorted(members, side="right").tolist()
    run_ends = states.member[begins].searchsorted(members, side="right").tolist()
    wide_ends = states.member[is_wide].searchsorted(members, side="right").tolist()
    blobs, cell_at, run_at, wide_at = [], 0, 0, 0
    for newest, section, cell_end, run_end, wide_end in zip(
        states.newest.tolist(), states.attributes, cell_ends, run_ends, wide_ends, strict=True
    ):
        sizes = run_end - run_at, cell_end - cell_at
        header = _HEADER.pack(MAGIC, *sizes, layout_hash, newest, wide_end - wide_at, len(section))
        numbers = wide[wide_at * 8 : wide_end * 8], runs[run_at * 4 : run_end * 4], cells[cell_at * 2 : cell_end * 2]
        blobs.append(b"".join((header, *numbers, section)))
        cell_at, run_at, wide_at = cell_end, run_end, wide_end
    return blobs


def decode_attributes(section: bytes) -> list[Attribute]:
    """The attributes of a blob's section, sorted by number."""
    return _ATTRIBUTES.decode(section) if section else []


def encode_attributes(attributes: Sequence[Attribute]) -> bytes:
    """The section of a blob, empty when there is none; sorted by number."""
    return msgspec.json.encode(sorted(attributes, key=lambda row: row[0])) if attributes else b""


def newest_us(blob: bytes) -> int:
    """The newest effective_at or known_at that was folded into a blob; IncompatibleData when it is cut short."""
    if len(blob) < _HEADER.size:
        raise IncompatibleData(_CUT)
    newest: int = _OLD_HEADER.unpack_from(blob)[3] if blob[:4] == OLD_MAGIC else _HEADER.unpack_from(blob)[4]
    return newest


def code_of(slot: Ints, age: Ints) -> Ints:
    """Slot and age as one number that sorts by slot, then age."""
    return slot << AGE_BITS | age


def _begins(member: Ints, slot: Ints) -> Ints:
    """Where runs of one slot of one member begin."""
    if not len(slot):
        return np.zeros(0, dtype=np.int64)
    changes = ((slot[1:] != slot[:-1]) | (member[1:] != member[:-1])).nonzero()[0]
    return np.concatenate((np.zeros(1, dtype=np.int64), changes + 1))


def _headers(blobs: Sequence[bytes], layout_hash: int) -> Any:
    lengths = np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs))
    if (lengths < _HEADER.size).any():
        raise IncompatibleData(_CUT)
    header = np.frombuffer(b"".join([blob[: _HEADER.size] for blob in blobs]), _HEADERS)
    if (header["magic"] != MAGIC).any():
        raise IncompatibleData(_FORMAT)
    if (header["layout"] != layout_hash).any():
        raise IncompatibleData(_LAYOUT)
    wide, runs, cells, text = (header[name].astype(np.int64) for name in ("wide", "runs", "cells", "attribute_bytes"))
    wanted = _HEADER.size + 8 * wide + 4 * runs + 2 * cells + text
    if (wanted != lengths).any():
        raise IncompatibleData(_CUT if (wanted > lengths).any() else _DAMAGED)
    return header


def _renewed(blob: bytes, layout_hash: int) -> bytes:
    """A blob of format 1 in format 2; any other as it is."""
    if blob[:4] != OLD_MAGIC:
        return blob
    if len(blob) < _OLD_HEADER.size or len(blob) % 8:
        raise IncompatibleData(_CUT)
    _, cells, held_hash, newest, wide, attribute_bytes = _OLD_HEADER.unpack_from(blob)
    if held_hash != layout_hash:
        raise IncompatibleData(_LAYOUT)
    attribute_at = _OLD_HEADER.size + 8 * wide + 4 * (cells + (cells & 1))
    if attribute_at + (attribute_bytes + 7) // 8 * 8 != len(blob):
        raise IncompatibleData(_DAMAGED)
    raw = np.frombuffer(blob, "<u4", cells, _OLD_HEADER.size + 8 * wide).astype(np.int64)
    value = raw & OLD_WIDE
    value[value == OLD_WIDE] = np.frombuffer(blob, "<i8", wide, _OLD_HEADER.size)
    section = blob[attribute_at : attribute_at + attribute_bytes]
    nobody = np.zeros(cells, dtype=np.int64)
    states = States(nobody, raw >> OLD_VALUE_BITS, value, np.array([newest], dtype=np.int64), [section])
    return encode(states, layout_hash)[0]
