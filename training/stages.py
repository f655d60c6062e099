"""Stages: what a fitted preparation does to rows, with arrays and compiled loops alone; a request runs these."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Ints, compiled

Array = NDArray[np.float64]
Learned = Mapping[str, Array]

VALUE, MISSING, OTHER = range(3)
"""What a column of `one_hot` stands for."""


@dataclass(frozen=True)
class Stage:
    """A fitted step.

    Attributes:
        step: Its name.
        columns: What it takes.
        outputs: What it gives: the same names in the same places, or others behind the columns it does not take.
        learned: Plain numbers.
    """

    step: str
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    learned: Learned

    def after(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The columns there are behind this stage."""
        if self.outputs == self.columns:
            return names
        return (*(name for name in names if name not in self.columns), *self.outputs)

    def apply(self, values: Array, names: tuple[str, ...]) -> Array:
        """The values behind this stage, columns as in `after(names)`; each row depends on itself alone."""
        change = CHANGES[self.step]
        if self.columns == names:
            return change(values, self.learned)
        places = [names.index(name) for name in self.columns]
        changed = change(values[:, places], self.learned)
        if self.outputs != self.columns:
            return np.concatenate([np.delete(values, places, axis=1), changed], axis=1)
        values = values.copy()
        values[:, places] = changed
        return values


def filled(values: Array, learned: Learned) -> Array:
    """No value is missing any more; those that are there stay."""
    values = np.ascontiguousarray(values)
    out = np.empty_like(values)
    (fill,) = _each(values, learned, "fill")
    _filled(values, fill, out)
    if "column" in learned:
        column, others = learned["column"].astype(np.int64), learned["others"].astype(np.int64)
        weights, bias, low, high = (learned[name] for name in ("weights", "bias", "low", "high"))
        _chained(values, column, others, weights, bias, low, high, out)
    return out


def _each(values: Array, learned: Learned, *names: str) -> tuple[Array, ...]:
    """What was learned of each column, or a ValueError: the loops look at no bounds."""
    found = tuple(learned[name] for name in names)
    if any(each.shape != values.shape[1:] for each in found):
        raise ValueError(f"{names[0]} of {found[0].shape} for {values.shape[1]} columns.")
    return found


def clipped(values: Array, learned: Learned) -> Array:
    """Within the ends; missing stays missing."""
    return np.clip(values, learned["low"], learned["high"])


def logarithms(values: Array, learned: Learned) -> Array:
    """sign(x) log(1 + |x|)."""
    out = np.empty(values.shape)
    _logarithms(np.ascontiguousarray(values), out)
    return out


def powers(values: Array, learned: Learned) -> Array:
    """Yeo and Johnson's powers; the logarithm where the exponent is 0."""
    size = np.log1p(np.abs(values))
    exponent = np.where(values >= 0, learned["power"], 2 - learned["power"])
    flat = np.abs(exponent) < np.finfo(np.float64).eps
    raised = np.where(flat, size, np.expm1(exponent * size) / np.where(flat, 1.0, exponent))
    return np.copysign(raised, values)


def scaled(values: Array, learned: Learned) -> Array:
    """The middle taken away, divided by the width."""
    out = np.empty(values.shape)
    middle, width = _each(values, learned, "middle", "width")
    _scaled(np.ascontiguousarray(values), middle, width, out)
    return out


def weighted(values: Array, learned: Learned) -> Array:
    """Weighted sums of the columns."""
    return linear(values, learned["weights"], learned["bias"])


def encoded(values: Array, learned: Learned) -> Array:
    """The code of an autoencoder: two layers."""
    hidden = np.tanh(linear(values, learned["hidden"], learned["hidden_bias"]))
    return np.tanh(linear(hidden, learned["weights"], learned["bias"]))


def hot(values: Array, learned: Learned) -> Array:
    """Zeros, and ones where a column has the value."""
    place, kind = learned["column"].astype(np.int64), learned["kind"]
    taken = values[:, place]
    ones = (taken == learned["value"]) & (kind == VALUE) | np.isnan(taken) & (kind == MISSING)
    for other in np.flatnonzero(kind == OTHER):
        known = ones[:, place == place[other]].any(axis=1)
        ones[:, other] = ~known & ~np.isnan(taken[:, other])
    out: Array = ones.astype(np.float64)
    return out


