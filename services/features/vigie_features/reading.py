"""What the service answers: features at the clock, engagement, segments, memberships, the catalogue. Reads only."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput, NotFound, Unavailable
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.reads import (
    CatalogueAnswer,
    EngagementAnswer,
    EngagementRequest,
    FeatureRow,
    FeaturesAnswer,
    FeaturesRequest,
    MembershipRow,
    MembershipsAnswer,
    MembershipsRequest,
    SegmentMembersRequest,
    SegmentRow,
    SegmentsAnswer,
    SegmentVersionRow,
)
from vigie_contracts.scores import ReadPoint
from vigie_contracts.segmentation import HistoryAnswer, HistoryRequest, MigrationAnswer, MigrationRequest
from vigie_contracts.segments import EXCLUSIVE_FAMILIES, SegmentSpec, checked_family
from vigie_contracts.subjects import Holdings, Place, Section, Subject, SubjectData
from vigie_kit.holdings import readable
from vigie_kit.sqlite_log import LANE
from vigie_tiles.layout import Layout
from vigie_tiles.live import REBUILT, finalise_live

from vigie_features import domain
from vigie_features.archive import Archive
from vigie_features.definitions import ASSESS_AFTER, Definitions, Standing, meaning
from vigie_features.engagement import Engagement
from vigie_features.folding import awaited, pending_table
from vigie_features.store import PERSONS, SEGMENTS, TABLES, Snapshot, Store

MOST_CUSTOMERS = 1_000
MOST_MEMBERS = 1_000
MOST_MOVES = 101


class ServedCopy(Protocol):
    """The copy of the tiles that is served from elsewhere, for the proof of an erasure."""

    def position(self, lane: int) -> int | None:
        """What the copy holds of a lane."""

    def count(self, member_ids: Sequence[str]) -> int:
        """How much of it names these members."""


class Reading:
    """The read side; each answer comes from one snapshot of the database."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        table: FeatureTable,
        layout: Layout,
        definitions: Definitions,
        now_us: Callable[[], int],
        is_rebuilt: Callable[[], bool],
        archive: Archive,
        copy: "ServedCopy | None" = None,
    ) -> None:
        self._store = store
        self._archive = archive
        self._copy = copy
        self._catalogue = catalogue
        self._table = table
        self._layout = layout
        self._definitions = definitions
        self._now_us = now_us
        self._is_rebuilt = is_rebuilt

    def features(self, request: FeaturesRequest) -> FeaturesAnswer:
        """Values at the clock, customers and features in the order asked for; null values where there is no state, and
        of features that are being folded."""
        with self._store.snapshot() as snapshot:
            specs = self._selected(snapshot, request.features)
            reads = self._reads(snapshot, request.customer_ids)
            pos = {LANE: snapshot.applied()}
        matrix = finalise_live(self._layout, specs, [read.blobs for read in reads], [read.t_us for read in reads])
        found = {
            read.customer_id: FeatureRow(
                customer_id=read.customer_id,
                present=bool(read.blobs),
                read_point=ReadPoint(t_us=read.t_us, pos=pos),
                values=values,
            )
            for read, values in zip(reads, domain.rows(matrix.values, matrix.valid), strict=True)
        }
        return FeaturesAnswer(
            features=[spec.key for spec in specs], rows=[found[customer_id] for customer_id in request.customer_ids]
        )

    def engagement(self, request: EngagementRequest) -> EngagementAnswer:
        """Engagement of the customers that have state, in the order asked for."""
        prepared = Engagement(self._layout, self._catalogue, request.window_days)
        with self._store.snapshot() as snapshot:
            reads = self._reads(snapshot, request.customer_ids)
        return EngagementAnswer(rows=prepared.read([read for read in reads if read.blobs]))

    def segments(self) -> SegmentsAnswer:
        """The segments without scores, with their sizes."""
        with self._store.snapshot() as snapshot:
            standing = self._definitions.at(snapshot)
            return SegmentsAnswer(segments=[segment_row(one.spec, standing, snapshot) for one in standing.segments])

    def memberships(self, request: MembershipsRequest) -> MembershipsAnswer:
        """The standing memberships of customers, in the order asked for, by key."""
        _check_count(request.customer_ids)
        with self._store.snapshot() as snapshot:
            found = snapshot.memberships(request.customer_ids)
        return MembershipsAnswer(
            memberships=[
                MembershipRow(customer_id=customer_id, key=key, since_us=standing.since_us, version=standing.version)
                for customer_id in dict.fromkeys(request.customer_ids)
                for key, standing in found.get(customer_id, {}).items()
            ]
        )

    def segment_members(self, request: SegmentMembersRequest) -> MembershipsAnswer:
        """Customers of a segment by id; NotFound for a segment that features does not evaluate."""
        if not 1 <= request.limit <= MOST_MEMBERS:
            raise InvalidInput(f"limit must lie between 1 and {MOST_MEMBERS}")
        with self._store.snapshot() as snapshot:
            if self._definitions.at(snapshot).segment(request.key) is None:
                raise NotFound(f"there is no segment {request.key!r} among those that features evaluates")
            rows = snapshot.members_of_segment(request.key, request.after, request.limit)
        return MembershipsAnswer(memberships=rows)

    def segment_history(self, request: HistoryRequest) -> HistoryAnswer:
        """What customers entered and left, newest first, in the order asked for."""
        _check_count(request.customer_ids)
        if not 1 <= request.limit <= MOST_MOVES:
            raise InvalidInput(f"limit must lie between 1 and {MOST_MOVES}, not {request.limit}")
        with self._store.snapshot() as snapshot:
            asked = dict.fromkeys(request.customer_ids)
            found = [snapshot.moves_of(customer_id, request.before, request.limit) for customer_id in asked]
        return HistoryAnswer(moves=[move for moves in found for move in moves])

    def migration(self, request: MigrationRequest) -> MigrationAnswer:
        """Who went from which segment of a family to which between two instants, by the log of moves."""
        if checked_family(request.family) not in EXCLUSIVE_FAMILIES:
            named = ", ".join(sorted(EXCLUSIVE_FAMILIES))
            raise InvalidInput(
                f"in the family {request.family!r} a customer may be in several segments; name one of {named}"
            )
        if not request.from_us < request.to_us <= self._now_us():
            raise InvalidInput("the first instant must lie before the second, and the second not after now")
        with self._store.snapshot() as snapshot:
            keys = _keys(self._definitions.at(snapshot), request.family)
            cells = snapshot.migration(keys, request.from_us, request.to_us)
        return MigrationAnswer(
            family=request.family, from_us=request.from_us, to_us=request.to_us, keys=keys, cells=cells
        )

    def holdings(self, subject: Subject) -> Holdings:
        """How much of a person lies in each place, and whether state and archive have come to a position."""
        with self._store.snapshot() as snapshot:
            places = snapshot.places(subject.member_ids)
            applied = snapshot.applied()
        rows = self._archive.count(subject.member_ids)
        places.append(Place(name="archive", found=rows, erased_by="files written anew without the rows"))
        reached = min(applied, self._archive.manifest.end.get(LANE, 0))
        if self._copy is not None:
            found = self._copy.count(subject.member_ids)
            places.append(Place(name="copy in Redis", found=found, erased_by="fields deleted with the next commit"))
            reached = min(reached, self._copy.position(LANE) or 0)
        return Holdings(reached=reached >= subject.number, places=places)

    def subject(self, subject: Subject) -> SubjectData:
        """Everything about a person: feature values now, segments with their history, the map."""
        ids = {PERSONS: subject.member_ids}
        (row,) = self.features(FeaturesRequest(customer_ids=[subject.customer_id])).rows
        with self._store.snapshot() as snapshot:
            sections = {table.name: table.section(snapshot.connection, ids) for table in TABLES}
            moves = snapshot.naming(SEGMENTS, subject.member_ids)
        del sections["tiles"], sections["segment_moves"]
        values = zip(self._table.features, row.values, strict=True)
        sections["features"] = Section(
            what="The values computed from the person's acts, as of now.",
            rows=[{"feature": spec.key, "means": spec.description, "value": value} for spec, value in values],
        )
        sections["segment_history"] = Section(
            what="Segments entered and left.", rows=[readable(msgspec.json.decode(said)) for _, said in moves]
        )
        return SubjectData(sections=sections)

    def catalogue(self) -> CatalogueAnswer:
        """What is declared, with the features that are being folded."""
        with self._store.snapshot() as snapshot:
            pending = pending_table(snapshot)
            awaiting = awaited(snapshot)
        return CatalogueAnswer(
            features=list((pending or self._table).features),
            micro_conversions=list(self._catalogue.micro_conversions.values()),
            awaited=awaiting,
        )

    def _selected(self, snapshot: Snapshot, keys: Sequence[str]) -> tuple[FeatureSpec, ...]:
        """The rows asked for; every live one by default. InvalidInput for one that is not declared."""
        if all(key in self._table.by_key for key in keys):
            return self._table.select(keys) if keys else self._table.features
        pending = pending_table(snapshot)
        known = {**(pending.by_key if pending else {}), **self._table.by_key}
        return FeatureTable(tuple(known.values())).select(keys)

    def _reads(self, snapshot: Snapshot, customer_ids: Sequence[str]) -> list[domain.CustomerRead]:
        _check_count(customer_ids)
        if not self._is_rebuilt():
            raise Unavailable(REBUILT)
        members = snapshot.members_of(customer_ids)
        tiles = snapshot.tiles([member_id for found in members.values() for member_id in found])
        return domain.customer_reads(members, tiles, self._now_us())


