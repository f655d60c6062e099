"""Stages: what a fitted preparation does to rows, with arrays and compiled loops alone; a request runs these."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Ints, compiled

Array = NDArray[np.float64]
Learned = Mapping[str, Array]

KEEP, FILL, CLIP, LOG, SCALE = range(5)
COLUMNWISE: Mapping[str, tuple[Any, ...]] = {
    "impute": (FILL, "fill"),
    "cap": (CLIP, "low", "high"),
    "iqr": (CLIP, "low", "high"),
    "log": (LOG,),
    "standardise": (SCALE, "middle", "width"),
    "robust": (SCALE, "middle", "width"),
    "min_max": (SCALE, "middle", "width"),
}
"""What these steps do to a value by itself, and the names of what they learned for it.

`log` is sign(x) log(1 + |x|); `cap` leaves what is missing; scaling takes the middle away and divides by the width.
"""

VALUE, MISSING, OTHER = range(3)
"""What a column of `one_hot` stands for."""


@dataclass(frozen=True)
class Columns:
    """Steps that change each column by itself, one after the other: `COLUMNWISE`.

    Attributes:
        kinds: Shape (n_steps, n_columns): what each step does to each column.
        first: The same shape: what was learned of it.
        second: The same.
    """

    kinds: Ints
    first: Array
    second: Array

    def __call__(self, values: Array) -> Array:
        """The values behind the steps, shape (n_rows, n_columns)."""
        if values.shape[1] != self.kinds.shape[1]:
            raise ValueError(f"{self.kinds.shape[1]} columns are prepared, not {values.shape[1]}.")
        out = np.empty(values.shape)
        columnwise(np.ascontiguousarray(values), self.kinds, self.first, self.second, out)
        return out

    def then(self, other: "Columns") -> "Columns":
        """These steps and, behind them, others."""
        first, second = (
            np.concatenate([getattr(each, name) for each in (self, other)]) for name in ("first", "second")
        )
        return Columns(np.concatenate([self.kinds, other.kinds]), first, second)


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
        if columns := self.columnwise(names):
            return columns(values)
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

    def columnwise(self, names: tuple[str, ...]) -> Columns | None:
        """The stage as steps of a loop, where it looks at one value at a time; columns that it does not take stay."""
        if self.step not in COLUMNWISE or "column" in self.learned:
            return None
        mine = alone(self.step, self.learned, len(self.columns))
        if self.columns == names:
            return mine
        places = [names.index(name) for name in self.columns]
        kinds, first, second = np.zeros((1, len(names)), np.int64), *np.zeros((2, 1, len(names)))
        kinds[:, places], first[:, places], second[:, places] = mine.kinds, mine.first, mine.second
        return Columns(kinds, first, second)


def alone(step: str, learned: Learned, n_columns: int) -> Columns:
    """One step of all columns, or a ValueError: the loop looks at no bounds."""
    kind, *names = COLUMNWISE[step]
    found = [learned[name] for name in names]
    if any(each.shape != (n_columns,) for each in found):
        raise ValueError(f"{names[0]} of {found[0].shape} for {n_columns} columns.")
    first, second = (found * 2)[:2] if found else (np.zeros(n_columns), np.zeros(n_columns))
    return Columns(np.full((1, n_columns), kind), first[None], second[None])


def filled(values: Array, learned: Learned) -> Array:
    """No value is missing any more; those that are there stay."""
    values = np.ascontiguousarray(values)
    out = alone("impute", learned, values.shape[1])(values)
    column, others = learned["column"].astype(np.int64), learned["others"].astype(np.int64)
    weights, bias, low, high = (learned[name] for name in ("weights", "bias", "low", "high"))
    _chained(values, column, others, weights, bias, low, high, out)
    return out


def powers(values: Array, learned: Learned) -> Array:
    """Yeo and Johnson's powers; the logarithm where the exponent is 0."""
    size = np.log1p(np.abs(values))
    exponent = np.where(values >= 0, learned["power"], 2 - learned["power"])
    flat = np.abs(exponent) < np.finfo(np.float64).eps
    raised = np.where(flat, size, np.expm1(exponent * size) / np.where(flat, 1.0, exponent))
    return np.copysign(raised, values)


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
    "power": powers,
    "smooth": weighted,
    "one_hot": hot,
    "hash": hashed,
    "pca": weighted,
    "autoencoder": encoded,
}
"""What the steps do, once they are fitted, that look at more than one value or at none of the compiled ways."""


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
def columnwise(values: Array, kinds: Ints, first: Array, second: Array, out: Array) -> None:
    """Every step of a column on one value after the other: a request's row is walked through once."""
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value = values[row, column]
            for step in range(kinds.shape[0]):
                kind, one, other = kinds[step, column], first[step, column], second[step, column]
                if kind == FILL:
                    value = one if np.isnan(value) else value
                elif kind == CLIP:
                    value = value if np.isnan(value) else min(max(value, one), other)
                elif kind == LOG:
                    value = math.copysign(math.log1p(abs(value)), value)
                elif kind == SCALE:
                    value = (value - one) / other
            out[row, column] = value


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
