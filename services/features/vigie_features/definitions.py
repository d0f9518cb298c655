"""Which segments stand: those of the file, and those that the API made or changed. The highest version of a key holds.

Both are kept by version in the database, so that a version always means one definition. What stands is read inside the
caller's transaction: an assessment never mixes two definitions.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.segments import Segment, SegmentSpec, SegmentTable, check_segment, format_predicate, parse

from vigie_features import domain
from vigie_features.store import Definition, Snapshot, Transaction

GENERATION = "segments_generation"
"""Setting: rises with every change of what stands."""
ASSESS_AFTER = "assess_after"
"""Setting: everybody after this customer is still to be assessed; "" from the beginning, absent when that is done."""


class Standing(NamedTuple):
    """What stands: segments in order, the features they use, all versions by key (newest first), keys of the file."""

    generation: int
    segments: tuple[Segment, ...]
    features: tuple[FeatureSpec, ...]
    versions: dict[str, list[Definition]]

    def segment(self, key: str) -> Segment | None:
        """The segment of that key that stands."""
        return next((segment for segment in self.segments if segment.spec.key == key), None)


class Definitions:
    """The file joined with what the database keeps. Only what changed is compiled again."""

    def __init__(self, declared: SegmentTable, table: FeatureTable) -> None:
        self.declared = declared
        self._table = table
        self._standing: Standing | None = None

    def at(self, snapshot: Snapshot) -> Standing:
        """What stands in this view of the database."""
        generation = int(snapshot.setting(GENERATION) or 0)
        found = self._standing
        if found is None or found.generation != generation:
            found = self._standing = self._load(snapshot.definitions(), generation)
        return found

    def sync(self, tx: Transaction, now_us: int) -> None:
        """At the start: keep the file's new versions; InvalidInput when a version no longer means what it meant."""
        known = {(one.spec.key, one.spec.version): one for one in tx.definitions()}
        for segment in self.declared.without_scores:
            spec = segment.spec
            before = known.get((spec.key, spec.version))
            if before is None:
                tx.save_definition(Definition(spec, "file", now_us))
            elif meaning(before.spec) != meaning(spec):
                free = 1 + max(version for key, version in known if key == spec.key)
                raise InvalidInput(
                    f"segment {spec.key!r} is not what its version {spec.version} was; set version = {free} in"
                    " segments.toml, so that its history stays true"
                )
            elif before.spec != spec:
                tx.save_definition(before._replace(spec=spec))
        tx.set(GENERATION, str(int(tx.setting(GENERATION) or 0) + 1))

    def compiled(self, spec: SegmentSpec) -> Segment:
        """The segment with its checked tree; InvalidInput says what is wrong with it."""
        return check_segment(spec, self.declared.vocabulary)

    def _load(self, kept: Sequence[Definition], generation: int) -> Standing:
        versions: dict[str, list[Definition]] = defaultdict(list)
        for one in kept:
            versions[one.spec.key].append(one)
        for found in versions.values():
            found.sort(key=lambda one: -one.spec.version)
        segments = [self._newer(segment, versions[segment.spec.key]) for segment in self.declared.without_scores]
        segments += [self._kept(own.spec) for key, found in versions.items() if (own := self._own(key, found))]
        features = self._table.select(domain.features_of(segments))
        return Standing(generation, tuple(segments), features, dict(versions))

    def _newer(self, segment: Segment, found: Sequence[Definition]) -> Segment:
        """The API's version of a declared segment when it is higher than the file's."""
        made = [one.spec for one in found if one.made_by == "api" and one.spec.version > segment.spec.version]
        return self._kept(made[0]) if made else segment

    def _own(self, key: str, found: Sequence[Definition]) -> Definition | None:
        """The newest version of a key that is not in the file, unless it was retired or came from the file."""
        newest = found[0]
        if key in self.declared.by_key or newest.made_by == "file" or newest.retired_us is not None:
            return None
        return newest

    def _kept(self, spec: SegmentSpec) -> Segment:
        try:
            return self.compiled(spec)
        except InvalidInput as error:
            raise InvalidInput(
                f"{error.message}. It was defined on the running system; put back what it names, or declare"
                f" {spec.key!r} in segments.toml with version = {spec.version + 1}"
            ) from error


def meaning(spec: SegmentSpec) -> tuple[str, str]:
    """What a version fixes: the definition in canonical text, and the family."""
    return format_predicate(parse(spec.predicate)), spec.family
