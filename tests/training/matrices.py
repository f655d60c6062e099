"""Feature matrices made in the tests."""

import numpy as np

from features.behaviour.matrix import FeatureMatrix


def matrix(values, names=None, *, users=None, at=0, fingerprint="f" * 16):
    """A matrix of these values."""
    values = np.asarray(values, np.float64)
    n = len(values)
    return FeatureMatrix(
        values,
        np.array([f"u{i}" for i in range(n)] if users is None else users, dtype=object),
        np.full(n, at, np.int64) if np.isscalar(at) else np.asarray(at, np.int64),
        tuple(names or [f"f{i}" for i in range(values.shape[1])]),
        fingerprint,
        np.zeros(n, np.bool_),
    )
