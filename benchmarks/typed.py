"""What somebody who knows only BentoML's tutorial would write: the same trees behind a typed endpoint, as installed."""

import os
from pathlib import Path

import bentoml
import numpy as np


@bentoml.service(workers=1)
class Typed:
    """Rows of features in, probabilities out."""

    def __init__(self) -> None:
        import xgboost as xgb

        self.booster = xgb.Booster(model_file=Path(os.environ["ETHOGRAM_HOME"]) / "booster.json")

    @bentoml.api(route="/score")
    def score(self, rows: list[list[float | None]]) -> list[float]:
        """The trees' answer a row."""
        table = np.array([[np.nan if value is None else value for value in row] for row in rows], np.float32)
        return [float(each) for each in self.booster.inplace_predict(table)]
