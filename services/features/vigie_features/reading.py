"""What the service answers: features at the clock, engagement, segments, memberships, the catalogue. Reads only."""

from collections.abc import Callable, Sequence

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput, NotFound, Unavailable
from vigie_contracts.features import FeatureTable
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
)
from vigie_contracts.scores import ReadPoint
from vigie_contracts.segments import Segment
from vigie_contracts.subjects import Holdings, Place, Section, Subject, SubjectData
from vigie_kit.holdings import readable
from vigie_kit.sqlite_log import LANE
from vigie_tiles import kernel
from vigie_tiles.layout import Layout

from vigie_features import domain
from vigie_features.archive import Archive
from vigie_features.engagement import Engagement
from vigie_features.store import PERSONS, SEGMENTS, TABLES, Snapshot, Store

MOST_CUSTOMERS = 1_000
MOST_MEMBERS = 1_000


class Reading:
    """The read side; each answer comes from one snapshot of the database."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        table: FeatureTable,
        layout: Layout,
        segments: Sequence[Segment],
        now_us: Callable[[], int],
        is_rebuilt: Callable[[], bool],
        archive: Archive,
    ) -> None:
        self._store = store
        self._archive = archive
        self._catalogue = catalogue
        self._table = table
        self._layout = layout
        self._segments = segments
        self._now_us = now_us
        self._is_rebuilt = is_rebuilt

    def features(self, request: FeaturesRequest) -> FeaturesAnswer:
        """Values at the clock, customers and features in the order asked for; null values where there is no state."""
        specs = self._table.select(request.features) if request.features else self._table.features
        with self._store.snapshot() as snapshot:
            reads = self._reads(snapshot, request.customer_ids)
            pos = {LANE: snapshot.applied()}
        matrix = kernel.finalise(self._layout, specs, [read.blobs for read in reads], [read.t_us for read in reads])
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
            sizes = snapshot.sizes()
        return SegmentsAnswer(
            segments=[
                SegmentRow(
                    key=segment.spec.key,
                    name=segment.spec.name,
                    family=segment.spec.family,
                    definition=segment.definition,
                    version=segment.spec.version,
                    size=sizes.get(segment.spec.key, 0),
                    because=segment.spec.because,
                )
                for segment in self._segments
            ]
        )

    def memberships(self, request: MembershipsRequest) -> MembershipsAnswer:
        """The standing memberships of customers, in the order asked for, by key."""
        _check_count(request.customer_ids)
        with self._store.snapshot() as snapshot:
            found = snapshot.memberships(request.customer_ids)
        return MembershipsAnswer(
            memberships=[
                MembershipRow(customer_id=customer_id, key=key, since_us=standing.since_us)
                for customer_id in dict.fromkeys(request.customer_ids)
                for key, standing in found.get(customer_id, {}).items()
            ]
        )

    def segment_members(self, request: SegmentMembersRequest) -> MembershipsAnswer:
        """Customers of a segment by id; NotFound for a segment that features does not evaluate."""
        if not 1 <= request.limit <= MOST_MEMBERS:
            raise InvalidInput(f"limit must lie between 1 and {MOST_MEMBERS}")
        if request.key not in {segment.spec.key for segment in self._segments}:
            raise NotFound(f"there is no segment {request.key!r} among those that features evaluates")
        with self._store.snapshot() as snapshot:
            rows = snapshot.members_of_segment(request.key, request.after, request.limit)
        return MembershipsAnswer(memberships=rows)

    def holdings(self, subject: Subject) -> Holdings:
        """How much of a person lies in each place, and whether state and archive have come to a position."""
        with self._store.snapshot() as snapshot:
            places = snapshot.places(subject.member_ids)
            applied = snapshot.applied()
        rows = self._archive.count(subject.member_ids)
        places.append(Place(name="archive", found=rows, erased_by="files written anew without the rows"))
        archived = self._archive.manifest.end.get(LANE, 0)
        return Holdings(reached=min(applied, archived) >= subject.number, places=places)

    def subject(self, subject: Subject) -> SubjectData:
        """Everything about a person: feature values now, segments with their history, the map."""
        ids = {PERSONS: subject.member_ids}
        (row,) = self.features(FeaturesRequest(customer_ids=[subject.customer_id])).rows
        with self._store.snapshot() as snapshot:
            sections = {table.name: table.section(snapshot.connection, ids) for table in TABLES}
            moves = snapshot.naming(SEGMENTS, subject.member_ids)
        del sections["tiles"]
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
        """What is declared."""
        return CatalogueAnswer(
            features=list(self._table.features), micro_conversions=list(self._catalogue.micro_conversions.values())
        )

    def _reads(self, snapshot: Snapshot, customer_ids: Sequence[str]) -> list[domain.CustomerRead]:
        _check_count(customer_ids)
        if not self._is_rebuilt():
            raise Unavailable("the tiles are being rebuilt because the feature table changed; try again shortly")
        members = snapshot.members_of(customer_ids)
        tiles = snapshot.tiles([member_id for found in members.values() for member_id in found])
        return domain.customer_reads(members, tiles, self._now_us())


def _check_count(customer_ids: Sequence[str]) -> None:
    if len(customer_ids) > MOST_CUSTOMERS:
        raise InvalidInput(f"at most {MOST_CUSTOMERS} customers at once, not {len(customer_ids)}")
