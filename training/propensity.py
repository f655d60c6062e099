"""Propensity: what is asked of a model's margins: leaks first, then calibration and threshold."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from features.document import Definition
from training.boosting import labels
from training.calibration import Calibration, sigmoid
from training.step import MOST_ROWS
from training.training_set import TrainingSet

Array = NDArray[np.float64]
Method = Literal["platt", "isotonic", "none"]

LEAK = 0.95
"""A single feature that ranks better than this knows the answer."""


class Cost(Definition):
    """What a mistake costs, in any unit."""

    false_positive: float = Field(gt=0)
    false_negative: float = Field(gt=0)


def leaks(rows: TrainingSet, names: tuple[str, ...]) -> dict[str, float]:
    """Features that alone rank the training rows too well to be true: name and ROC-AUC, of a class against the rest."""
    every = max(1, len(rows) // MOST_ROWS)
    y, found = labels(rows)[::every], {}
    sides = [(y == place).astype(np.float64) for place in np.unique(y)[0 if rows.classes else 1 :]]
    for name in names:
        column = rows.matrix.column(name)[::every]
        filled = [np.where(np.isnan(column), fill, column) for fill in (-np.inf, np.inf)]
        best = max(area(side, each) for side in sides for each in filled)
        if best > LEAK:
            found[name] = best
    return found


def area(y: Array, score: Array) -> float:
    """ROC-AUC of a score, whichever way it points."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    n_pos = y.sum()
    found = ((middle[place] * y).sum() - n_pos * (n_pos + 1) / 2) / (n_pos * (len(y) - n_pos))
    return float(max(found, 1 - found))


def calibrate(method: Method, margins: NDArray[np.float32], y: Array) -> Calibration:
    """The map from margins to probabilities, learned from rows that grew no tree.

    Platt's two numbers come from Newton steps on his smoothed targets (Platt 1999; Lin, Lin and Weng 2007); of several
    classes one slope is learned for all, and what is added to each (Guo et al. 2017, with a bias).
    """
    if method == "none":
        return Calibration()
    if margins.ndim == 2:
        return _of_classes(margins.astype(np.float64), y.astype(np.int64))
    if method == "isotonic":
        return _isotonic(margins.astype(np.float64), y)
    n_pos = float(y.sum())
    target = np.where(y > 0, (n_pos + 1) / (n_pos + 2), 1 / (len(y) - n_pos + 2))
    slope, intercept = _line(margins.astype(np.float64), target)
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope <= 0:
        return Calibration()  # the margins do not rank these rows: nothing to learn from them
    return Calibration("platt", slope, intercept)


def _of_classes(margins: Array, y: NDArray[np.int64]) -> Calibration:
    from scipy.optimize import minimize

    rows, k = np.arange(len(y)), margins.shape[1]
    hit = np.zeros_like(margins)
    hit[rows, y] = 1.0

    def loss(at: Array) -> tuple[float, Array]:
        p = Calibration("platt", float(at[0]), intercepts=tuple(at[1:])).probability(margins)
        gap = p - hit
        slopes = np.concatenate([[(gap * margins).sum()], gap.sum(axis=0) + at[1:]])
        return float(-np.log(np.maximum(p[rows, y], 1e-300)).sum() + (at[1:] @ at[1:]) / 2), slopes

    found = minimize(loss, np.concatenate([[1.0], np.zeros(k)]), jac=True, method="L-BFGS-B")
    slope, *intercepts = found.x.tolist()
    return Calibration("platt", slope, intercepts=tuple(intercepts)) if slope > 0 else Calibration()


def _line(margins: Array, target: Array) -> tuple[float, float]:
    """Logistic regression on one column: Newton steps, halved while they make the loss worse."""
    design, weights = np.column_stack([margins, np.ones(len(margins))]), np.zeros(2)

    def loss(at: Array) -> float:
        line = design @ at
        return float((np.logaddexp(0.0, line) - target * line).sum())

    for _ in range(50):
        p = sigmoid(design @ weights)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (target - p))
        while loss(weights + step) > loss(weights) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _isotonic(margins: Array, y: Array) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(margins, y)
    least = 1 / (2 * len(y))  # never certain of what some thousands of rows suggest
    points = np.clip(fitted.y_thresholds_, least, 1 - least)
    return Calibration("isotonic", x=tuple(fitted.X_thresholds_.tolist()), y=tuple(points.tolist()))


def threshold(y: Array, p: Array, cost: Cost | None = None) -> float:
    """The probability from which on a row is chosen: the cheapest by declared costs, else the best F1 on these rows."""
    if cost is not None:
        return cost.false_positive / (cost.false_positive + cost.false_negative)
    order = np.argsort(-p, kind="stable")
    hits, chosen = np.cumsum(y[order]), np.arange(1, len(y) + 1)
    last = np.flatnonzero(np.concatenate([p[order][1:] != p[order][:-1], [True]]))
    f1 = 2 * hits[last] / (chosen[last] + y.sum())
    return float(p[order][last[int(f1.argmax())]])
