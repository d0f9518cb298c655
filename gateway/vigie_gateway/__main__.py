"""`python -m vigie_gateway`: read the settings, serve until told to stop."""

import sys

from vigie_contracts.errors import VigieError
from vigie_kit import logs, server, settings

from vigie_gateway.app import create_app
from vigie_gateway.settings import Settings


def main() -> None:
    """Run the gateway; a wrong setting is one sentence and exit 2."""
    try:
        read = settings.read(Settings)
        logs.configure("gateway", read.log_level)
        app = create_app(read)
    except VigieError as error:
        sys.stderr.write(f"{error.message}\n")
        raise SystemExit(2) from error
    server.run(app, host=read.host, port=read.port)


if __name__ == "__main__":
    main()
