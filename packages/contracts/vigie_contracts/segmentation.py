"""What services ask of features about segments beyond reading them: preview, definition, history, migration."""

import msgspec

from vigie_contracts.events import Cursor
from vigie_contracts.reads import SegmentRow
from vigie_contracts.segments import Family


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-preview`: whom a definition holds for now. `limit` customers by id, after one."""

    definition: str
    after: str | None = None
    limit: int = 20


class OverlapRow(msgspec.Struct, frozen=True, kw_only=True):
    """A standing segment, its size, and how many of the previewed customers are in it."""

    key: str
    size: int
    both: int


class PreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All figures are of one instant and one snapshot.

    `examined` of `population` customers were looked at, by id, before time was up; `size` of them are inside.
    `customer_ids` are a page of those inside. `definition` is the canonical text.
    """

    definition: str
    size: int
    examined: int
    population: int
    customer_ids: list[str]
    has_next: bool
    overlaps: list[OverlapRow]
    t_us: int
    pos: Cursor

    @property
    def complete(self) -> bool:
        """Whether everybody was looked at."""
        return self.examined == self.population

    @property
    def estimated_size(self) -> int:
        """The size; in proportion when time was up."""
        return self.size if self.complete else round(self.size * self.population / max(self.examined, 1))


class DefineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-define`. A changed definition or family is a new version. Safe to repeat.

    `family` and `because` as they are when null (a new segment: behavioural, no reason). `expected_version`: what the
    caller saw, 0 for none; null takes any.
    """

    key: str
    name: dict[str, str]
    definition: str
    family: Family | None = None
    because: dict[str, str] | None = None
    expected_version: int | None = None


class DefineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The segment as it stands. `changed` is false when it was so before."""

    segment: SegmentRow
    changed: bool
    estimated_size: int


class RetireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-retire`: everybody leaves it. Only one that the API made."""

    key: str


class RetireAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`changed` is false when it was retired before."""

    key: str
    changed: bool


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-history`: what these customers entered and left, newest first, `limit` each.

    `before`: only records of a lower number.
    """

    customer_ids: list[str]
    before: int | None = None
    limit: int = 20


class MoveRow(msgspec.Struct, frozen=True, kw_only=True):
    """A customer entered or left a version of a segment; `number` is the place in the log "segments"."""

    number: int
    customer_id: str
    key: str
    version: int
    entered: bool
    at_us: int


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """In the order of customers asked for."""

    moves: list[MoveRow]


class MigrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-migration`: an exclusive family at two instants, the first before the second."""

    family: str
    from_us: int
    to_us: int


class MigrationCell(msgspec.Struct, frozen=True, kw_only=True):
    """How many customers were in one segment at the first instant and in one at the second; null: in none."""

    from_key: str | None
    to_key: str | None
    customers: int


class MigrationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`keys`: the family's segments in their order, retired ones last. Cells that are not there are 0.

    Who was in none at both instants is not counted.
    """

    family: str
    from_us: int
    to_us: int
    keys: list[str]
    cells: list[MigrationCell]
