"""`python -m vigie_scoring`: read the settings once, put the service together, serve until SIGTERM."""

import sys

from vigie_contracts.errors import VigieError
from vigie_kit import logs, server
from vigie_kit.settings import read

from vigie_scoring.compose import compose
from vigie_scoring.settings import Settings


def main() -> int:
    """Serve; 0 after an orderly end, 2 when the settings or the data are wrong (said in a sentence)."""
    try:
        settings = read(Settings)
        logs.configure("scoring", settings.log_level)
        app = compose(settings)
    except VigieError as error:
        sys.stderr.write(f"vigie scoring: {error.message}\n")
        return 2
    server.run(app, host=settings.scoring_host, port=settings.scoring_port)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
