"""How far the state is behind the log, and for how long: what /internal/status says."""

from collections.abc import Callable

import msgspec
from vigie_contracts.reads import FeaturesStatus, ParityFigure
from vigie_kit.clock import Clock
from vigie_kit.log import LogReader
from vigie_kit.sqlite_log import LANE
from vigie_kit.worker import Worker
from vigie_tiles.schema import WATERMARK

from vigie_features.archive import Archive, behind
from vigie_features.folding import NEXT_FEATURES, next_applied
from vigie_features.store import Store

PARITY = "parity"
"""Setting: the last comparison of the engines."""
STALE_SECONDS = 60.0
STALE_SWEEP_SECONDS = 2 * 3_600.0


class Lag:
    """Measures seconds behind: since when (system time) the offset has not reached the log's end of that moment."""

    def __init__(self, system_seconds: Callable[[], float]) -> None:
        self._system_seconds = system_seconds
        self._seen: list[tuple[int, float]] = []

    def seconds(self, end: int, applied: int) -> float:
        """Age of the oldest end seen that is not applied yet; 0 when everything is."""
        now = self._system_seconds()
        self._seen = [(number, at) for number, at in self._seen if number > applied]
        if end > applied and (not self._seen or self._seen[-1][0] < end):
            self._seen.append((end, now))
        return round(now - self._seen[0][1], 3) if self._seen else 0.0


class StatusReport:
    """Puts the status together."""

    def __init__(
        self,
        store: Store,
        log: LogReader,
        archive: Archive,
        clock: Clock,
        is_rebuilt: Callable[[], bool],
        system_seconds: Callable[[], float],
    ) -> None:
        self._store = store
        self._log = log
        self._archive = archive
        self._clock = clock
        self._is_rebuilt = is_rebuilt
        self._lag = Lag(system_seconds)

    def report(self, workers: list[Worker]) -> FeaturesStatus:
        """The status now."""
        with self._store.snapshot() as snapshot:
            applied, watermark, counts = snapshot.applied(), snapshot.setting(WATERMARK), snapshot.counts()
            parity = snapshot.setting(PARITY)
            folded = {"next_features": {LANE: next_applied(snapshot)}} if snapshot.setting(NEXT_FEATURES) else {}
        end, archived = self._log.end(), self._archive.manifest.end
        compared = None if parity is None else msgspec.json.decode(parity, type=ParityFigure)
        seconds = self._lag.seconds(end.get(LANE, 0), applied)
        now_us, watermark_us = self._clock.now_us(), int(watermark) if watermark else None
        return FeaturesStatus(
            service="features",
            offsets={"events": {LANE: applied}, "log_end": end, "archive": archived, **folded},
            lag={
                "records": behind(end, {LANE: applied}),
                "seconds": seconds,
                "archive_records": behind(end, archived),
            },
            counts=counts,
            watermark_us=watermark_us,
            business_now_us=now_us,
            rebuilding=not self._is_rebuilt(),
            problems=self._problems(workers, seconds, now_us, watermark_us, compared),
            parity=compared,
        )

    def compared(self, figure: ParityFigure) -> ParityFigure:
        """Keep the last comparison of the engines."""
        with self._store.writing("features.parity_") as tx:
            tx.set(PARITY, msgspec.json.encode(figure).decode())
        return figure

    def _problems(
        self,
        workers: list[Worker],
        seconds: float,
        now_us: int,
        watermark_us: int | None,
        compared: ParityFigure | None,
    ) -> list[str]:
        found = [f"{worker.name}: {worker.last_error}" for worker in workers if worker.last_error is not None]
        if not self._is_rebuilt():
            found.append("the tiles are being rebuilt")
        if seconds > STALE_SECONDS:
            found.append(f"the state has been behind the log for {seconds:.0f} s: features are stale")
        if watermark_us is not None and self._clock.system_seconds(now_us - watermark_us) > STALE_SWEEP_SECONDS:
            found.append("the sweep has not finished for two hours: features are stale")
        if compared is not None and compared.mismatches:
            found.append(f"the last comparison of the engines found {compared.mismatches} values that differ")
        return found
