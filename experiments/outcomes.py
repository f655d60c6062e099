"""Outcomes: are predictions still as good as they were? Labels alone see that the meaning of a feature changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.arms import read
from experiments.drift import DriftReport, Finding, compare, joined
from experiments.inference import two_sided
from experiments.shift import Shift
from experiments.tables import MOST_VALUES, numbers
from features.errors import AnalysisError, nearest

Array = NDArray[np.float64]

FLOORS = {"roc_auc": 0.02, "brier": 0.01, "bias": 0.02}
"""Changes that do not matter."""
SAID = {"roc_auc": "ROC-AUC", "brier": "Brier score", "bias": "mean prediction minus share of positives"}
FEWEST = 10
"""Rows of each class that a side needs for its predictions to be judged."""
TREES, LEAF, FOLDS = 200, 10, 5
LIMITS = (
    "this holds only while features mean what they meant: no label was looked at, so a change of meaning is not seen"
)


def compare_files(
    reference: Path,
    current: Path,
    *,
    label: str | None = None,
    prediction: str | None = None,
    leave_out: Sequence[str] = (),
    user: str | None = None,
) -> DriftReport:
    """One file against another, once: whether a change persists was not judged.

    Args:
        reference: CSV, TSV or Parquet, gzipped or not.
        current: The same columns, later.
        label: Column of outcomes, 0 and 1 or true and false; where there is no prediction, a forest learns one from the
            reference.
        prediction: Column of predicted probabilities.
        leave_out: Columns that are not looked at, such as times.
        user: Column of user ids: the last row of each counts.

    Raises:
        AnalysisError: a file cannot be read, a column is missing, or a label or prediction is none.
    """
    before, after = read(reference), read(current)
    for name in filter(None, (label, prediction, user, *leave_out)):
        for frame, path in ((before, reference), (after, current)):
            if name not in frame.columns:
                raise AnalysisError(f"{path.name} has no column {name!r}. {nearest(name, frame.columns)}")
    sides, categories = _as_numbers(before.drop(leave_out), after.drop(leave_out), user)
    said = compare(*sides, scores=[prediction] if prediction else [], categories=categories, user=user)
    if label is None:
        told = [] if prediction is None else [expected_of(prediction, *(_probabilities(s, prediction) for s in sides))]
        return replace(said, notes=tuple(told))
    y = [_labels(side, label) for side in sides]
    inputs = [side.drop([label, *([user] if user else [])]) for side in sides]
    p = [_probabilities(side, prediction) for side in sides] if prediction else _learned(inputs[0], inputs[1], y[0])
    found = tuple(performance(y[0], p[0], y[1], p[1]))
    notes = (expected_of(prediction or "a forest", p[0], p[1]),)
    return joined([said, DriftReport(said.reference, said.current, found, notes=notes)])


def performance(
    y_before: Array, p_before: Array, y_after: Array, p_after: Array, *, name: str = "prediction"
) -> list[Finding]:
    """How well predictions rank, how far off they are, and whether their mean is right, on both sides.

    Args:
        y_before: Shape (n,), 0 or 1.
        p_before: Shape (n,), probabilities.
        y_after: Shape (m,).
        p_after: Shape (m,).
        name: Of the prediction.
    """
    enough = all(FEWEST <= y.sum() <= len(y) - FEWEST for y in (y_before, y_after))
    if not enough:
        return []
    sides = [(y_before, p_before), (y_after, p_after)]
    figures = {
        "roc_auc": [area(y, p) for y, p in sides],
        "brier": [_mean((p - y) ** 2) for y, p in sides],
        "bias": [_mean(p - y) for y, p in sides],
    }
    return [_change(name, of, before, after) for of, (before, after) in figures.items()]


def area(y: Array, p: Array) -> tuple[float, float]:
    """ROC-AUC and its standard error (DeLong et al. 1988), ties counted as halves; both kinds of rows are needed."""
    positive, negative = p[y == 1], p[y == 0]
    ranks, m, n = rankdata(np.concatenate([positive, negative])), len(positive), len(negative)
    beaten = (ranks[:m] - rankdata(positive)) / n
    beating = 1 - (ranks[m:] - rankdata(negative)) / m
    return float(beaten.mean()), float(np.sqrt(beaten.var(ddof=1) / m + beating.var(ddof=1) / n))


def _mean(values: Array) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def expected(p: Array) -> dict[str, float]:
    """What performance is if the probabilities are true, without any label: ROC-AUC, Brier score, share of positives.

    Every row counts as positive by its probability and as negative by the rest (confidence-based estimation).
    """
    p = np.sort(p)
    values, first, counts = np.unique(p, return_index=True, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(1 - p)])[first]
    won = float((counts * values * (below + counts * (1 - values) / 2)).sum())
    pairs = float(p.sum() * (1 - p).sum())
    area = won / pairs if pairs > 0 else float("nan")
    return {"roc_auc": area, "brier": float((p * (1 - p)).mean()), "positives": float(p.mean())}


def expected_of(name: str, before: Array, after: Array) -> str:
    """The estimate without labels on both sides, and its limits, in a sentence."""
    old, new = expected(before), expected(after)
    area = f"ROC-AUC {new['roc_auc']:.3f} (reference {old['roc_auc']:.3f})"
    share = f"{new['positives']:.1%} positives ({old['positives']:.1%})"
    return f"{name} is expected to have {area} and {share}; {LIMITS}"


def _change(name: str, of: str, before: tuple[float, float], after: tuple[float, float]) -> Finding:
    """A figure and its standard error on both sides."""
    error = float(np.hypot(before[1], after[1]))
    p = two_sided((after[0] - before[0]) / error) if error > 0 else 1.0
    effect = abs(after[0] - before[0])
    shift = Shift(name, "performance", before[0], after[0], p, effect, FLOORS[of], SAID[of])
    return Finding("labels", shift, p, (name.removeprefix("score_"),) if name.startswith("score_") else ())


def _as_numbers(before: pl.DataFrame, after: pl.DataFrame, user: str | None) -> tuple[list[pl.DataFrame], list[str]]:
    """Both sides as numbers, texts as codes that mean the same on both; and which columns those are."""
    categories, columns = [], []
    for name in before.columns:
        if name == user or name not in after.columns:
            columns += [name] if name == user else []
            continue
        pair = [numbers(frame[name]) for frame in (before, after)]
        if pair[0] is not None and pair[1] is None:  # what was a number is a text now
            after = after.drop(name)
            continue
        if any(each is None for each in pair):
            known = sorted({str(v) for frame in (before, after) for v in frame[name].drop_nulls().unique()})
            if len(known) > MOST_VALUES:
                continue
            codes = {value: float(place) for place, value in enumerate(known)}
            pair = [
                frame[name].cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.Float64)
                for frame in (before, after)
            ]
            categories.append(name)
        before, after = (
            frame.with_columns(each.alias(name))
            for frame, each in zip((before, after), pair, strict=True)
            if each is not None
        )
        columns.append(name)
    absent = [name for name in before.columns if name not in after.columns]
    kept = [
        before.select([*columns, *(pl.lit(None, pl.Float64).alias(name) for name in absent)]),
        after.select(columns),
    ]
    return kept, categories


def _labels(side: pl.DataFrame, label: str) -> Array:
    values = side[label].to_numpy().astype(np.float64)
    found = np.unique(values)
    if not np.isin(found, (0.0, 1.0)).all():
        raise AnalysisError(f"the label {label!r} is 0 and 1, or true and false. Got {found[:5].tolist()}.")
    return values


def _probabilities(side: pl.DataFrame, prediction: str) -> Array:
    values = side[prediction].to_numpy().astype(np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise AnalysisError(f"the prediction {prediction!r} is not a probability in every row.")
    return values


def _learned(before: pl.DataFrame, after: pl.DataFrame, y: Array) -> list[Array]:
    """What a forest that learned from the reference says of both sides, never of a row that it learned from."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    shared = [name for name in before.columns if name in after.columns]
    x = [side.select(shared).to_numpy().astype(np.float64) for side in (before, after)]
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, n_jobs=-1, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    own = cross_val_predict(forest, x[0], y, cv=folds, method="predict_proba")[:, 1]
    return [own, forest.fit(x[0], y).predict_proba(x[1])[:, 1]]
