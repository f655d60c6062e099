"""Assigner: what a request asks of clusters: which one is nearest, and how surely; arrays and compiled loops alone."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

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
