"""What a person sees of an import: lines at intervals where there is no terminal, and the report."""

import io

from rich.console import Console
from vigie_cli.import_report import LINE_SECONDS, ImportScreen, PlainProgress
from vigie_cli.importing import ImportReport, Progress, RowRefusal
from vigie_cli.importing.report import TableReport


def at(rows: int, *, table: str = "logins", total: int | None = 100_000, refused: int = 0) -> Progress:
    return Progress(table, f"{table}.csv", rows, total, rows - refused, 0, refused, 0)


def test_lines_come_at_the_beginning_at_intervals_and_at_the_end() -> None:
    said: list[str] = []
    instants = iter([0.0, 1.0, LINE_SECONDS, LINE_SECONDS + 1, 20.0, 40.0, 41.0])
    progress = PlainProgress(said.append, lambda: next(instants))
    for now in (
        at(5_000),
        at(10_000),
        at(55_000, refused=3),
        at(60_000),
        at(100_000),
        at(100_000),
        at(7, table="other", total=None),
    ):
        progress(now)
    assert said == [
        "logins: 5,000 of about 100,000 rows",
        "logins: 55,000 of about 100,000 rows, 5,000 rows/s, about 9 s left, 3 not accepted",
        "logins: 100,000 of about 100,000 rows, 4,750 rows/s",
        "other: 7 rows",
    ]


def test_the_report_tells_counts_reasons_examples_and_problems() -> None:
    table = TableReport(table="logins", file="logins.csv", rows=10, accepted=7, resumed_at=4)
    report = ImportReport(seconds=2.0, tables=[table], refused_files=["refused/logins.csv"], notes=["a note"])
    report.refuse(table, RowRefusal("logins.csv", 3, "n", "'x' is no number"))
    report.refuse(table, RowRefusal("logins.csv", 8, "n", "'y' is no number"))
    report.refuse(table, RowRefusal("logins.csv", 9, None, "ids are placeholders", "blocked_identity"))
    out = io.StringIO()
    ImportScreen(Console(file=out, width=140, soft_wrap=True)).show(report)
    told = out.getvalue()
    assert "Note: a note." in told
    assert "logins: went on after row 4; the figures are of the whole import." in told
    assert "10 rows in 2.0 s (3 rows/s); 0 left out by filters." in told
    assert "refused 2: logins.csv, column n: … is no number\n    logins.csv, row 3, column n: 'x' is no number" in told
    assert "quarantined 1: logins.csv: ids are placeholders" in told
    assert "The rows that were not accepted are in refused/logins.csv." in told
