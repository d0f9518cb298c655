"""The `vigie` command: a list of commands that are imported only when they run, and errors as sentences."""

import importlib
import os
import sys
import warnings
from typing import NoReturn

import click
from vigie_contracts.errors import VigieError

COMMANDS = {
    "init": "vigie_cli.commands.init:init",
    "up": "vigie_cli.commands.up:up",
    "down": "vigie_cli.commands.down:down",
    "status": "vigie_cli.commands.status:status",
    "doctor": "vigie_cli.commands.doctor:doctor",
    "demo": "vigie_cli.commands.demo:demo",
    "simulate": "vigie_cli.commands.simulate:simulate",
    "import": "vigie_cli.commands.importing:import_",
    "catalogue": "vigie_cli.commands.catalogue:catalogue",
    "features": "vigie_cli.commands.features:features",
    "segments": "vigie_cli.commands.segments:segments",
    "replay": "vigie_cli.commands.replay:replay",
    "churn": "vigie_cli.commands.churn:churn",
    "train": "vigie_cli.commands.models:train",
    "models": "vigie_cli.commands.models:models",
    "promote": "vigie_cli.commands.models:promote",
    "rollback": "vigie_cli.commands.models:rollback",
    "sources": "vigie_cli.commands.sources:sources",
    "quarantine": "vigie_cli.commands.quarantine:quarantine",
    "identity": "vigie_cli.commands.identity:identity",
    "erase": "vigie_cli.commands.privacy:erase",
    "subject": "vigie_cli.commands.privacy:subject",
    "bench": "vigie_cli.commands.bench:bench",
}
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for: `vigie status` need not wait for Feast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a first day with Vigie."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def vigie() -> None:
    """Vigie looks out for customers who are about to leave, and for what to offer them."""


def main() -> NoReturn:
    """Run a command: exit code 0, 1 with a sentence when something failed, 2 when the command line is wrong."""
    _quieten_libraries()
    try:
        code = vigie.main(prog_name="vigie", standalone_mode=False)  # what a command gave to Exit, None otherwise
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except VigieError as error:
        sys.stderr.write(f"vigie: {error.message}\n")
        sys.exit(1)
    except click.ClickException as error:
        sys.stderr.write(f"vigie: {error.format_message()}\n")
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("vigie: interrupted\n")
        sys.exit(INTERRUPTED)
    except OSError as error:
        sys.stderr.write(f"vigie: {error}\n")
        sys.exit(1)
    sys.exit(code)


def _quieten_libraries() -> None:
    """Warnings and notices of libraries are for developers, who ask for them with -W or PYTHONWARNINGS."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
