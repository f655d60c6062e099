"""Scaling: transforms of single columns: logarithm, power, and three ways to one size."""

from typing import Literal

import numpy as np

from training.stages import Array
from training.step import Lesson, Step, present, some


class Log(Step):
    """`log`: sign(x) log(1 + |x|)."""

    step: Literal["log"] = "log"

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """Nothing."""
        return Lesson({})


class Power(Step):
    """`power`: the exponent per column that brings it nearest to a normal distribution (Yeo and Johnson 2000)."""

    step: Literal["power"] = "power"

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """The exponents; 1, which changes nothing, where a column is constant."""
        return Lesson({"power": np.array([_exponent(present(column)) for column in some(values).T])})


def _exponent(seen: Array) -> float:
    from sklearn.preprocessing import PowerTransformer

    if not len(seen) or _constant(seen):
        return 1.0
    return float(PowerTransformer(method="yeo-johnson", standardize=False).fit(seen[:, None]).lambdas_[0])


class Scale(Step):
    """A step that takes the middle away and divides by the width."""

    def learn(self, values: Array, names: tuple[str, ...]) -> Lesson:
        """Middle and width; a column without width is not divided."""
        seen = [present(column) for column in values.T]
        sizes = [self._size(column) if len(column) else (0.0, 0.0) for column in seen]
        middle, width = np.array(sizes).reshape(-1, 2).T
        divided = np.array([len(column) > 0 and not _constant(column) for column in seen]) & (width > 0)
        return Lesson({"middle": middle, "width": np.where(divided, width, 1.0)})

    def _size(self, seen: Array) -> tuple[float, float]:
        """Middle and width."""
        raise NotImplementedError


class Standardise(Scale):
    """`standardise`: mean 0 and standard deviation 1 on the training rows."""

    step: Literal["standardise"] = "standardise"

    def _size(self, seen: Array) -> tuple[float, float]:
        return float(seen.mean()), float(seen.std())


class Robust(Scale):
    """`robust`: median 0 and interquartile range 1 on the training rows."""

    step: Literal["robust"] = "robust"

    def _size(self, seen: Array) -> tuple[float, float]:
        return float(np.median(seen)), float(np.quantile(seen, 0.75) - np.quantile(seen, 0.25))


class MinMax(Scale):
    """`min_max`: 0 is the least and 1 the greatest value of the training rows; served ones may lie beyond."""

    step: Literal["min_max"] = "min_max"

    def _size(self, seen: Array) -> tuple[float, float]:
        return float(seen.min()), float(seen.max() - seen.min())


def _constant(seen: Array) -> bool:
    """Whether what varies is rounding alone (the bound of scikit-learn's scalers, after Chan, Golub and LeVeque)."""
    mean, variance, eps = float(seen.mean()), float(seen.var()), float(np.finfo(np.float64).eps)
    return variance <= len(seen) * eps * variance + (len(seen) * mean * eps) ** 2
