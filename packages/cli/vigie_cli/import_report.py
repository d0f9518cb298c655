"""What `vigie import` shows: a bar or plain lines while it runs, and a report of what was not accepted and why."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from vigie_cli.importing import ImportReport, Progress
from vigie_cli.screen import Screen

SHOWN_REASONS = 10
LINE_SECONDS = 10.0


class PlainProgress:
    """A line for each table when it begins to move, at intervals, and when it is through: for logs and pipes."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._table = ""
        self._began = self._told = 0.0
        self._first_rows = 0
        self._rows = -1

    def __call__(self, now: Progress) -> None:
        """Take the progress."""
        at = self._clock()
        if now.table != self._table:
            self._table, self._began, self._first_rows = now.table, at, now.rows
        elif now.rows == self._rows or (at - self._told < LINE_SECONDS and now.rows != now.total_rows):
            return
        self._told, self._rows = at, now.rows
        self._say(self._line(now, at - self._began))

    def _line(self, now: Progress, seconds: float) -> str:
        total = f" of about {now.total_rows:,}" if now.total_rows else ""
        parts = [f"{now.table}: {now.rows:,}{total} rows"]
        rate = (now.rows - self._first_rows) / seconds if seconds > 0 else 0.0
        if rate > 0:
            parts.append(f"{rate:,.0f} rows/s")
            left = max((now.total_rows or 0) - now.rows, 0)
            if left:
                parts.append(f"about {_duration(left / rate)} left")
        if now.refused:
            parts.append(f"{now.refused:,} not accepted")
        return ", ".join(parts)


class ImportScreen(Screen):
    """The screen of an import."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[Progress], None]]:
        """Yields what takes the progress: a bar for each table on a terminal, else lines at intervals."""
        if not self.console.is_terminal:
            yield PlainProgress(self.say)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), _Speed())
        tasks: dict[str, TaskID] = {}
        with Bars(*columns, TimeRemainingColumn(), console=self.console, speed_estimate_period=60.0) as bars:

            def show(now: Progress) -> None:
                if now.table not in tasks:
                    tasks[now.table] = bars.add_task(now.table, total=now.total_rows)
                bars.update(tasks[now.table], completed=now.rows, total=now.total_rows)

            yield show

    def show(self, report: ImportReport) -> None:
        """The figures of each table, the speed, and the reasons with their first examples."""
        for note in report.notes:
            self.say(f"Note: {note}.")
        for table in report.tables:
            if table.resumed_at:
                self.say(f"{table.table}: went on after row {table.resumed_at:,}; the figures are of the whole import.")
        rows = [
            (t.table, t.file, *map(_figure, (t.rows, t.accepted, t.duplicates, t.quarantined, t.refused)))
            for t in report.tables
        ]
        accepted = "would be accepted" if report.dry_run else "accepted"
        known = "repeated ids" if report.dry_run else "known already"
        self.table(("table", "file", "rows", accepted, known, "quarantined", "refused"), rows)
        self.say(
            f"{report.rows:,} rows in {report.seconds:.1f} s ({report.rows_per_second:,.0f} rows/s);"
            f" {report.skipped:,} left out by filters."
        )
        self._reasons(report)
        for path in report.refused_files:
            self.say(f"The rows that were not accepted are in {path}.")
        for problem in report.problems:
            self.warn(problem)

    def _reasons(self, report: ImportReport) -> None:
        for verdict in ("refused", "quarantined"):
            found = report.reasons("refused" if verdict == "refused" else "quarantined")
            for file, reason in found[:SHOWN_REASONS]:
                column = f", column {reason.column}" if reason.column else ""
                self.say(f"{verdict} {reason.count:,}: {file}{column}: {reason.reason}")
                for example in reason.examples:
                    self.say(f"    {example}")
            if len(found) > SHOWN_REASONS:
                self.say(f"… and {len(found) - SHOWN_REASONS} more reasons; --report FILE.json has them all.")


class _Speed(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate over the last minute."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def _figure(value: int) -> str:
    return f"{value:,}"
