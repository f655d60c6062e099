"""Mixture: how improbable it is that a row comes from each of a few distributions, Gaussian or of Markov chains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from features.behaviour.compiled import compiled
from features.errors import BundleError
from training.assigner import Array, rows_of, tables


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