def hashed(values: Array, learned: Learned) -> Array:
    """Zeros, and a 1 or -1 per id; nothing for a missing one."""
    n, missing = int(learned["n"][0]), np.isnan(values)
    hashes = murmur(np.where(missing, 0.0, values).astype(np.int64))
    out = np.zeros((*values.shape, n))
    signs = np.where(missing, 0.0, np.where(hashes >= 0, 1.0, -1.0))
    np.put_along_axis(out, (np.abs(hashes.astype(np.int64)) % n)[..., None], signs[..., None], axis=-1)
    return out.reshape(len(values), -1)


CHANGES: Mapping[str, Callable[[Array, Learned], Array]] = {
    "impute": filled,
    "cap": clipped,
    "iqr": clipped,
    "log": logarithms,
    "power": powers,
    "standardise": scaled,
    "robust": scaled,
    "min_max": scaled,
    "smooth": weighted,
    "one_hot": hot,
    "hash": hashed,
    "pca": weighted,
    "autoencoder": encoded,
}
"""What each step does once it is fitted."""


def linear(x: Array, weights: Array, bias: Array) -> Array:
    """`x @ weights + bias`, added in the order of the columns: one row alone gives the bits it gives among many.

    Args:
        x: Shape (n_rows, n_in).
        weights: Shape (n_in, n_out).
        bias: Shape (n_out,).

    Raises:
        ValueError: the shapes do not fit.
    """
    if weights.shape != (x.shape[1], *bias.shape):
        raise ValueError(f"weights of shape {weights.shape} and {bias.shape} do not fit {x.shape[1]} columns.")
    out = np.empty((len(x), len(bias)))
    _linear(np.ascontiguousarray(x), np.ascontiguousarray(weights), bias, out)
    return out


@compiled
def _filled(values: Array, fill: Array, out: Array) -> None:
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            out[row, column] = fill[column] if np.isnan(value) else value


@compiled
def _logarithms(values: Array, out: Array) -> None:
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            out[row, column] = math.copysign(math.log1p(abs(value)), value)


@compiled
def _scaled(values: Array, middle: Array, width: Array, out: Array) -> None:
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            out[row, column] = (values[row, column] - middle[column]) / width[column]


@compiled
def _linear(x: Array, weights: Array, bias: Array, out: Array) -> None:
    for row in range(x.shape[0]):
        for to in range(bias.shape[0]):
            out[row, to] = bias[to]
        for column in range(x.shape[1]):
            value = x[row, column]
            for to in range(bias.shape[0]):
                out[row, to] += value * weights[column, to]


@compiled
def _chained(
    values: Array, column: Ints, others: Ints, weights: Array, bias: Array, low: Array, high: Array, out: Array
) -> None:
    """Each missing value of a column from `others` of its row, in the order in which the regressions were learned."""
    for row in range(values.shape[0]):
        for link in range(len(column)):
            to = column[link]
            if np.isnan(values[row, to]):
                total = bias[link]
                for place in range(others.shape[1]):
                    total += out[row, others[link, place]] * weights[link, place]
                out[row, to] = min(max(total, low[to]), high[to])


def murmur(ids: NDArray[np.int64]) -> NDArray[np.int32]:
    """MurmurHash3 (32 bits, seed 0) of each integer's eight bytes, the lowest first."""
    unsigned = ids.astype(np.uint64)
    words = ((unsigned & np.uint64(0xFFFFFFFF)).astype(np.uint32), (unsigned >> np.uint64(32)).astype(np.uint32))
    state = np.zeros(ids.shape, np.uint32)
    for word in words:
        state ^= _turned(word * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        state = _turned(state, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    state ^= np.uint32(8)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ (state >> np.uint32(shift))) * np.uint32(factor)
    return (state ^ (state >> np.uint32(16))).view(np.int32)


def _turned(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
