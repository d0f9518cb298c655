"""`python -m vigie_ingest`: one process, settings from the environment."""

import sys

from vigie_contracts.errors import VigieError
from vigie_kit import logs, server
from vigie_kit.settings import read

from vigie_ingest.app import create_app
from vigie_ingest.settings import Settings


def main() -> int:
    """Serve until SIGTERM; 1 with a sentence when it cannot start."""
    try:
        settings = read(Settings)
        logs.configure("ingest", settings.log_level)
        app = create_app(settings)
    except VigieError as error:
        print(f"ingest: {error.message}", file=sys.stderr)  # noqa: T201
        return 1
    server.run(app, host=settings.ingest_host, port=settings.ingest_port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
