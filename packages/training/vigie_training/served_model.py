"""The logged model, as MLflow runs it anywhere: calibrated probabilities of feature columns. Needs no package of Vigie.

This file is copied into the model (models from code): no pickle. Artifacts: `booster` (UBJ), `document` (vigie.json).
"""

import json
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import xgboost
from mlflow.models import set_model


class VigieModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Orders the columns as it was trained, predicts margins, maps them to probabilities."""

    def load_context(self, context: Any) -> None:
        """Read both artifacts."""
        with open(context.artifacts["document"], encoding="utf-8") as file:
            self.document = json.load(file)
        self.booster = xgboost.Booster({"nthread": 1}, model_file=context.artifacts["booster"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Probabilities, float64 (n,), of a data frame with one column a feature (null: NaN), in any order."""
        columns = self.document["features"] + self.document["offers"]
        rows = model_input[columns].to_numpy(dtype=np.float32, na_value=np.nan)
        margins = self.booster.inplace_predict(rows, predict_type="margin", missing=np.nan).astype(np.float64)
        calibrator = self.document["calibrator"]
        if calibrator["kind"] == "isotonic":
            return np.interp(margins, calibrator["x"], calibrator["y"])
        return 1 / (1 + np.exp(-np.clip(calibrator["a"] * margins + calibrator["b"], -700, 700)))


set_model(VigieModel())
