"""What `vigie import` shows: a bar while it runs, and a report of what was refused and why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vigie_cli.importing import ImportReport, Progress
from vigie_cli.screen import Screen

SHOWN_REASONS = 10
SHOWN_REFUSALS = 10


class ImportScreen(Screen):
    """The screen of an import."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[Progress], None]]:
        """A bar for each table; yields what takes the progress."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"))
        tasks: dict[str, TaskID] = {}
        with Bars(*columns, TimeRemainingColumn(), console=self.console) as bars:

            def show(now: Progress) -> None:
                if now.table not in tasks:
                    tasks[now.table] = bars.add_task(now.table, total=now.total_rows)
                bars.update(tasks[now.table], completed=now.rows, total=now.total_rows)

            yield show

    def show(self, report: ImportReport) -> None:
        """The figures of each table, the speed, and the reasons of refusals with examples."""
        rows = [
            (table.table, table.file, *map(_figure, (table.rows, table.accepted, table.duplicates, table.refused)))
            for table in report.tables
        ]
        self.table(("table", "file", "rows", "accepted", "known already", "refused"), rows)
        speed = f"{report.records_per_second:,.0f} records/s"
        self.say(f"{report.rows:,} rows in {report.seconds:.1f} s ({speed}); {report.skipped:,} left out by filters.")
        for reason, count in report.reasons.most_common(SHOWN_REASONS):
            self.say(f"refused {count:,}: {reason}")
        for refusal in report.refusals[:SHOWN_REFUSALS]:
            self.say(f"  {refusal}")


def _figure(value: int) -> str:
    return f"{value:,}"
