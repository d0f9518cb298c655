"""Half a surrogate pair, as a text has that was cut inside an emoji: the event is taken, and its receipt says so."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vigie_ingest.domain import Draft, Refusal
from vigie_ingest.messages import read
from vigie_ingest.shapes import zoho
from vigie_ingest.surrogates import NOTE, mended

from tests.unit.ingest.ingest_world import NOW_US, World, track
from tests.unit.ingest.shapes_world import accepted

HALF = "\ud83d"
PIECES = ["a", "\\", "/", '"', "u", "d83d", "é", "😀", HALF, "\udd3d", "\uffff", "\n"]
texts = st.lists(st.sampled_from(PIECES)).map("".join)


@given(text=texts)
def test_what_python_escapes_is_readable_and_whole_pairs_stay(text: str) -> None:
    body = json.dumps({"text": text}).encode()
    found = mended(body)
    assert len(found) == len(body)
    assert msgspec.json.decode(found)["text"].replace("\ufffd", "?") == _without_halves(text)
    assert (found is body) == ("?" not in _without_halves(text))


def _without_halves(text: str) -> str:
    """The same by UTF-16's own rules, one unit at a time."""
    units = text.encode("utf-16-le", "surrogatepass")
    codes = [int.from_bytes(units[place : place + 2], "little") for place in range(0, len(units), 2)]
    whole = ""
    while codes:
        code = codes.pop(0)
        if 0xD800 <= code < 0xDC00 and codes and 0xDC00 <= codes[0] < 0xE000:
            whole += chr(0x10000 + ((code - 0xD800) << 10) + codes.pop(0) - 0xDC00)
        else:
            whole += "?" if 0xD800 <= code < 0xE000 else chr(code)
    return whole


def cut(**fields: object) -> str:
    return json.dumps({**track("cut", user="u"), **fields})


@pytest.mark.parametrize("field", ["properties", "context"])
def test_the_event_is_taken_with_a_note_and_its_neighbours_without(tmp_path: Path, field: str) -> None:
    world = World(tmp_path)
    body = json.dumps({"batch": [json.loads(cut(**{field: {"note": f"thanks {HALF}"}})), track("whole", user="u")]})
    world.appender.append(world.normaliser.items(read(body.encode()), "app", NOW_US))
    assert [world.reads.receipt(name, "app").notes for name in ("cut", "whole")] == [[NOTE], []]
    assert [world.reads.receipt(name, "app").verdict for name in ("cut", "whole")] == ["accepted", "accepted"]


def test_a_single_call_is_taken_too(tmp_path: Path) -> None:
    (draft,) = World(tmp_path).normaliser.items(read(cut(event=f"Rated {HALF}").encode(), "track"), "app", NOW_US)
    assert isinstance(draft, Draft)
    assert (draft.name, draft.notes) == ("Rated \ufffd", (NOTE,))


@pytest.mark.parametrize("field", ["userId", "messageId", "anonymousId"])
def test_a_cut_id_is_quarantined_because_two_of_them_could_become_one(tmp_path: Path, field: str) -> None:
    (refusal,) = World(tmp_path).normaliser.items(read(cut(**{field: f"me{HALF}"}).encode(), "track"), "app", NOW_US)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, "cut inside a character" in refusal.reason) == ("malformed", True)


def test_other_shapes_read_it_too() -> None:
    body = {"module": "Contacts", "operation": "update", "ids": ["1"], "affected_fields": [{"1": [f"Name {HALF}"]}]}
    (draft,) = accepted(zoho.read, json.dumps(body).encode())
    assert (draft.properties, draft.notes) == ({"fields": ["Name \ufffd"]}, (NOTE,))
