"""Answers that services give to the gateway's batched reads (JSON over HTTP, service token required)."""

from typing import Any, Literal

import msgspec

from vigie_contracts.catalogue import MicroConversion
from vigie_contracts.events import ConsentState, Cursor, EventKind, MapMove, Purpose
from vigie_contracts.features import FeatureSpec
from vigie_contracts.offers import Decision, Offer
from vigie_contracts.scores import Assessment, ReadPoint

# ---- ingest ---------------------------------------------------------------------------------------------------------


class IdentityRow(msgspec.Struct, frozen=True, kw_only=True):
    """`shared`: a second user id identified on it, so that it joins nobody."""

    namespace: str
    value: str
    member_id: str
    linked_at_us: int
    verified: bool = False
    shared: bool = False


class AttributeRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    attribute_class: str
    value: str | float | int | bool | None
    source: str
    updated_at_us: int
    pii: str | None = None


class ConsentRow(msgspec.Struct, frozen=True, kw_only=True):
    purpose: Purpose
    state: ConsentState
    allowed: bool
    since_us: int
    source: str


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """A company or household that a `group` call joined the customer to; `since_us` is its latest statement."""

    account_id: str
    since_us: int


class CustomerRow(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/customers`: one a found id, in the order asked for; a merged id answers with its survivor."""

    asked: str
    customer_id: str
    member_ids: list[str]
    external_id: str | None
    anonymous: bool
    identities: list[IdentityRow]
    attributes: list[AttributeRow]
    consents: list[ConsentRow]
    first_seen_us: int
    last_seen_us: int
    accounts: list[AccountRow] = []


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """A customer by an identity; `user_id` is the namespace of external ids."""

    namespace: str
    value: str


class CustomersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Up to 1,000 customer ids, or up to 100 lookups."""

    customer_ids: list[str] = []
    lookups: list[Lookup] = []


class CustomersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`customers` holds null where nothing was found, in the order asked for (ids, then lookups)."""

    customers: list[CustomerRow | None]


class IdentityMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a customer with the identities whose events it carries now."""

    member_id: str
    minted_at_us: int
    identities: list[IdentityRow]


class MergeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The event that made two members one customer; `number` is its place in the log."""

    number: int
    source_id: str
    event_id: str
    kind: EventKind
    effective_at_us: int


class MergeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Why two members are one customer, or are no longer. `number` is what `identity/undo` takes back.

    `rule`: identified (a user id came with the anonymous id) or alias. `event` is null when it was erased. An undone
    merge has `undone_number` (undoing that restores it); `changed_at_us` is when it was made, undone or restored.
    """

    number: int
    rule: str
    members: tuple[str, str]
    known_at_us: int
    event: MergeEvent | None
    undone_number: int | None
    changed_at_us: int
    reason: str


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Why two members, of whom one is the customer's, are not joined although events asked for it.

    `rule` as in `MergeRow`. The event is that of the latest of `times` refusals, and so is the `reason`, a sentence.
    """

    rule: str
    members: tuple[str, str]
    reason: str
    times: int
    first_us: int
    last_us: int
    source_id: str
    event_id: str


class IdentityExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Members oldest first (the first names the customer); merges, standing and undone, in the order of the log.

    `refused`, latest first, are pairs that nothing joins now; `refused_more` says that older ones are left out.
    """

    asked: str
    customer_id: str
    members: list[IdentityMember]
    merges: list[MergeRow]
    refused: list[RefusalRow] = []
    refused_more: bool = False


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/identity/explain` with a `CustomersRequest`: null where nothing was found, in the order asked."""

    customers: list[IdentityExplanation | None]


class UndoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/identity/undo`: the log's number of a merge, or of an undo (then the merge stands again).

    The same key undoes once and is answered the same.
    """

    number: int
    reason: str
    idempotency_key: str | None = None


class UndoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Written and synced as record `number`; `already`: by an earlier request with the same key.

    No moves: other merges still join the two members.
    """

    number: int
    undoes: int
    known_at_us: int
    moves: list[MapMove]
    already: bool = False


class TimelineRow(msgspec.Struct, frozen=True, kw_only=True):
    lane: int
    number: int
    member_id: str
    event_id: str
    kind: EventKind
    name: str
    category: str | None
    effective_at_us: int
    channel: str | None
    properties: dict[str, Any]
    measures: dict[str, int]


class TimelineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/timeline`: newest first by (effective_at, number), strictly before `before` when given."""

    customer_id: str
    limit: int = 20
    before: tuple[int, int] | None = None
    categories: list[str] = []


class TimelineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    events: list[TimelineRow]


# ---- features -------------------------------------------------------------------------------------------------------


class FeaturesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/read`: up to 1,000 customers; no names means the whole table."""

    customer_ids: list[str]
    features: list[str] = []


class FeatureRow(msgspec.Struct, frozen=True, kw_only=True):
    customer_id: str
    present: bool
    read_point: ReadPoint
    values: list[int | None]


class FeaturesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    features: list[str]
    rows: list[FeatureRow]


class EngagementRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/engagement`."""

    customer_ids: list[str]
    window_days: int


class MicroConversionRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    label: dict[str, str]
    count: int
    previous_count: int
    last_at_us: int | None


class EngagementRow(msgspec.Struct, frozen=True, kw_only=True):
    """`trend` is this window's events over the previous period's, null when there was none in either."""

    customer_id: str
    window_days: int
    as_of_us: int
    score: int | None
    active_days: int
    last_activity_at_us: int | None
    trend: float | None
    micro_conversions: list[MicroConversionRow]


class EngagementAnswer(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[EngagementRow]


class SegmentVersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a segment's definition; `made_by`: the file, or the API (graph and command line)."""

    version: int
    definition: str
    family: str
    made_by: Literal["file", "api"]
    from_us: int


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/segments` of features (without scores) and of scoring (with scores).

    `versions`, newest first, of those that features evaluates. `evaluating`: everybody is being looked at, sizes move.
    """

    key: str
    name: dict[str, str]
    family: str
    definition: str
    version: int
    size: int
    because: dict[str, str] = {}
    versions: list[SegmentVersionRow] = []
    evaluating: bool = False


class SegmentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    segments: list[SegmentRow]


class MembershipRow(msgspec.Struct, frozen=True, kw_only=True):
    """`version` is the segment's at which the customer entered; null where it is not told."""

    customer_id: str
    key: str
    since_us: int
    version: int | None = None


class MembershipsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/memberships`: the segments of these customers."""

    customer_ids: list[str]


class SegmentMembersRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/segment-members`: customers of one segment by keyset on customer id."""

    key: str
    after: str | None = None
    limit: int = 20


class MembershipsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    memberships: list[MembershipRow]


class CatalogueAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/catalogue`: the features (event categories expanded) and micro-conversions.

    `awaited` are keys of features that are folded for and null until they are live.
    """

    features: list[FeatureSpec]
    micro_conversions: list[MicroConversion]
    awaited: list[str] = []


class ApplyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /internal/apply`: read the feature table of the repository again."""


class ApplyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/apply`: the table was read again. `awaited` are the features that are not live yet: the log is
    folded for them up to `until`, and what comes after."""

    features: int
    awaited: list[str]
    until: int


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /internal/replay`: fold all tiles anew from the log; answered by an ApplyAnswer."""

    projection: Literal["tiles"]


class ParityFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /internal/parity`: what `vigie features parity` found: vectors compared, values that differed."""

    vectors: int
    mismatches: int
    at_us: int


class FeaturesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/status` of features. Lags are of the state and the archive behind the log "events".

    `lag["seconds"]` is for how long (system time) the state has been behind. `problems` are sentences; empty is fine.
    `parity` is the last comparison of the engines, null before the first.
    """

    service: str
    offsets: dict[str, Cursor]
    lag: dict[str, float]
    counts: dict[str, int]
    watermark_us: int | None
    business_now_us: int
    rebuilding: bool
    problems: list[str]
    parity: ParityFigure | None = None


# ---- scoring --------------------------------------------------------------------------------------------------------


class ScoresRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/scores`: the standing assessment of each customer and definition (empty: all definitions)."""

    customer_ids: list[str]
    definitions: list[str] = []


class StandingScore(msgspec.Struct, frozen=True, kw_only=True):
    """`change_7_days` is null unless there was a score at least seven days old."""

    assessment: Assessment
    change_7_days: float | None = None


class ScoresAnswer(msgspec.Struct, frozen=True, kw_only=True):
    scores: list[StandingScore]


class ScoreHistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/score-history`: newest first; `before` is the number of a record."""

    customer_id: str
    definition: str | None = None
    limit: int = 30
    before: int | None = None


class ScoreHistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    assessment: Assessment


class ScoreHistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    scores: list[ScoreHistoryRow]


class DecisionsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/decisions`: standing decisions; no channel means the first that is decided for (IN_APP)."""

    customer_ids: list[str]
    channel: str | None = None


class DecisionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    decisions: list[Decision]


class OffersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/offers`."""

    offers: list[Offer]


class WorkListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /internal/work-list`: one indexed query, keyset by (order value, customer id)."""

    definition: str | None = None
    bands: list[str] = []
    segment_keys: list[str] = []
    probability_min: float | None = None
    probability_max: float | None = None
    inactive_for_days: int | None = None
    scored_since_us: int | None = None
    order_by: Literal["CHURN_PROBABILITY", "SCORE_CHANGE_7_DAYS", "LAST_ACTIVITY_AT"] = "CHURN_PROBABILITY"
    descending: bool = True
    after: tuple[float | int | None, str] | None = None
    limit: int = 20
    with_total: bool = False


class WorkListRow(msgspec.Struct, frozen=True, kw_only=True):
    customer_id: str
    order_value: float | int | None


class WorkListAnswer(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[WorkListRow]
    has_next: bool
    total: int | None = None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /internal/models`: what is loaded, with the features it reads, and why not when it is not."""

    name: str
    alias: str
    version: str | None
    spec_hash: str | None
    problem: str | None = None
    features: list[str] = []


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    models: list[ModelRow]
