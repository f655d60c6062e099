"""Fitting: what comes of a study's rows, a judged model; nothing here knows where runs and files are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.search import Found
from experiments.studies import Spec
from training.model import Model
from training.training_set import TrainingSet
from training.validation import Estimate, Figures

Array = NDArray[np.float64]
Searcher = Callable[..., Found]
"""`search.search` with everything but the objective, the space and the direction filled in."""

MODEL = "model"


@dataclass(frozen=True)
class Influence:
    """What a column does to the margins.

    Attributes:
        size: Mean absolute contribution (SHAP), log-odds.
        towards: Rank correlation of its value with its contribution.
        values: Shape (n_rows,).
        parts: Shape (n_rows,), its contributions.
    """

    size: float
    towards: float
    values: NDArray[np.float32]
    parts: Array


@dataclass(frozen=True)
class Fitted:
    """A judged model.

    Attributes:
        model: The model.
        trees: XGBoost's JSON, of a propensity.
        found: What the search tried.
        metrics: Figures for the run, by name.
        figures: Of a propensity: test figures per model, ours first.
        differences: Of a propensity: ours minus each baseline's, paired.
        influence: Of a propensity: what moves its margins, the most first.
        refused: Why it must not be promoted.
        judged: Of a propensity: the rows that were judged.
        predictions: Of a propensity: per model the probabilities of these rows.
        spread: Of a propensity: per model and metric, mean and standard deviation over seeds, where there are several.
        known_later: Per column that is not known when predicting, what it would have seemed to be worth.
        verdict: One sentence.
        sound: False where the study refuses its own result.
        lines: What else a reader wants to see.
        draw: Draws the pictures into a folder.
    """

    model: Model
    trees: str
    found: Found
    metrics: Mapping[str, float]
    verdict: str
    sound: bool
    lines: tuple[str, ...]
    draw: Callable[[Path], list[Path]]
    figures: Mapping[str, Figures] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    influence: Mapping[str, Influence] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    judged: TrainingSet | None = None
    predictions: Mapping[str, Array] = field(default_factory=dict)
    spread: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    known_later: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def columns(spec: Spec, rows: TrainingSet) -> tuple[str, ...]:
    """The study's features."""
    return rows.matrix.names if spec.features == "all" else tuple(spec.features)


def details(spec: Spec, rows: TrainingSet, found: Found) -> dict[str, Any]:
    """What a reader of a model wants to know."""
    return {
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "training_set": dict(rows.provenance),
        "params": dict(found.best.params),
        "trials": len(found.trials),
    }
