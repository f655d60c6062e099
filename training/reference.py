"""Reference: rows that travel with a model: made-up ones that pin its figures, real ones for the drift report."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.model import Model
from training.training_set import TrainingSet
from training.trees import Forest

REFERENCE = "reference.parquet"
GOLDEN = 64
MOST = 5_000
HOLES = 0.15

Array = NDArray[np.float64]


def golden_rows(model: Model, values: Array, *, seed: int = 0) -> Array:
    """Made-up rows: every value drawn by itself between the ends of its column, some missing; nobody's own row.

    In half of the rows the columns that trees read as they are hold thresholds, where `<` and `<=` differ.

    Args:
        model: Whose.
        values: Training rows, shape (n_rows, n_features).
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    ends = [_ends(column[~np.isnan(column)]) for column in values.T]
    rows = np.column_stack([random.uniform(low, high, GOLDEN).round(3) for low, high in ends])
    for place, thresholds in _thresholds(model):
        rows[::2, place] = random.choice(thresholds, len(rows[::2]))
    rows[random.random(rows.shape) < HOLES] = np.nan
    return rows


def _thresholds(model: Model) -> Iterator[tuple[int, Array]]:
    """(column, what the trees compare it with)."""
    head, names, outputs = model.head, model.preparation.names, model.preparation.outputs
    if isinstance(head, Forest):
        inner = head.left >= 0
        for column in np.unique(head.feature[inner]):
            if outputs[column] in names:
                asked = head.value[inner & (head.feature == column)]
                yield names.index(outputs[column]), np.unique(asked).astype(np.float64)


def _ends(seen: Array) -> tuple[float, float]:
    if not len(seen):
        return 0.0, 1.0
    low, high = np.quantile(seen, [0.01, 0.99])
    return float(low), float(high)


def write_reference(folder: Path, model: Model, rows: TrainingSet, *, seed: int = 0) -> Path:
    """The newest cut's rows, at most MOST, without who and when: the features, the score, and the label.

    One row a person, the newest: what a drift test compares is persons.
    """
    last = np.flatnonzero(rows.parts == rows.parts.max())
    ranked = last[np.argsort(-rows.matrix.at[last], kind="stable")]
    newest = np.sort(ranked[np.unique(rows.matrix.users[ranked].astype(str), return_index=True)[1]])
    if len(newest) > MOST:
        newest = np.sort(np.random.default_rng(seed).choice(newest, MOST, replace=False))
    chosen = rows.take(newest)
    columns = {name: chosen.matrix.column(name) for name in model.preparation.names}
    frame = pl.DataFrame({**columns, "score": model.score(chosen.matrix).column()})
    if chosen.y is not None:
        frame = frame.with_columns(pl.Series("label", chosen.y))
    path = folder / REFERENCE
    frame.write_parquet(path, compression="zstd", statistics=False)
    return path
