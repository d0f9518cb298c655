"""`python -m vigie_features`: read the settings once, put the service together, serve until SIGTERM."""

import sys

from vigie_contracts.errors import VigieError
from vigie_kit import logs, server
from vigie_kit.settings import read

from vigie_features.compose import compose
from vigie_features.settings import FeaturesSettings


def main() -> int:
    """Serve; 0 after an orderly end, 2 when the settings or the data are wrong (said in a sentence)."""
    try:
        settings = read(FeaturesSettings)
        logs.configure("features", settings.log_level)
        app = compose(settings)
    except VigieError as error:
        sys.stderr.write(f"vigie features: {error.message}\n")
        return 2
    server.run(app, host=settings.host, port=settings.port)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
