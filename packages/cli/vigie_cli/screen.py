"""What a person sees: sentences, a spinner while something is awaited, tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from vigie_cli.addresses import NAMES
from vigie_cli.system import System, describe_clock


class Arrivals:
    """Shows what has arrived beside a spinner; call it with each name."""

    def __init__(self, status: Status, text: str) -> None:
        self._status = status
        self._text = text
        self._names: list[str] = []

    def __call__(self, name: str) -> None:
        self._names.append(name)
        self._status.update(f"{self._text}: {', '.join(self._names)}")

    def show(self, text: str) -> None:
        """Replace the text."""
        self._status.update(text)

    def close(self) -> None:
        """Take the spinner away."""
        self._status.stop()


class Screen:
    """Standard output for results, standard error for warnings."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()
        self._errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """A line of plain text."""
        self.console.print(escape(text))

    def title(self, text: str) -> None:
        """A line that begins a step."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def warn(self, text: str) -> None:
        """A line on standard error."""
        self._errors.print(escape(text), style="yellow")

    @contextmanager
    def waiting(self, text: str) -> Iterator[Arrivals]:
        """A spinner until the block ends."""
        with self.console.status(text) as status:
            yield Arrivals(status, text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
        """A table of texts."""
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(table, soft_wrap=False)

    def addresses(self, system: System) -> None:
        """Where everything is, and the keys."""
        where = system.addresses
        serves = {
            "gateway": f"{where.gateway}/graphql (in a browser: {where.gateway}/graphiql)",
            "ingest": f"{where.ingest}/v1/batch (Segment's shape)",
            "features": where.features,
            "scoring": where.scoring,
            "mlflow": f"{where.mlflow} (models and runs)",
        }
        rows = [(name, serves[name]) for name in NAMES]
        rows += [("API token", system.credentials.api_token), ("write key", system.credentials.write_key)]
        rows += [("data", str(system.data)), ("clock", describe_clock(system.installation.clock))]
        rows += [("logs", str(system.data / "logs"))]
        self.table(("part", "where"), rows, title="Vigie is up")


def _console() -> Console:
    """As wide as the terminal; 140 columns into a file, where nothing needs to fit a window."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=140)
