"""The one writer: tails events, segments and changes, assesses customers in batches and commits all of it at once.

A customer is scored only when its state has passed the cause and so has our own tail of the log "events". Records,
standing scores, decisions, memberships, the work list and the offsets of what caused them are one transaction.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from vigie_contracts.errors import Unavailable
from vigie_contracts.events import Change, Cursor, Erased, LogRecord, SegmentMoved, decode_record
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.scores import ChurnDefinition, ChurnScore
from vigie_kit import failpoints, logs
from vigie_kit.log import Entry, LogReader, advance

from vigie_scoring import erasure_store
from vigie_scoring.assessing import Assessed, Batch, assess, covers, ended, is_of, recorded
from vigie_scoring.block import FeatureBlock
from vigie_scoring.champions import Serving
from vigie_scoring.deciding import Decided, Decider
from vigie_scoring.domain import CHURN_PURPOSE, Trail, unavailable
from vigie_scoring.facts import FactReader
from vigie_scoring.lag import StateLag
from vigie_scoring.loaded import LoadedModel
from vigie_scoring.segments import ScoreSegments
from vigie_scoring.store import Rescoring, Snapshot, Standing, Store, Transaction, WorkRow
from vigie_scoring.trails import TrailReader, is_behind, trail_readers

EVENTS, CHANGES, FEATURE_SEGMENTS = "events", "changes", "feature_segments"
EVENTS_PAGE = 2000
CHANGES_PAGE = 4096
EVERYBODY_AGAIN = ""
"""In the place of the version that everybody was scored under: a definition's meaning has changed."""

_CHANGE = msgspec.json.Decoder(Change)
_MOVED = msgspec.json.Decoder(SegmentMoved)

log = logs.get("vigie_scoring.consumer")

ReadFeatures = Callable[[Sequence[str], Sequence[FeatureSpec], int], FeatureBlock]
ReadReached = Callable[[], tuple[Cursor, int | None]]
"""How far the feature state has applied the log "events", and the sweep's watermark; Unavailable before its start."""

Served = list[tuple[ChurnDefinition, LoadedModel | None]]
"""The definitions of a pass, the primary first, with the model that may score."""


