"""Assigner: what a request asks of clusters: which one is nearest, and how surely; arrays and compiled loops alone.

Nearest is the least distance to a few points, or what a mixture of distributions makes least improbable.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.errors import BundleError

Array = NDArray[np.float64]


class Assigner(Protocol):
    """Fitted clusters over prepared columns; every row depends on itself alone, to the bit."""

    FILE: ClassVar[str]
    """Its file in a model's folder."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described, or a BundleError."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""

    def __len__(self) -> int:
        """Clusters."""

    @property
    def n_features(self) -> int:
        """Columns that a row must have."""

    def distances(self, x: Array) -> Array:
        """How far every row is from every cluster, shape (n_rows, n_clusters); its own unit, less is nearer."""

    def confidence(self, distances: Array) -> Array:
        """How surely the nearest is the right one, shape (n_rows,), up to 1."""


def nearest(distances: Array) -> NDArray[np.int64]:
    """The nearest cluster of each row; of equally near ones the first."""
    places: NDArray[np.int64] = distances.argmin(axis=1)
    return places


def rows_of(x: Array, n_features: int) -> Array:
    """The rows as a loop takes them, or a BundleError where they have another width."""
    if x.ndim != 2 or x.shape[1] != n_features:
        raise BundleError(f"the clusters need {n_features} columns. Got an array of shape {x.shape}.")
    return np.ascontiguousarray(x, dtype=np.float64)


def tables(data: Mapping[str, Any], file: str, **n_axes: int) -> list[Array]:
    """Finite arrays of a file by name, each with so many axes, or a BundleError."""
    try:
        found = [np.array(data[name], np.float64) for name in n_axes]
    except (KeyError, TypeError, ValueError):
        raise BundleError(f"{file} holds no tables {', '.join(n_axes)}.") from None
    for array, (name, axes) in zip(found, n_axes.items(), strict=True):
        if array.ndim != axes or not len(array) or not np.isfinite(array).all():
            raise BundleError(f"{file} holds no finite table of {name}. Got shape {array.shape}.")
    return found


@dataclass(frozen=True)
class Centroids:
    """Points, each of a cluster; a cluster that is no ball has several.

    Attributes:
        centres: Shape (n_points, n_features), in the units that the preparation gives.
        owners: The cluster of each point; empty where each has one of its own.
    """

    centres: Array
    owners: tuple[int, ...] = ()

    FILE: ClassVar[str] = "centroids.json"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The centroids that `to_dict` described.

        Raises:
            BundleError: the centres are no table of numbers, or do not fit their clusters.
        """
        (centres,) = tables(data, cls.FILE, centres=2)
        owners = tuple(data.get("owners", ()))
        if owners and (len(owners) != len(centres) or set(owners) != set(range(max(owners) + 1))):
            raise BundleError(f"{cls.FILE}: {len(owners)} owners of {len(centres)} centres, or one is left out.")
        return cls(centres, owners)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"centres": self.centres.tolist(), "owners": list(self.owners)}

    def __len__(self) -> int:
        return max(self.owners) + 1 if self.owners else len(self.centres)

    @property
    def n_features(self) -> int:
        """Columns that a row must have."""
        return int(self.centres.shape[1])

    def distances(self, x: Array) -> Array:
        """Euclidean distance of every row to the nearest point of every cluster, shape (n_rows, n_clusters).

        The terms are added in the order of the columns, so that one row alone gives the bits it gives among many.
        """
        out = np.empty((len(x), len(self)))
        distances_to(rows_of(x, self.n_features), *self.points, out)
        return out

    @cached_property
    def points(self) -> tuple[Array, NDArray[np.int64]]:
        """Centres and their owners, as the loop takes them."""
        return np.ascontiguousarray(self.centres), np.array(self.owners or range(len(self.centres)), np.int64)

    def confidence(self, distances: Array) -> Array:
        """How much nearer the nearest is: second / (nearest + second): 0.5 between two, 1 at the centre."""
        sure = np.empty(len(distances))
        confidence_of(distances, sure)
        return sure


@compiled
def distances_to(x: Array, centres: Array, owners: NDArray[np.int64], out: Array) -> None:
    """Of every row to the nearest centre of every owner."""
    for row in range(x.shape[0]):
        out[row] = np.inf
        for centre in range(centres.shape[0]):
            total = 0.0
            for column in range(x.shape[1]):
                gap = x[row, column] - centres[centre, column]
                total += gap * gap
            far = np.sqrt(total)
            if far < out[row, owners[centre]]:
                out[row, owners[centre]] = far


@compiled
def confidence_of(distances: Array, sure: Array) -> None:
    """Of every row: second / (nearest + second)."""
    for row in range(len(sure)):
        first, second = np.inf, np.inf
        for cluster in range(distances.shape[1]):
            far = distances[row, cluster]
            second = min(second, max(first, far))
            first = min(first, far)
        total = first + second
        sure[row] = 1.0 if distances.shape[1] < 2 else second / total if total > 0 else 0.5


@dataclass(frozen=True)
class Mixture:
    """What a row costs in each component: bias + weights . x + |factors (x - means)|^2, minus a log density.

    Attributes:
        bias: Shape (k,).
        weights: Shape (k, n_features); a Markov chain's minus log chances of each move.
        means: Shape (k, n_features).
        factors: Shape (k, n_factors, n_features): a Gaussian's, so that their squares are half the Mahalanobis
            distance; none for a Markov chain.
    """

    bias: Array
    weights: Array
    means: Array
    factors: Array

    FILE: ClassVar[str] = "mixture.json"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The mixture that `to_dict` described.

        Raises:
            BundleError: its tables are none, or do not fit each other.
        """
        bias, weights, means, factors = tables(data, cls.FILE, bias=1, weights=2, means=2, factors=3)
        k, n = weights.shape
        if len(bias) != k or means.shape != (k, n) or factors.shape[::2] != (k, n):
            shapes = ", ".join(str(each.shape) for each in (bias, weights, means, factors))
            raise BundleError(f"{cls.FILE}: bias, weights, means and factors of shapes {shapes} do not fit.")
        return cls(bias, weights, means, factors)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {name: array.tolist() for name, array in vars(self).items()}

    def __len__(self) -> int:
        return len(self.bias)

    @property
    def n_features(self) -> int:
        """Columns that a row must have."""
        return int(self.weights.shape[1])

    def distances(self, x: Array) -> Array:
        """Minus the logarithm of each component's probability given the row, shape (n_rows, k); 0 is certainty."""
        out = np.empty((len(x), len(self)))
        _surprise(rows_of(x, self.n_features), self.bias, self.weights, self.means, self.factors, out)
        return out

    def confidence(self, distances: Array) -> Array:
        """The probability of the likeliest component."""
        return np.asarray(np.exp(-distances.min(axis=1)))


@compiled
def _surprise(x: Array, bias: Array, weights: Array, means: Array, factors: Array, out: Array) -> None:
    for row in range(x.shape[0]):
        least = np.inf
        for k in range(len(bias)):
            cost = bias[k]
            for column in range(x.shape[1]):
                cost += weights[k, column] * x[row, column]
            for factor in range(factors.shape[1]):
                part = 0.0
                for column in range(x.shape[1]):
                    part += factors[k, factor, column] * (x[row, column] - means[k, column])
                cost += part * part
            out[row, k] = cost
            least = min(least, cost)
        total = 0.0
        for k in range(len(bias)):
            total += math.exp(least - out[row, k])
        for k in range(len(bias)):
            out[row, k] += math.log(total) - least
