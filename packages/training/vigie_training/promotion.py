"""Moving the alias champion: through the gate, openly against it, or back; each with its row in the ledger."""

from dataclasses import dataclass

import numpy as np
from vigie_contracts.errors import Conflict, IncompatibleData, InvalidInput, NotFound
from vigie_contracts.features import FeatureTable
from vigie_contracts.models import CHALLENGER, CHAMPION, ModelDocument
from vigie_kit import failpoints
from vigie_kit.database import transaction

from vigie_training import store
from vigie_training.evidence import ANYTHING_ELSE, COMPLEXITY_TAG, ONE_FEATURE, Evidence, TestSlice
from vigie_training.gate import Contest, GatePoint, GateReport, Verdict, judge
from vigie_training.registry import GATE_TAG, Registry, Version
from vigie_training.store import Ledger, LedgerRow
from vigie_training.train import CalibratedModel
from vigie_training.vectors import Matrix


@dataclass(frozen=True)
class Promoter:
    """Judges and moves on behalf of `who`, at the business instant `now_us`.

    `live` is the feature table that the tiles answer; null where no tiles are kept beside the data.
    """

    registry: Registry
    ledger: Ledger
    who: str
    now_us: int
    live: FeatureTable | None = None

    def promote(self, name: str, version: str | None = None, override: str | None = None) -> GateReport:
        """Judge a version (default: the challenger); when it holds, or with a reason to override, make it champion.

        A refusal is a report, not an error; it stands in the ledger too. NotFound: no such version, or no evidence.
        Conflict, whatever the override: it reads a feature that is not live yet, and would be scored on nulls.
        """
        if override is not None and not override.strip():
            raise InvalidInput("an override needs a reason; it will stand in the ledger")
        candidate = self._candidate(name, version)
        champion = self._rival(candidate)
        evidence, test = self.registry.evidence(candidate)
        self._check_live(candidate)
        contest = self._contest(candidate, champion, evidence, test)
        report = _report(candidate, champion, judge(evidence, contest, self.now_us), contest, evidence, override)
        self._settle(report)
        return report

    def rollback(self, name: str) -> LedgerRow:
        """Point champion back to the version before the current one. Conflict when the ledger knows none.

        Where the alias and the ledger differ, as after a kill between the two, a rollback that had begun is finished,
        and any other move of the alias is taken back.
        """
        current = self.registry.by_alias(name, CHAMPION)
        if current is None:
            raise NotFound(f"{name} has no champion to roll back from")
        recorded = self._recorded(name)
        from_version, to_version = current.version, recorded
        if recorded is None or recorded == current.version:
            to_version = self._before(name, current.version)
        elif self._before(name, recorded) == current.version:
            from_version, to_version = recorded, current.version
        if to_version is None:
            raise Conflict(f"the ledger knows no champion of {name} before version {current.version}")
        row = LedgerRow(
            at_us=self.now_us,
            who=self.who,
            name=name,
            action="rollback",
            from_version=from_version,
            to_version=to_version,
            verdict="rolled back",
        )
        self._move(row)
        return row

    def _check_live(self, candidate: Version) -> None:
        if self.live is None:
            return
        try:
            _, document = self.registry.model(candidate)
        except (NotFound, IncompatibleData):  # of another make: the gate says so
            return
        wanted = zip(document.features, document.definition_hashes, strict=True)
        held = {row.key: row.definition_hash for row in self.live.features}
        missing = [key for key, digest in wanted if held.get(key) != digest]
        if missing:
            raise Conflict(
                f"{candidate.name} version {candidate.version} reads {', '.join(missing)}, which is not live;"
                " run `vigie features apply`, and promote it when that says that everything is live"
            )

    def _rival(self, candidate: Version) -> Version | None:
        """The champion; the recorded one where the alias has moved to the candidate but a kill kept the row out."""
        champion = self.registry.by_alias(candidate.name, CHAMPION)
        if champion is None or champion.version != candidate.version:
            return champion
        recorded = self._recorded(candidate.name)
        if recorded == candidate.version:
            raise Conflict(f"{candidate.name} version {candidate.version} is champion already")
        return None if recorded is None else self.registry.version(candidate.name, recorded)

    def _recorded(self, name: str) -> str | None:
        """The champion by the ledger."""
        moves = [row.to_version for row in self.ledger.rows(name) if row.verdict != "refused"]
        return moves[-1] if moves else None

    def _before(self, name: str, version: str) -> str | None:
        promoted = [
            row.from_version for row in self.ledger.rows(name)
            if row.action == "promote" and row.verdict != "refused" and row.to_version == version
        ]  # fmt: skip
        return promoted[-1] if promoted else None

    def _candidate(self, name: str, version: str | None) -> Version:
        if version is not None:
            return self.registry.version(name, version)
        found = self.registry.by_alias(name, CHALLENGER)
        if found is None:
            raise NotFound(f"{name} has no version with the alias {CHALLENGER}; run `vigie train` or give --version")
        return found

    def _contest(
        self, candidate: Version, champion: Version | None, evidence: Evidence, test: TestSlice
    ) -> Contest | str:
        """The challenger as it is stored predicts its own test vectors again, and so does the champion."""
        try:
            challenger = predict(*self.registry.model(candidate), evidence, test)
            rival, rival_name, complexity = test.floor, f"the floor ({evidence.floor})", ONE_FEATURE
            if champion is not None:
                rival = predict(*self.registry.model(champion), evidence, test)
                rival_name = f"champion version {champion.version}"
                complexity = int(champion.tags.get(COMPLEXITY_TAG, ANYTHING_ELSE))
        except (NotFound, IncompatibleData) as error:
            return error.message
        return Contest(
            labels=test.rows.labels.astype(np.float64),
            customers=test.rows.codes,
            challenger=challenger,
            rival=rival,
            rival_name=rival_name,
            rival_complexity=complexity,
        )

    def _settle(self, report: GateReport) -> None:
        row = LedgerRow(
            at_us=self.now_us,
            who=self.who,
            name=report.model_name,
            action="promote",
            from_version=report.champion_before,
            to_version=report.version,
            verdict=report.verdict,
            reason=report.override,
            evidence=report,
        )
        self.registry.tag(report.model_name, report.version, GATE_TAG, report.verdict)
        if report.promoted:
            self._move(row)
        else:
            with transaction(self.ledger.engine) as conn:
                store.write(conn, row)

    def _move(self, row: LedgerRow) -> None:
        """The row is committed only when the alias has moved; moving it again after a crash changes nothing."""
        with transaction(self.ledger.engine) as conn:
            store.write(conn, row)
            self.registry.point(row.name, CHAMPION, row.to_version)
            failpoints.hit("training.before_commit")
        failpoints.hit("training.after_commit")


