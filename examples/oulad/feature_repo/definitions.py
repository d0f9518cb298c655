"""Feast's objects of this repository, for stock `feast apply`: generated from features.toml alone."""

import os
from pathlib import Path

from vigie_tiles.registration import feast_objects

data = Path(os.environ.get("VIGIE_DATA", ""))
if not data.is_absolute():
    raise SystemExit("Set VIGIE_DATA to Vigie's data directory as an absolute path, for example VIGIE_DATA=$PWD/.vigie")

customer, customer_tiles, *services = feast_objects(data, Path(__file__).resolve().parent)
everything, churn, next_best_offer = services
