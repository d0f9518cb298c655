"""What tests.warm imports before it forks: the programs, and what they would import later."""

import vigie_cli.main
import vigie_cli.modelling
import vigie_features.__main__
import vigie_gateway.__main__
import vigie_ingest.__main__
import vigie_scoring.__main__
import vigie_training.main
import xgboost

__all__ = ["vigie_cli", "vigie_features", "vigie_gateway", "vigie_ingest", "vigie_scoring", "vigie_training", "xgboost"]
