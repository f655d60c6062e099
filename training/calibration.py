"""Calibration: from a margin to the probability it has meant so far; plain numbers, learned from the validation cut."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.errors import BundleError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A monotone map of margins to probabilities.

    Attributes:
        method: `none` (the logistic function), `platt` (the logistic function of `slope * margin + intercept`) or
            `isotonic` (linear between the points `x`, `y`, level beyond them).
        slope: Of `platt`; one for all classes.
        intercept: Of `platt`.
        intercepts: Of `platt`, one a class where there are more than two.
        x: Of `isotonic`.
        y: Of `isotonic`.
    """

    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()

    def probability(self, margins: NDArray[np.float32] | Array) -> Array:
        """Probabilities, float64, in the shape of the margins: (n_rows,), or (n_rows, n_classes)."""
        wide = np.asarray(margins, np.float64)
        if wide.ndim == 2:
            return softmax(self.slope * wide + (np.array(self.intercepts) if self.intercepts else 0.0))
        if self.method == "isotonic":
            out = np.empty(len(wide))
            between(np.ascontiguousarray(wide), *self.points, out)
            return out
        return sigmoid(wide, slope=self.slope, intercept=self.intercept)

    @cached_property
    def points(self) -> tuple[Array, Array]:
        """Of `isotonic`, as the loop takes them."""
        return np.array(self.x, np.float64), np.array(self.y, np.float64)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        if self.method == "isotonic":
            return {"method": self.method, "x": list(self.x), "y": list(self.y)}
        if self.intercepts:
            return {"method": self.method, "slope": self.slope, "intercepts": list(self.intercepts)}
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The calibration that `to_dict` described.

        Raises:
            BundleError: an unknown method, or points that do not rise.
        """
        points = (tuple(float(each) for each in data.get(key, ())) for key in ("x", "y", "intercepts"))
        calibration = cls(data["method"], float(data.get("slope", 1.0)), float(data.get("intercept", 0.0)), *points)
        if calibration.method not in ("none", "platt", "isotonic"):
            raise BundleError(f"unknown calibration {calibration.method!r}.")
        if calibration.method == "isotonic" and (
            len(calibration.x) != len(calibration.y)
            or not calibration.x
            or (np.diff(calibration.x) <= 0).any()
            or (np.diff(calibration.y) < 0).any()
        ):
            raise BundleError("the points of the isotonic calibration do not rise.")
        return calibration


def sigmoid(values: Array, *, slope: float = 1.0, intercept: float = 0.0) -> Array:
    """The logistic function of `slope * values + intercept`, without overflow; shape (n_rows,)."""
    out = np.empty(len(values))
    logistic(np.ascontiguousarray(values, np.float64), slope, intercept, out)
    return out


@compiled
def logistic(margins: Array, slope: float, intercept: float, out: Array) -> None:
    """The logistic function of a line, without overflow."""
    for row in range(len(margins)):
        value = slope * margins[row] + intercept
        small = math.exp(-abs(value))
        out[row] = (1.0 if value >= 0 else small) / (1.0 + small)


@compiled
def between(margins: Array, x: Array, y: Array, out: Array) -> None:
    """On the straight lines between points, level beyond them, computed as numpy does."""
    for row in range(len(margins)):
        value, last = margins[row], len(x) - 1
        low, high = 0, last
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if x[middle] <= value else (low, middle)
        if np.isnan(value):
            out[row] = value
        elif value >= x[last]:
            out[row] = y[last]
        elif value <= x[0]:
            out[row] = y[0]
        elif value == x[low]:
            out[row] = y[low]
        else:
            out[row] = (y[low + 1] - y[low]) / (x[low + 1] - x[low]) * (value - x[low]) + y[low]


def softmax(values: Array) -> Array:
    """Exponentials that add up to one in every row, without overflow."""
    small = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(small / small.sum(axis=1, keepdims=True))
