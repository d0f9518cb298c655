"""`python -m tests.integration.promotion_process DATA MLFLOW_URI promote NAME VERSION` or `… rollback NAME`."""

import sys
from pathlib import Path

from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_training import main

if __name__ == "__main__":
    data, uri, action, name, *version = sys.argv[1:]
    clock = Clock(installation.load(Path(data)).clock)
    if action == "promote":
        main.promote(
            name, data=Path(data), mlflow_uri=uri, clock=clock, who="tester", version=version[0], override="a test"
        )
    else:
        main.rollback(name, data=Path(data), mlflow_uri=uri, clock=clock, who="tester")