@dataclass
class Work:
    """What one pass takes on: customers, with everything that is settled when they are committed."""

    causes: dict[str, Cursor] = field(default_factory=dict)
    changes: Cursor | None = None
    tickets: list[tuple[str, int]] = field(default_factory=list)
    forced: set[str] = field(default_factory=set)
    rescored: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    rescoring: set[str] = field(default_factory=set)
    redeciding: set[str] = field(default_factory=set)

    @property
    def customer_ids(self) -> list[str]:
        """Everyone concerned, in order of arrival."""
        return list(dict.fromkeys((*self.causes, *sorted(self.forced | self.rescoring | self.redeciding))))

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a customer nor an offset to move."""
        return not self.customer_ids and self.changes is None and not self.rescored


@dataclass(frozen=True)
class Findings:
    """All that a pass found, before it is stored."""

    batch: Batch
    assessed: Mapping[str, list[Assessed]]
    decided: list[Decided]
    standing: Mapping[str, Mapping[str, Standing]]
    shadow: list[tuple[str, str, str, int, float]]


@dataclass(frozen=True)
class Logs:
    """The logs that scoring tails."""

    events: LogReader
    changes: LogReader
    feature_segments: LogReader


class Consumer:
    """Steps of the writer's thread; each returns whether it did anything."""

    def __init__(
        self,
        store: Store,
        logs_: Logs,
        read_features: ReadFeatures,
        read_reached: ReadReached,
        table: Callable[[], FeatureTable],
        definitions: Sequence[ChurnDefinition],
        serving: Callable[[], Serving],
        decider: Decider,
        segments: ScoreSegments,
        fact_reader: FactReader,
        now_us: Callable[[], int],
        lag: StateLag,
        notify: Callable[[], None],
        *,
        batch: int = 256,
        threshold: float = 0.05,
        restored: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._logs = logs_
        self._read_features = read_features
        self._read_reached = read_reached
        self._table = table
        self._definitions = definitions
        self._serving = serving
        self._decider = decider
        self._segments = segments
        self._fact_reader = fact_reader
        self._now_us = now_us
        self._lag = lag
        self._notify = notify
        self._batch = batch
        self._threshold = threshold
        self._restored = restored
        self._scrub_due = True
        self._trails = trail_readers(definitions)
        with store.transaction() as tx:
            tx.add_catalogue(decider.catalogue.hash, msgspec.json.encode(decider.catalogue.kept))
        with store.reading() as snapshot:
            self._events = snapshot.offset(EVENTS)
            self._changes = snapshot.offset(CHANGES)
            self._segments_seen = snapshot.offset(FEATURE_SEGMENTS)
            self._traced = {reader.offset_name: snapshot.offset(reader.offset_name) for reader in self._trails}

    def step(self) -> bool:
        """Tail facts and memberships, then assess one batch."""
        if self._scrub_due:
            self._scrub_due = not self._store.scrub()
        tailed = self._tail_events()
        tailed = self._tail_segments() or tailed
        tailed = self._catch_up() or tailed
        self._watch()
        return self._score() or tailed

    def _watch(self) -> None:
        """Look once a second how far the state is, also when it stands still and brings no work."""
        if self._lag.is_due():
            with contextlib.suppress(Unavailable):
                self._lag.observe(self._events, *self._read_reached())

    # ---- tails

    def _tail_events(self) -> bool:
        entries = self._logs.events.read(self._events, EVENTS_PAGE)
        if not entries:
            return False
        records = [decode_record(entry.payload) for entry in entries]
        facts = self._fact_reader.collect(records)
        cursor = advance(self._events, entries)
        current = [reader for reader in self._trails if not self._is_behind(reader)]
        with self._store.transaction(erasing=bool(facts.erased)) as tx:
            if touched := sorted(tx.apply_facts(facts)):
                tx.enqueue(touched)
                self._withdraw(tx, touched)
            for reader in current:
                self._trace(tx, reader, records, cursor)
            for person in facts.erased:
                self._erase(tx, person)
            tx.move_offset(EVENTS, cursor)
            failpoints.hit("scoring.before_events_commit")
        failpoints.hit("scoring.after_events_commit")
        self._scrub_due = self._scrub_due or bool(facts.erased)
        self._events = cursor
        self._traced.update({reader.offset_name: cursor for reader in current})
        return True

    def _catch_up(self) -> bool:
        """Read a page again for the first definition whose trail is behind, as after it was declared or changed."""
        reader = next(filter(self._is_behind, self._trails), None)
        if reader is None:
            return False
        traced = self._traced[reader.offset_name]
        page = self._logs.events.read(traced, EVENTS_PAGE)
        entries = [entry for entry in page if entry.position.number <= self._events.get(entry.position.lane, 0)]
        records = [decode_record(entry.payload) for entry in entries if entry.payload]
        cursor = advance(traced, entries)
        with self._store.transaction() as tx:
            if not traced:
                reader.begin(tx.connection)
            self._trace(tx, reader, records, cursor)
            name = reader.definition.model_name
            if not is_behind(cursor, self._events) and tx.rescoring(name).version is not None:
                tx.set_rescoring(name, EVERYBODY_AGAIN, None)
        self._traced[reader.offset_name] = cursor
        return True

    def _trace(self, tx: Transaction, reader: TrailReader, records: Sequence[LogRecord], cursor: Cursor) -> None:
        now_us = self._now_us()
        reader.fold(tx.connection, reader.collect(records, now_us), now_us)
        tx.move_offset(reader.offset_name, cursor)

    def _is_behind(self, reader: TrailReader) -> bool:
        return is_behind(self._traced[reader.offset_name], self._events)

    def _erase(self, tx: Transaction, person: Erased) -> None:
        """Remove a person, and tell whoever was told of a score that it ended, as when consent is withdrawn."""
        told = erasure_store.erase(tx.connection, person.customer_id, person.member_ids)
        now_us = self._now_us()
        tx.append_scores(
            [ended(person.customer_id, definition, now_us, had_score) for definition, had_score in told.items()],
            indexed=False,
        )

    def _withdraw(self, tx: Transaction, customer_ids: Sequence[str]) -> None:
        """End what stands for customers who now deny it, in the transaction that moves past their statement."""
        denied = tx.deniers(customer_ids)
        tx.withdraw_decisions(c for c, purposes in denied.items() if {"marketing", "profiling"} & set(purposes))
        withdrawn = [customer_id for customer_id, purposes in denied.items() if CHURN_PURPOSE in purposes]
        now_us = self._now_us()
        for definition in self._definitions:
            standing = tx.standing(withdrawn, definition.key)
            told = withdrawn if definition.primary else list(standing)
            assessed = [
                recorded(unavailable(c, definition.key, "CONSENT_WITHDRAWN", now_us), standing.get(c), self._threshold)
                for c in told
            ]
            self._save_scores(tx, assessed, standing)
        tx.withdraw_work(withdrawn)
        self._leave_segments(tx, withdrawn, now_us)

    def _leave_segments(self, tx: Transaction, customer_ids: Sequence[str], now_us: int) -> None:
        moves = self._segments.leaving(tx.memberships(customer_ids, "scoring"), now_us)
        tx.move_memberships(moves, "scoring")
        tx.append_segments(moves)

    def _tail_segments(self) -> bool:
        entries = self._logs.feature_segments.read(self._segments_seen, EVENTS_PAGE)
        if not entries:
            return False
        cursor = advance(self._segments_seen, entries)
        with self._store.transaction() as tx:
            moves = [_MOVED.decode(entry.payload) for entry in entries if entry.payload]
            tx.move_memberships(moves, "features")
            tx.move_offset(FEATURE_SEGMENTS, cursor)
            failpoints.hit("scoring.before_events_commit")
        failpoints.hit("scoring.after_events_commit")
        self._segments_seen = cursor
        return True

    # ---- taking work

    def _take(self, snapshot: Snapshot) -> Work:
        work = Work()
        self._take_changes(work)
        room = self._batch - len(work.causes)
        work.forced.update(snapshot.pending(max(room, 1)))
        self._take_rescoring(work, snapshot)
        room = self._batch - len(work.customer_ids)
        if room > 0:
            work.redeciding.update(snapshot.expired_decisions(self._now_us(), room))
        work.tickets = snapshot.tickets(work.customer_ids)
        work.forced.update(customer_id for customer_id, _ in work.tickets)
        return work

    def _take_changes(self, work: Work) -> None:
        taken: list[Entry] = []
        for entry in self._logs.changes.read(self._changes, CHANGES_PAGE):
            if not entry.payload:
                taken.append(entry)
                continue
            change = _CHANGE.decode(entry.payload)
            cause = change.cause
            if cause is not None and cause.number > self._events.get(cause.lane, 0):
                break
            if change.customer_id not in work.causes and len(work.causes) >= self._batch:
                break
            causes = work.causes.setdefault(change.customer_id, {})
            if cause is None or change.why != "event":
                work.forced.add(change.customer_id)
            if cause is not None:
                causes[cause.lane] = max(causes.get(cause.lane, 0), cause.number)
            taken.append(entry)
        if taken:
            work.changes = advance(self._changes, taken)

    def _take_rescoring(self, work: Work, snapshot: Snapshot) -> None:
        """A page of all known customers for a champion that they were not scored under yet, or EVERYBODY_AGAIN."""
        room = self._batch - len(work.customer_ids)
        if room <= 0:
            return
        for name in self._model_names():
            champion = self._serving().champion(name)
            progress = snapshot.rescoring(name)
            if champion is None or (progress.version == champion.version and progress.after is None):
                continue
            again = progress.version == EVERYBODY_AGAIN
            after = progress.after or "" if again or progress.version == champion.version else ""
            page = snapshot.customers_after(after, room)
            whose = work.redeciding if name == PROPENSITY_MODEL else work.forced if again else work.rescoring
            whose.update(page)
            more = page[-1] if len(page) == room else None
            work.rescored[name] = (EVERYBODY_AGAIN if again and more else champion.version, more)
            return

    def _model_names(self) -> list[str]:
        return [*(definition.model_name for definition in self._definitions), PROPENSITY_MODEL]

    # ---- one pass

    def _score(self) -> bool:
        if not self._restored():  # else what stands would end for want of a model that is only being loaded
            return False
        if self._definitions[0].key in self._behind():
            return False
        with self._store.reading() as snapshot:
            work = self._take(snapshot)
        if work.is_empty:
            return False
        serving = self._serving()
        with self._store.reading() as snapshot:
            findings = self._find(work, snapshot, serving)
        if findings is None:
            return False
        with self._store.transaction() as tx:
            self._save(tx, findings, work)
            failpoints.hit("scoring.before_commit")
        failpoints.hit("scoring.after_commit")
        if work.changes is not None:
            self._changes = work.changes
        self._notify()
        return True

    def _find(self, work: Work, snapshot: Snapshot, serving: Serving) -> Findings | None:
        """Read and assess; null while the state has not passed a cause, or lags so far that it is stale."""
        now_us = self._now_us()
        block = self._read_features(work.customer_ids, self._needed(serving), now_us)
        if self._lag.is_stale(block.pos) or _behind(block, work.causes.values()):
            return None
        served = self._served(snapshot, serving)
        standing = {one.key: snapshot.standing(work.customer_ids, one.key) for one, _ in served}
        customer_ids, waiting = self._to_assess(work, served, standing, snapshot)
        batch = Batch(customer_ids, snapshot.facts([*customer_ids, *waiting]), block, now_us)
        trails = {one.key: self._trails_of(snapshot, one, customer_ids) for one, _ in served}
        assessed = {
            one.key: assess(batch, one, model, standing[one.key], self._threshold, trails[one.key])
            for one, model in served
        }
        first = self._definitions[0].key
        stood = [_standing_still(waiter, standing[first].get(waiter), first, now_us) for waiter in waiting]
        primary = [*assessed[first], *stood]
        stand = snapshot.standing_decisions([*customer_ids, *waiting])
        decided = self._decider.decide(batch, primary, serving.champion(PROPENSITY_MODEL), stand)
        return Findings(batch, assessed, decided, standing, self._shadow(batch, assessed, serving))

    def _served(self, snapshot: Snapshot, serving: Serving) -> Served:
        """The primary definition, and those that have a model, or had one whose scores must end.

        Not those whose trail is behind: who is eligible is not known yet, and what stands goes on standing.
        """
        behind = self._behind()
        found: Served = []
        for definition in self._definitions:
            champion = serving.champion(definition.model_name)
            served = champion or snapshot.rescoring(definition.model_name).version is not None
            if definition.primary or (served and definition.key not in behind):
                found.append((definition, champion))
        return found

    def _behind(self) -> set[str]:
        """Definitions whose trail has not seen all that was tailed."""
        return {reader.definition.key for reader in self._trails if self._is_behind(reader)}

    def _trails_of(
        self, snapshot: Snapshot, definition: ChurnDefinition, customer_ids: Sequence[str]
    ) -> Mapping[str, Trail]:
        readers = (reader for reader in self._trails if reader.definition.key == definition.key)
        return {c: t for reader in readers for c, t in reader.trails(snapshot.connection, customer_ids).items()}

    def _to_assess(
        self, work: Work, served: Served, standing: Mapping[str, Mapping[str, Standing]], snapshot: Snapshot
    ) -> tuple[list[str], list[str]]:
        """Who is assessed, and who only gets decisions. Nobody merged away; nobody whose scores already cover it.

        All definitions are assessed in one pass, so that what covers the primary score covers the others.
        """
        gone = set(snapshot.memberless(work.customer_ids))
        primary = standing[self._definitions[0].key]

        def is_due(customer_id: str) -> bool:
            if customer_id in work.forced:
                return True
            if customer_id in work.causes and not covers(primary.get(customer_id), work.causes[customer_id]):
                return True
            stand = ((standing[one.key].get(customer_id), model) for one, model in served)
            return customer_id in work.rescoring and not all(is_of(found, model) for found, model in stand)

        found = [customer_id for customer_id in work.customer_ids if customer_id not in gone]
        due = [customer_id for customer_id in found if is_due(customer_id)]
        return due, sorted(work.redeciding.difference(due, gone))

    def _needed(self, serving: Serving) -> list[FeatureSpec]:
        keys = dict.fromkeys((*self._decider.features, *self._segments.features))
        for model in serving.models.values():
            keys.update(dict.fromkeys(model.document.features))
        return list(self._table().select(list(keys)))

    def _shadow(
        self, batch: Batch, assessed: Mapping[str, list[Assessed]], serving: Serving
    ) -> list[tuple[str, str, str, int, float]]:
        rows: list[tuple[str, str, str, int, float]] = []
        for definition in self._definitions:
            model, found = serving.shadow(definition.model_name), assessed.get(definition.key, [])
            scored = [one.customer_id for one in found if isinstance(one.assessment, ChurnScore)]
            if model is None or not scored:
                continue
            chances = model.probabilities(batch.block.matrix(scored, model.features)).tolist()
            rows.extend(
                (customer_id, definition.key, model.version, batch.now_us, probability)
                for customer_id, probability in zip(scored, chances, strict=True)
            )
        return rows

    # ---- storing

    def _save(self, tx: Transaction, findings: Findings, work: Work) -> None:
        changed: dict[str, dict[str, float]] = {}
        for key, assessed in findings.assessed.items():
            changed[key] = self._save_scores(tx, assessed, findings.standing[key])
        self._save_work_list(tx, findings, changed)
        self._save_segments(tx, findings)
        tx.add_shadow_scores(findings.shadow)
        for one in findings.decided:
            tx.add_decision(one.decision, one.situation, one.fingerprint)
        gone = tx.memberless(work.customer_ids)
        tx.forget(gone)
        self._leave_segments(tx, gone, findings.batch.now_us)
        tx.settle(work.tickets)
        for name, (version, after) in work.rescored.items():
            tx.set_rescoring(name, version, after)
        if work.changes is not None:
            tx.move_offset(CHANGES, work.changes)

    def _save_scores(
        self, tx: Transaction, assessed: Sequence[Assessed], standing: Mapping[str, Standing]
    ) -> dict[str, float]:
        """Append the records and let them stand; returns each score's change over 7 days."""
        records = [one.record for one in assessed if one.record is not None]
        numbers = tx.append_scores(records) if records else []
        changes = tx.changes_over_7_days([r.current for r in records if isinstance(r.current, ChurnScore)])
        rows: list[tuple[str, Standing]] = []
        for record, number in zip(records, numbers, strict=True):
            current = record.current
            before = standing.get(current.customer_id)
            last_update = record.current if record.is_update else before.last_update if before else None
            rows.append((current.customer_id, Standing(number, current, last_update, changes.get(current.customer_id))))
        tx.set_standing(rows)
        return changes

    def _save_work_list(self, tx: Transaction, findings: Findings, changed: Mapping[str, Mapping[str, float]]) -> None:
        tx.set_work_list(
            _work_row(one, changed[key].get(one.customer_id), findings.batch)
            for key, assessed in findings.assessed.items()
            for one in assessed
        )

    def _save_segments(self, tx: Transaction, findings: Findings) -> None:
        standing = tx.memberships(findings.batch.customer_ids, "scoring")
        moves = self._segments.moves(findings.batch, findings.assessed, standing)
        tx.move_memberships(moves, "scoring")
        tx.append_segments(moves)

    # ---- status

    def offsets(self) -> dict[str, Cursor]:
        """How far each log was consumed."""
        return {EVENTS: self._events, CHANGES: self._changes, FEATURE_SEGMENTS: self._segments_seen}

    def lags(self) -> dict[str, int]:
        """Records of each log that are not consumed yet."""
        pairs = (
            (EVENTS, self._logs.events, self._events),
            (CHANGES, self._logs.changes, self._changes),
            (FEATURE_SEGMENTS, self._logs.feature_segments, self._segments_seen),
        )
        return {name: _distance(reader.end(), cursor) for name, reader, cursor in pairs}

    def rescoring(self) -> dict[str, Rescoring]:
        """How far customers were re-scored, by registered model; nothing for a further definition without one."""
        further = {definition.model_name for definition in self._definitions if not definition.primary}
        serving = self._serving()
        with self._store.reading() as snapshot:
            found = {name: snapshot.rescoring(name) for name in self._model_names()}
        return {
            name: progress
            for name, progress in found.items()
            if name not in further or progress.version is not None or serving.champion(name)
        }


def _standing_still(customer_id: str, standing: Standing | None, definition: str, now_us: int) -> Assessed:
    """What stands, for a customer who is not assessed in this pass."""
    current = standing.current if standing else unavailable(customer_id, definition, "MODEL_UNAVAILABLE", now_us)
    return Assessed(customer_id, current, None)


def _distance(end: Cursor, cursor: Cursor) -> int:
    return sum(number - cursor.get(lane, 0) for lane, number in end.items())


def _behind(block: FeatureBlock, causes: Iterable[Cursor]) -> bool:
    return any(block.pos.get(lane, 0) < number for cause in causes for lane, number in cause.items())


def _work_row(one: Assessed, change: float | None, batch: Batch) -> WorkRow:
    score = one.assessment if isinstance(one.assessment, ChurnScore) else None
    return WorkRow(
        definition=one.assessment.definition,
        customer_id=one.customer_id,
        probability=score.probability if score else None,
        band=score.band if score else None,
        change_7_days=change,
        last_activity_us=batch.facts[one.customer_id].last_activity_us,
        scored_at_us=score.scored_at_us if score else None,
    )
