"""Centroids: the nearest of a few points, by Euclidean distance over prepared features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.errors import BundleError
from training.assigner import Array, rows_of, tables


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
        owners = np.array(self.owners or range(len(self.centres)), np.int64)
        out = np.full((len(x), len(self)), np.inf)
        _distances(rows_of(x, self.n_features), np.ascontiguousarray(self.centres), owners, out)
        return out

    def confidence(self, distances: Array) -> Array:
        """How much nearer the nearest is: second / (nearest + second): 0.5 between two, 1 at the centre."""
        sure = np.empty(len(distances))
        _confidence(distances, sure)
        return sure


@compiled
def _distances(x: Array, centres: Array, owners: NDArray[np.int64], out: Array) -> None:
    for row in range(x.shape[0]):
        for centre in range(centres.shape[0]):
            total = 0.0
            for column in range(x.shape[1]):
                gap = x[row, column] - centres[centre, column]
                total += gap * gap
            far = np.sqrt(total)
            if far < out[row, owners[centre]]:
                out[row, owners[centre]] = far


@compiled
def _confidence(distances: Array, sure: Array) -> None:
    for row in range(len(sure)):
        first, second = np.inf, np.inf
        for cluster in range(distances.shape[1]):
            far = distances[row, cluster]
            second = min(second, max(first, far))
            first = min(first, far)
        total = first + second
        sure[row] = 1.0 if distances.shape[1] < 2 else second / total if total > 0 else 0.5