def predict(model: CalibratedModel, document: ModelDocument, evidence: Evidence, test: TestSlice) -> Matrix:
    """A model's probabilities of stored test vectors. IncompatibleData when it reads features that were not stored."""
    places = {pair: place for place, pair in enumerate(evidence.stored)}
    wanted = list(zip(document.features, document.definition_hashes, strict=True))
    missing = [key for key, hash_ in wanted if (key, hash_) not in places]
    if missing:
        raise IncompatibleData(
            f"a model reads {', '.join(missing[:3])} by another definition than the test slice holds"
        )
    inputs = test.vectors[:, [places[pair] for pair in wanted]]
    if document.offers:
        asked = np.asarray(test.rows.offers, dtype=str)
        inputs = np.hstack([inputs, (asked[:, None] == np.array(document.offers)[None, :]).astype(np.float64)])
    return model.probabilities(inputs)


def _report(
    candidate: Version,
    champion: Version | None,
    points: list[GatePoint],
    contest: Contest | str,
    evidence: Evidence,
    override: str | None,
) -> GateReport:
    refused = any(point.status == "refused" for point in points)
    verdict: Verdict = "held" if not refused else "overridden" if override else "refused"
    return GateReport(
        model_name=candidate.name,
        version=candidate.version,
        compared_with=contest.rival_name if isinstance(contest, Contest) else evidence.floor,
        champion_before=champion.version if champion else None,
        verdict=verdict,
        promoted=verdict != "refused",
        points=points,
        override=override if verdict == "overridden" else None,
    )
