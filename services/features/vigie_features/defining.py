"""Segments that are defined, changed and retired while the system runs. The writer then looks at everybody once."""

import re
from collections.abc import Callable

from msgspec.structs import replace
from vigie_contracts.errors import Conflict, InvalidInput, NotFound, Unavailable
from vigie_contracts.segmentation import DefineAnswer, DefineRequest, PreviewRequest, RetireAnswer, RetireRequest
from vigie_contracts.segments import EXCLUSIVE_FAMILIES, Segment, SegmentSpec, needs_scores, read_definition
from vigie_tiles.live import REBUILT

from vigie_features.definitions import ASSESS_AFTER, GENERATION, Definitions, Standing, meaning
from vigie_features.previewing import Previewing
from vigie_features.reading import segment_row
from vigie_features.store import Definition, Store, Transaction

KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
MOST_SEGMENTS = 500


class Defining:
    """The commands. Each is one short transaction beside the writer's; SQLite lets one in at a time."""

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        previewing: Previewing,
        now_us: Callable[[], int],
        is_rebuilt: Callable[[], bool],
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._previewing = previewing
        self._now_us = now_us
        self._is_rebuilt = is_rebuilt

    def define(self, request: DefineRequest) -> DefineAnswer:
        """Make or change a segment; a definition that stands already changes nothing.

        InvalidInput for what is wrong with it, Conflict when `expected_version` is not what stands.
        """
        self._check_ready()
        definition = read_definition(request.definition)
        estimated = self._previewing.preview(PreviewRequest(definition=definition, limit=1)).estimated_size
        with self._store.writing("features.define_") as tx:
            standing = self._definitions.at(tx)
            before = standing.segment(request.key)
            segment = self._segment(request, definition, before, standing)
            changed = before is None or segment.spec != before.spec
            if changed:
                self._check_version(request, before)
                self._save(tx, segment.spec, before, standing)
            row = segment_row(segment.spec, self._definitions.at(tx), tx)
        return DefineAnswer(segment=row, changed=changed, estimated_size=estimated)

    def retire(self, request: RetireRequest) -> RetireAnswer:
        """Let everybody leave a segment and evaluate it no more; its history stays. Safe to repeat."""
        self._check_ready()
        with self._store.writing("features.define_") as tx:
            found = self._definitions.at(tx).versions.get(request.key, [])
            if request.key in self._definitions.declared.by_key:
                raise InvalidInput(f"segment {request.key!r} is declared in segments.toml; take it out there")
            if not found:
                raise NotFound(f"there is no segment {request.key!r}")
            changed = found[0].made_by == "api" and found[0].retired_us is None
            if changed:
                tx.save_definition(found[0]._replace(retired_us=self._now_us()))
                _reassess(tx)
        return RetireAnswer(key=request.key, changed=changed)

    def _segment(self, request: DefineRequest, definition: str, before: Segment | None, standing: Standing) -> Segment:
        """What is asked for, checked: the version that stands with other texts when it means the same, else the next.

        A new definition whose reason is not given has itself for a reason.
        """
        spec = SegmentSpec(
            key=request.key,
            name={**(before.spec.name if before else {}), **request.name},
            family=request.family or (before.spec.family if before else "behavioural"),
            predicate=definition,
        )
        segment = self._definitions.compiled(spec)
        self._check(segment, before, standing)
        if before is not None and meaning(before.spec) == meaning(spec):
            because = before.spec.because if request.because is None else request.because
            return before._replace(spec=replace(before.spec, name=spec.name, because=because))
        version = 1 + max((one.spec.version for one in standing.versions.get(request.key, [])), default=0)
        because = {"en": meaning(spec)[0]} if request.because is None else request.because
        return segment._replace(spec=replace(spec, version=version, because=because))

    def _check(self, segment: Segment, before: Segment | None, standing: Standing) -> None:
        spec, declared = segment.spec, self._definitions.declared.by_key.get(segment.spec.key)
        if not KEY.fullmatch(spec.key):
            raise InvalidInput(
                f"{spec.key!r} is no key; write a letter, then letters, digits and _, all small, at most 64"
            )
        if not spec.name or not all(text.strip() for text in spec.name.values()):
            raise InvalidInput("a segment needs a name; give at least one in English")
        if needs_scores(segment.tree) or (declared is not None and needs_scores(declared.tree)):
            raise InvalidInput("a segment that names scores is evaluated by scoring; declare it in segments.toml")
        exclusive = spec.family in EXCLUSIVE_FAMILIES or (before and before.spec.family in EXCLUSIVE_FAMILIES)
        if exclusive and (before is None or before.spec.family != spec.family):
            raise InvalidInput(
                f"of the family {spec.family} a customer is in one segment, the first that holds; declare a new one in"
                " segments.toml, where its place is seen. The definition of one that is there can be changed here"
            )
        if before is None and len(standing.segments) >= MOST_SEGMENTS:
            raise InvalidInput(f"there are {MOST_SEGMENTS} segments, which is the most; retire one first")

    def _check_version(self, request: DefineRequest, before: Segment | None) -> None:
        stands = before.spec.version if before else 0
        if request.expected_version is not None and request.expected_version != stands:
            raise Conflict(
                f"segment {request.key!r} is at version {stands}, not {request.expected_version}; look at it again"
            )

    def _save(self, tx: Transaction, spec: SegmentSpec, before: Segment | None, standing: Standing) -> None:
        """A new version, or other texts of the one that stands."""
        if before is not None and before.spec.version == spec.version:
            if before == self._definitions.declared.by_key.get(spec.key):
                raise InvalidInput(f"the texts of segment {spec.key!r} stand in segments.toml; change them there")
            kept = next(one for one in standing.versions[spec.key] if one.spec.version == spec.version)
            tx.save_definition(kept._replace(spec=spec))
            tx.set(GENERATION, str(standing.generation + 1))
            return
        tx.save_definition(Definition(spec, "api", self._now_us()))
        _reassess(tx)

    def _check_ready(self) -> None:
        if not self._is_rebuilt():
            raise Unavailable(REBUILT)


def _reassess(tx: Transaction) -> None:
    """Another generation stands, and everybody is to be looked at, from the beginning."""
    tx.set(GENERATION, str(int(tx.setting(GENERATION) or 0) + 1))
    tx.set(ASSESS_AFTER, "")
