"""Cursors are opaque, signed and bound to their list."""

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_gateway.cursors import Cursors


def test_a_cursor_comes_back_as_it_went():
    cursors = Cursors("secret")
    assert cursors.read("timeline", cursors.write("timeline", [[1, 2], None])) == [[1, 2], None]


def test_a_cursor_of_another_list_is_refused_by_name():
    cursors = Cursors("secret")
    with pytest.raises(InvalidInput, match="belongs to another list \\(segments\\)"):
        cursors.read("timeline", cursors.write("segments", "x"))


def test_a_cursor_of_another_installation_is_refused():
    with pytest.raises(InvalidInput, match="not made by this installation"):
        Cursors("one").read("timeline", Cursors("other").write("timeline", 1))


@pytest.mark.parametrize("text", ["", "x", "AAAA", "é", "a" * 200])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(InvalidInput):
        Cursors("secret").read("timeline", text)
