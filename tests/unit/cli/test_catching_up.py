"""When training may begin: the archive holds what the log held."""

import pytest
from vigie_cli.catching_up import is_archived


@pytest.mark.parametrize(
    ("archive", "end", "done"),
    [
        ({}, {}, True),
        ({}, {"0": 1}, False),
        ({"0": 6}, {"0": 7}, False),
        ({"0": 7}, {"0": 7}, True),
        ({"0": 9}, {"0": 7}, True),
        ({"0": 9, "1": 1}, {"0": 7, "1": 2}, False),
    ],
)
def test_the_archive_has_caught_up_when_every_lane_reaches_the_end(
    archive: dict[str, int], end: dict[str, int], done: bool
) -> None:
    assert is_archived({"offsets": {"archive": archive}}, end) is done
