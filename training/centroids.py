"""Centroids: the nearest of a few points, by squared Euclidean distance over prepared features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.errors import BundleError


@dataclass(frozen=True)
class Centroids:
    """The centres of clusters.

    Attributes:
        centres: Shape (n_clusters, n_features), float64, in the units that the preparation gives.
    """

    centres: NDArray[np.float64]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The centroids that `to_dict` described.

        Raises:
            BundleError: the centres are no table of numbers.
        """
        try:
            centres = np.array(data["centres"], np.float64)
        except (KeyError, TypeError, ValueError):
            raise BundleError("centroids.json holds no table of centres.") from None
        if centres.ndim != 2 or not centres.size or not np.isfinite(centres).all():
            raise BundleError(f"centroids.json holds no finite table of centres. Got shape {centres.shape}.")
        return cls(centres)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"centres": self.centres.tolist()}

    def __len__(self) -> int:
        return len(self.centres)

    def distances(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Euclidean distance of every row to every centre, shape (n_rows, n_clusters).

        The terms are added in the order of the columns, so that one row alone gives the bits it gives among many.
        """
        if x.ndim != 2 or x.shape[1] != self.centres.shape[1]:
            raise BundleError(f"the centroids need {self.centres.shape[1]} columns. Got an array of shape {x.shape}.")
        out = np.empty((len(x), len(self.centres)))
        _distances(np.ascontiguousarray(x, dtype=np.float64), np.ascontiguousarray(self.centres), out)
        return out

    @staticmethod
    def nearest(distances: NDArray[np.float64]) -> NDArray[np.int64]:
        """The nearest centre of each row; of equally near ones the first."""
        places: NDArray[np.int64] = distances.argmin(axis=1)
        return places


@compiled
def _distances(x: NDArray[np.float64], centres: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for row in range(x.shape[0]):
        for centre in range(centres.shape[0]):
            total = 0.0
            for column in range(x.shape[1]):
                gap = x[row, column] - centres[centre, column]
                total += gap * gap
            out[row, centre] = np.sqrt(total)