def _check_count(customer_ids: Sequence[str]) -> None:
    if len(customer_ids) > MOST_CUSTOMERS:
        raise InvalidInput(f"at most {MOST_CUSTOMERS} customers at once, not {len(customer_ids)}")


def segment_row(spec: SegmentSpec, standing: Standing, snapshot: Snapshot) -> SegmentRow:
    """A segment that stands, with its size and versions."""
    return SegmentRow(
        key=spec.key,
        name=spec.name,
        family=spec.family,
        definition=meaning(spec)[0],
        version=spec.version,
        size=snapshot.sizes().get(spec.key, 0),
        because=spec.because,
        versions=[
            SegmentVersionRow(
                version=one.spec.version,
                definition=meaning(one.spec)[0],
                family=one.spec.family,
                made_by=one.made_by,
                from_us=one.from_us,
            )
            for one in standing.versions.get(spec.key, [])
        ],
        evaluating=snapshot.setting(ASSESS_AFTER) is not None,
    )


def _keys(standing: Standing, family: str) -> list[str]:
    """Keys that are, then keys that were in the family."""
    now = [segment.spec.key for segment in standing.segments if segment.spec.family == family]
    ever = [key for key, found in standing.versions.items() if any(one.spec.family == family for one in found)]
    return list(dict.fromkeys([*now, *sorted(ever)]))
